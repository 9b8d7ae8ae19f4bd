"""What fit makes of SLURM's environment, without a SLURM."""

import json
from types import SimpleNamespace

import pytest

from lit_faces import fit, slurm
from lit_faces.arguments import UsageError
from lit_faces.callbacks import requeue

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
    assert fit._Plan(["small.yaml", "--resume", older]).resume == older, "nothing since"
    leave_checkpoint(run, "last.ckpt")
    assert fit._Plan(["small.yaml", "--resume", older]).resume == str(run)
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert fit._Plan(["small.yaml", "--resume", older]).resume == older, "the job's first start does as it was told"


def test_a_job_does_not_take_another_command_for_its_own(job, capsys) -> None:
    run = job / "slurm-77"
    run.mkdir(parents=True)
    (run / "results.json").write_text(json.dumps({"run/command": fit._Plan(["small.yaml"]).command}))
    assert fit.main(["small.yaml"]) == 0 and "done before" in capsys.readouterr().out
    assert fit.main(["small.yaml", "--trainer.max_epochs", "2"]) == 2
    assert "give each of its commands a --name" in capsys.readouterr().err


@pytest.mark.parametrize(("mine", "asked"), [(21, [0, 10]), (20, [0, 10])])
def test_ranks_agree_only_where_all_have_a_batch(mine: int, asked: list[int], monkeypatch) -> None:
    monkeypatch.setattr(requeue, "gather", lambda value: [[21.0], [20.0]])
    monkeypatch.setattr(requeue.signal, "signal", lambda *_: None)
    monkeypatch.setattr(requeue.Requeue, "_agree", lambda self, trainer, batch, save: found.append(batch))
    found: list[int] = []
    callback = requeue.Requeue(None, signals=slurm.Signals())  # type: ignore[arg-type]
    trainer = SimpleNamespace(num_test_batches=[mine], num_val_batches=[mine], sanity_checking=False)
    for start, end in (
        (callback.on_test_start, callback.on_test_batch_end),
        (callback.on_validation_start, callback.on_validation_batch_end),
    ):
        found.clear()
        start(trainer, None)  # type: ignore[arg-type]
        for batch in range(mine):
            end(trainer, None, None, None, batch)  # type: ignore[arg-type]
        assert [batch for batch in found if batch % 10 == 0] == asked and max(found) == 19
