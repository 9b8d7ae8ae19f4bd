"""A SLURM of two nodes on this machine: munge, the controller and two node daemons, all on the loopback interface."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
_CONFIGURATION = """
ClusterName=litfaces
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={run}/munge.sock,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=10
MinJobAge=600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
GresTypes=gpu
NodeName=n[0-1] NodeHostname={host} NodeAddr=127.0.0.1 Port={first}-{last} CPUs=32 RealMemory={memory} Gres=gpu:4 State=UNKNOWN
PartitionName=debug Nodes=n[0-1] Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    absent = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if absent:
        return f"no SLURM here ({absent[0]} is missing): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "starting SLURM's daemons takes root"


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    """Consecutive free ports."""
    for first in range(16817, 26817, count + 3):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(range(first, first + count))
    raise RuntimeError("no free ports")


@dataclass
class Job:
    """What ``scontrol show job`` says of a job."""

    state: str
    restarts: int
    text: str


class Cluster:
    """Starts in ``folder``; :meth:`stop` ends every daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        for name in ("state", "spool/n0", "spool/n1", "run", "munge"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.parents):  # munge wants every folder above its socket to be searchable
            if path.stat().st_uid == os.geteuid() and path != Path("/tmp"):
                path.chmod(0o755)
        (folder / "munge").chmod(0o700)
        self.environment = {
            **os.environ,
            "PATH": _path(),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",  # n0 and n1 are names, not hosts
            "GLOO_SOCKET_IFNAME": "lo",
        }
        key = folder / "munge" / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        controller, first, last = _free_ports(3)
        memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024 * 9 // 10
        place = {"host": socket.gethostname().partition(".")[0], "run": self.run, "folder": folder, "memory": memory}
        text = _CONFIGURATION.format(**place, port=controller, first=first, last=last)
        (folder / "slurm.conf").write_text(text)
        for number in range(4):  # "devices": nothing opens them
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"NodeName=n[0-1] Name=gpu File={folder}/gpu[0-3]\n")
        self.run.chmod(0o755)
        try:
            self._start(key)
        except Exception:
            self.stop()
            raise

    def _start(self, key: Path) -> None:
        folder = self.folder
        self.call(
            "munged", "--force", f"--key-file={key}", f"--socket={self.run}/munge.sock",
            f"--pid-file={self.run}/munged.pid", f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed",
        )  # fmt: skip
        self.call("slurmctld")
        for node in ("n0", "n1"):
            self.call("slurmd", "-N", node)
        self.wait(lambda: self.call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() == ["n0", "n1"], 30, "nodes")

    def call(self, *command: str, **environment: str) -> str:
        """Run a command of SLURM; what it printed."""
        done = subprocess.run(
            command, env={**self.environment, **environment}, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, where: Path, *arguments: str, **environment: str) -> str:
        """``sbatch`` in a folder; the job's number."""
        where.mkdir(parents=True, exist_ok=True)
        return self.call("sbatch", "--parsable", f"--chdir={where}", *arguments, **environment).strip()

    def job(self, number: str) -> Job:
        """How a job is doing."""
        text = self.call("scontrol", "show", "job", number)
        found = [re.search(pattern, text) for pattern in (r"JobState=(\w+)", r"Restarts=(\d+)")]
        if None in found:
            raise RuntimeError(text)
        state, restarts = (match[1] for match in found if match)
        return Job(state, int(restarts), text)

    def states(self, number: str) -> list[str]:
        """State of each member of a job array."""
        return re.findall(r"JobState=(\w+)", self.call("scontrol", "show", "job", number))

    def wait(self, condition, seconds: float, what: str) -> None:
        """Wait until it holds.

        Raises:
            TimeoutError: it did not, in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.2)
        raise TimeoutError(f"{what}: not within {seconds:.0f} s")

    def finish(self, number: str, seconds: float = 240) -> list[str]:
        """Wait for the end of a job or an array; its states."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        self.wait(lambda: set(self.states(number)) <= over, seconds, f"job {number}")
        return self.states(number)

    def stop(self) -> None:
        """End the jobs, then the daemons."""
        subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True)
        for name in ("slurmd.n1", "slurmd.n0", "slurmctld", "munged"):
            file = self.run / f"{name}.pid"
            if not file.is_file():
                continue
            pid = int(file.read_text())
            for attempt in range(100):
                try:
                    os.kill(pid, signal.SIGTERM if attempt < 60 else signal.SIGKILL)
                except ProcessLookupError:
                    break
                time.sleep(0.1)
