"""Files that appear whole or not at all; locks; what is removed and what is not."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lit_faces.core import files
from lit_faces.core.files import (
    BusyError,
    claim_folder,
    is_lock,
    locked,
    remove_listed,
    remove_stale,
    replace_file,
    replacing,
    reserve,
)

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, for whoever it is: no file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- one file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    replace_file(path, b"first")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        _interrupted(temporary)
    assert path.read_bytes() == b"first" and names(path.parent) == ["a.txt"]
    replace_file(path, b"second")
    assert path.read_bytes() == b"second" and names(path.parent) == ["a.txt"]


def _interrupted(temporary: Path) -> None:
    temporary.write_bytes(b"sec")
    raise KeyboardInterrupt


def test_a_full_disk_names_the_file_and_leaves_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    replace_file(path, b"first")
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large") as caught:
        replace_file(path, bytes(5000))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"first" and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "x." + "y" * 253, "." * 3 + "z", "x" * 251 + ".png"])
def test_any_name_that_the_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    replace_file(tmp_path / name, b"1")
    assert names(tmp_path) == [name]


def test_the_temporary_file_has_the_ending_that_writers_choose_the_format_by(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.webm") as temporary:
        assert temporary.suffix == ".webm" and temporary.name.startswith(".") and temporary.parent == tmp_path
        temporary.write_bytes(b"1")


def test_permissions_follow_the_umask_and_then_stay(tmp_path: Path) -> None:
    path, before = tmp_path / "a", os.umask(0o027)
    try:
        replace_file(path, b"1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        replace_file(path, b"2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big" / "file")
    for content in (b"1", b"2"):  # first it leads nowhere
        replace_file(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "big" / "file").read_bytes() == content
    assert names(tmp_path / "big") == ["file"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, code in (("folder", errno.EISDIR), ("pipe", errno.EINVAL), ("circle", errno.ELOOP)):
        with pytest.raises(OSError, match=name) as caught:
            replace_file(tmp_path / name, b"1")
        assert caught.value.errno == code
    with pytest.raises(OSError, match="/dev/null"):
        replace_file("/dev/null", b"1")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_what_killed_processes_leave_is_cleaned_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from lit_faces.core.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'1'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], cwd=ROOT, check=False)
    (left,) = names(tmp_path)
    assert left.startswith(".a.") and left.endswith(".txt")
    (tmp_path / ".mine.tmp").write_bytes(b"a user's")
    with replacing(tmp_path / "b.txt") as living:
        living.write_bytes(b"2")
        elsewhere = tmp_path / f".c.elsewhere.{2**22 + 1}.0123abcd.tmp.txt"
        elsewhere.write_bytes(b"3")
        assert remove_stale(tmp_path) == [left]
        assert living.exists() and elsewhere.exists()
    os.utime(elsewhere, (0, 0))
    assert remove_stale(tmp_path) == [elsewhere.name]
    assert names(tmp_path) == [".mine.tmp", "b.txt"]


@pytest.mark.parametrize("obeys", [True, False], ids=["posix_fallocate", "byte by byte"])
def test_room_is_taken_before_it_is_needed(tmp_path: Path, obeys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not obeys:

        def refuse(*_: int) -> None:
            raise OSError(errno.ENOTSUP, "not supported")

        monkeypatch.setattr(files.os, "posix_fallocate", refuse)
    path = tmp_path / "a.bin"
    with path.open("wb") as handle:
        handle.write(b"kept")
        handle.truncate(100_000)  # a hole
    reserve(path, 100_001)
    assert path.stat().st_size == 100_001 and path.stat().st_blocks * 512 >= 100_000
    assert path.read_bytes() == b"kept" + bytes(99_997)
    with files_of_at_most(200_000), pytest.raises(OSError, match="File too large") as caught:
        reserve(path, 300_000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))


# -- what is ours -----------------------------------------------------------------------------------------------------


def test_only_what_is_listed_is_removed(tmp_path: Path) -> None:
    for name in ("a", "sub/b", "sub/deep/c", "full/d", "full/mine", "mine"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert remove_listed(tmp_path, ["a", "sub/b", "gone", "sub/deep/c", "full/d"]) == [
        "a",
        "sub/b",
        "sub/deep/c",
        "full/d",
    ]
    assert names(tmp_path) == ["full", "mine"] and names(tmp_path / "full") == ["mine"]


@pytest.mark.parametrize(
    "name", ["../outside", "sub/../../outside", "", ".", "/etc/hostname", "link", "behind/file", "sub", "a\0b", 7, None]
)
def test_a_list_that_leads_elsewhere_removes_nothing(tmp_path: Path, name: object) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for path in (outside, folder / "a", tmp_path / "other" / "file"):
        path.write_text("1")
    (folder / "link").symlink_to(outside)
    (folder / "behind").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match="nothing was removed"):
        remove_listed(folder, ["a", name])  # type: ignore[list-item]  # read from a file
    assert (folder / "a").exists() and outside.exists() and (tmp_path / "other" / "file").exists()


def test_two_claims_give_two_folders(tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(claim_folder(tmp_path / "run"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8 and (tmp_path / "run.8").is_dir()


# -- locks ------------------------------------------------------------------------------------------------------------

HOLD = (
    "import sys, time; from lit_faces.core.files import locked\n"
    "with locked(sys.argv[1], 'hold'):\n"
    "    print('mine', flush=True); time.sleep(60)"
)


def test_a_lock_refuses_another_process_and_falls_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "mine\n"
        with pytest.raises(BusyError, match=rf"another process is at work there \(hold, process {holder.pid} on "):
            locked(tmp_path, "me").__enter__()
        ended = threading.Timer(0.3, holder.send_signal, (signal.SIGKILL,))
        ended.start()
        began = time.monotonic()
        with locked(tmp_path, "me", wait=True):
            assert 0.2 < time.monotonic() - began < 10
    finally:
        holder.kill()
        holder.wait()
    assert [name for name in names(tmp_path) if not is_lock(name)] == []


def test_a_lock_does_not_wait_for_itself(tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(tmp_path / "a")
    with locked(tmp_path / "a", "outer"):
        with locked(tmp_path / "same", "inner", wait=True):
            pass
        caught: list[BaseException] = []

        def other() -> None:
            try:
                with locked(tmp_path / "a", "thread"):
                    pass
            except BusyError as error:
                caught.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "outer" in str(caught[0]), "the inner block has not let go"
    with locked(tmp_path / "a", "again"):
        pass


def test_a_lock_that_is_left_behind_means_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("hold, process 1 on elsewhere")
    (tmp_path / ".lock.by").write_text("hold, process 1 on elsewhere")
    with locked(tmp_path, "me"):
        pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path, "me"):
        raise ZeroDivisionError
    with locked(tmp_path, "me"):
        pass
