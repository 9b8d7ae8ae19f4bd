"""What fit makes of SLURM's environment, without a SLURM."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_faces import slurm
from lit_faces.arguments import UsageError
from lit_faces.callbacks import leaving
from lit_faces.core.signals import Signals
from lit_faces.reports.tracking import default_wandb_mode
from lit_faces.runs import folder
from lit_faces.runs.plan import Plan

TASK = {
    "SLURM_JOB_ID": "77", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3", "SLURM_JOB_NAME": "lit_faces", "MASTER_ADDR": "127.0.0.1",
}  # fmt: skip


def without(*names: str, **more: str) -> dict[str, str]:
    return {key: value for key, value in {**TASK, **more}.items() if key not in names}


def test_devices_follow_the_tasks_unless_typed() -> None:
    assert slurm.layout(1, 1, environment=TASK) == {"devices": 4, "num_nodes": 2}
    assert slurm.layout("auto", 2, environment=TASK) == {"devices": 4, "num_nodes": 2}
    assert slurm.layout(4, 2, typed=True, environment=TASK) == {"devices": 4, "num_nodes": 2}
    assert slurm.layout(1, 1, typed=True, environment=without(SLURM_NTASKS="1")) == {}


@pytest.mark.parametrize(
    ("environment", "devices", "typed", "message"),
    [
        (TASK, 1, True, "make --ntasks-per-node equal to devices"),
        (TASK, 2, False, r"trainer.devices is 2, but SLURM started 8 tasks on 2 nodes \(4 a node\)"),
        (without("SLURM_STEP_ID"), 1, False, "write `srun python"),
        (without(SLURM_JOB_NAME="interactive"), 1, False, "--job-name=lit_faces"),
        (without("SLURM_NTASKS_PER_NODE"), 1, False, "say `#SBATCH --ntasks-per-node=N`"),
        (without("MASTER_ADDR", SLURM_JOB_NODELIST="no-such-node-[3-4]"), 1, False, "export MASTER_ADDR"),
    ],
)
def test_what_cannot_work_is_said_with_the_fix(environment: dict, devices: int, typed: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        slurm.layout(devices, 1, typed, environment)


def test_a_member_of_an_array_has_its_own_name() -> None:
    assert slurm.job_id(TASK) == "77"
    assert slurm.job_id({**TASK, "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "5"}) == "70_5"
    assert slurm.is_rank_zero({}) and not slurm.is_rank_zero(TASK) and not slurm.in_job({})


def test_a_run_has_one_folder_for_all_tasks_and_after_a_requeue() -> None:
    assert slurm.run_name(TASK) == "slurm-77"
    assert slurm.run_name({**TASK, "SLURM_STEP_ID": "2"}) == "slurm-77-2", "the third srun of a script"
    assert slurm.run_name({**TASK, "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "5"}) == "slurm-70_5"
    alone = without("SLURM_STEP_ID", "SLURM_PROCID")
    assert slurm.run_name({**alone, "ENVIRONMENT": "BATCH"}) == "slurm-77", "a batch script without srun"
    assert slurm.run_name(alone) is None, "the shell of salloc"
    assert slurm.was_requeued({"SLURM_RESTART_COUNT": "1"}) and not slurm.was_requeued({})


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A requeued job of one task in a folder with an experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("trainer: {max_epochs: 1}\n")
    for key, value in without(SLURM_NTASKS="1", SLURM_RESTART_COUNT="1").items():
        monkeypatch.setenv(key, value)
    return tmp_path / "runs" / "small"


def leave_checkpoint(run, name: str) -> str:
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints" / name).touch()
    return str(run / "checkpoints" / name)


def test_what_was_reached_since_counts_more_than_an_older_checkpoint_to_go_on_from(job, monkeypatch) -> None:
    run = job / "20260101-000000"
    older = leave_checkpoint(run, "older.ckpt")
    assert Plan(["small.yaml", "--resume", older]).resume == Path(older), "nothing since"
    leave_checkpoint(run, "last.ckpt")
    assert Plan(["small.yaml", "--resume", older]).resume == run
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert Plan(["small.yaml", "--resume", older]).resume == Path(older), "the job's first start does as it was told"


def plan_of(*words: str) -> Plan:
    """What fit makes of the words, and the folder that it takes."""
    plan = Plan(["small.yaml", *words])
    folder.sign(plan.root, plan.command)
    return plan


def test_each_command_of_a_shell_in_a_job_has_its_own_folder(job, monkeypatch) -> None:
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    first = plan_of()
    leave_checkpoint(first.root, "last.ckpt")
    again, other = plan_of(), plan_of("--trainer.max_epochs", "2")
    assert [plan.root.name for plan in (first, again, other)] == ["slurm-77", "slurm-77.2", "slurm-77.3"]
    assert again.resume is None and not again.done, "typed again: another run"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert plan_of("--trainer.max_epochs", "2").root.name == "slurm-77.3", "requeued: each its own"
    assert plan_of().resume == first.root and not plan_of().done
    (first.root / "results.json").write_text("{}")
    assert Plan(["small.yaml"]).done


def test_two_commands_of_one_step_of_several_tasks_need_names(job, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    first = plan_of()
    assert plan_of().root == first.root, "another task of the same"
    with pytest.raises(UsageError, match="give each of its commands a --name"):
        plan_of("--trainer.max_epochs", "2")
    assert plan_of("--trainer.max_epochs", "2", "--name", "longer").root.parent.name == "longer"


def test_a_folder_where_another_job_is_at_work_is_left_alone(job, monkeypatch) -> None:
    run = plan_of().root
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    monkeypatch.setattr(slurm, "in_queue", lambda number: number == "77")
    with pytest.raises(UsageError, match="job 77 is still at work there"):
        plan_of("--resume", str(run))
    monkeypatch.setattr(slurm, "in_queue", lambda number: False)
    assert plan_of("--resume", str(run)).root == run and (run / "job.txt").read_text() == "78"
    assert (run / "command.txt").read_text() == Plan(["small.yaml"]).command, "what it is, not how it was resumed"


def test_wandb_is_offline_in_a_job_unless_told(job, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "of the login node")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert default_wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert default_wandb_mode() == "online"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert default_wandb_mode() == "online", "at home, whoever is logged in"


def test_agreements_come_every_few_seconds_of_the_slowest_rank(monkeypatch) -> None:
    now, asked, mine = [0.0], [], 0.5
    monkeypatch.setattr(leaving.time, "monotonic", lambda: now[0])

    def both(value):
        asked.append(now[0])
        return [value, (False, False, 1.0)]  # the other rank takes a second a batch

    monkeypatch.setattr(leaving, "gather", both)
    callback = leaving.Leaving(None, seconds=5.0, signals=Signals())  # type: ignore[arg-type]
    for batch in range(30):
        now[0] += mine
        callback.on_train_batch_end(None, None, None, None, batch)  # type: ignore[arg-type]
    assert asked == [0.5, 3.0, 5.5, 8.0, 10.5, 13.0], "after the first every five batches: five seconds there"


@pytest.mark.parametrize("mine", [21, 20])
def test_ranks_agree_only_where_all_have_a_batch(mine: int, monkeypatch) -> None:
    monkeypatch.setattr(leaving, "gather", lambda value: [[21.0], [20.0]])
    found: list[int] = []
    monkeypatch.setattr(leaving.Leaving, "_agree", lambda self, trainer, save: found.append(batch))
    callback = leaving.Leaving(None, signals=Signals())  # type: ignore[arg-type]
    trainer = SimpleNamespace(num_test_batches=[mine], num_val_batches=[mine], sanity_checking=False)
    for start, end in (
        (callback.on_test_start, callback.on_test_batch_end),
        (callback.on_validation_start, callback.on_validation_batch_end),
    ):
        found.clear()
        start(trainer, None)  # type: ignore[arg-type]
        for batch in range(mine):
            end(trainer, None, None, None, batch)  # type: ignore[arg-type]
        assert found == list(range(20))
