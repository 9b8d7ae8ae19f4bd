"""What fit makes of SLURM's environment, without a SLURM."""

import pytest

from lit_faces import slurm
from lit_faces.arguments import UsageError

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
