"""What every command does around its work."""

import errno

import pytest

from lit_faces.command import run_command


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: the disk is full"),
        (OSError(errno.EDQUOT, "Quota", "a/b"), "a/b: the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only", "a/b"), "a/b: the place is read-only"),
        (OSError(errno.EFBIG, "Too large", "a/b"), "a/b: the file would be larger"),
        (MemoryError(), "not enough memory: smaller batches"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), "not enough memory: smaller"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left"), "/dev/shm"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"), "/dev/shm"),
    ],
)
def test_disk_and_memory_are_one_line_and_code_2(
    error: Exception, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    assert run_command("it", work) == 2
    said = capsys.readouterr().err
    assert said.startswith("it: error: ") and says in said and said.count("\n") == 1


def test_a_bug_is_not_hidden() -> None:
    def work() -> None:
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index out of range"):
        run_command("it", work)
