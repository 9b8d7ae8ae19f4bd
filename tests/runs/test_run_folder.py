"""Run folders: new and one's own, or refused; cheap checks come before any work and leave nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_faces.arguments import UsageError
from lit_faces.core.files import BusyError
from lit_faces.fit import main
from lit_faces.runs.checkpoints import batches_done
from lit_faces.runs.folder import working_in
from lit_faces.runs.options import FLAGS, NAMES, OPTIONS, help_text
from lit_faces.runs.plan import Plan


def test_two_runs_that_start_in_one_second_have_two_folders(toy: Path, monkeypatch) -> None:
    monkeypatch.setattr("lit_faces.runs.folder.time.strftime", lambda _: "20260101-000000")
    first, second = Plan([str(toy), "--seed_everything", "1"]), Plan([str(toy), "--seed_everything", "2"])
    assert not (toy.parent / "runs").exists(), "nothing is made before a run wants its folder"
    assert first.root != second.root and first.root.is_dir() and second.root.is_dir()
    assert first.root == first.root


def test_other_ranks_learn_the_name_of_the_folder(toy: Path, monkeypatch) -> None:
    first = Plan([str(toy)]).root
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Plan([str(toy)]).root == first
    monkeypatch.delenv("LIT_FACES_RUN")
    with pytest.raises(UsageError, match="--rdzv_id"):
        _ = Plan([str(toy)]).root
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    assert Plan([str(toy)]).root.name == "torchrun-7"


def test_a_run_at_work_is_nobody_elses(tmp_path: Path) -> None:
    code = f"from lit_faces.runs.folder import working_in\nwith working_in({str(tmp_path)!r}, True): print('in', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    with pytest.raises(BusyError, match="another process is at work there"), working_in(tmp_path, True):
        pass
    with working_in(tmp_path, False):
        pass  # another rank of that training
    process.kill()
    process.wait()
    with working_in(tmp_path, True):
        pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--runs", "toy.yaml/x"], "toy.yaml is not a folder"),
        (["--name", "../elsewhere"], "--name '../elsewhere': expected the name of a folder below --runs"),
        (["--name", "/tmp"], "expected the name of a folder"),
        (["--checkpoint_every", "0"], "--checkpoint_every 0: expected 1 or more"),
        (["--checkpoint_every", "many"], "checkpoint_every: expected int"),
        (["--wandb", "of"], "--wandb of: expected auto, offline"),
        (["--test_only", "none.ckpt"], "--test_only none.ckpt: no such file"),
        (["--resume", "toy.yaml"], "expected a run's folder, or a checkpoint in its checkpoints/ folder"),
        (["--trainer.max_epochs", "-5"], "max_epochs"),
        (["--trainer.precision", "31-true"], "31-true"),
        (["--trainer.strategy", "magic"], "magic"),
        (["--trainer.devices", "500"], "trainer.devices: 500 processes on"),
        (["--trainer.devices", "0"], "trainer.devices: expected 1 or more"),
        (["--trainer.accelerator", "gpu"], "gpu"),
        (["--trainer.limit_val_batches", "-3"], "limit_val_batches"),
        (["--trainer.default_root_dir", "elsewhere"], "trainer.default_root_dir: not here: a run's folder is --runs"),
        (["--trainer.logger", "true"], "trainer.logger: metrics.csv and W&B"),
        (["--model.manual", "true", "--trainer.gradient_clip_val", "1"], "trainer.gradient_clip_val: Toy is optimised by hand"),
        (["--model.manual", "true", "--trainer.accumulate_grad_batches", "2"], "trainer.accumulate_grad_batches: Toy"),
        (["--optimizer", "Adam"], "unknown option --optimizer"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_anything_is_written(toy: Path, capsys, options, words) -> None:
    assert main([str(toy), *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1] and said[-1].startswith("python -m lit_faces.fit: error: ")
    assert not [line for line in said if "Traceback" in line]
    assert not (toy.parent / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.folder", "nowhere/disfa"], "nowhere/disfa: no such folder"),
        (["--data.batch_size", "0"], "batch_size"),
        (["--trainer.overfit_batches", "-1"], "overfit_batches"),
    ],
)
def test_an_error_of_data_or_trainer_is_one_line_that_names_it(toy: Path, capsys, options, words) -> None:
    assert main([str(toy), *options]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("options", [["--print_config"], ["--dry_run"]])
def test_a_look_at_the_experiment_makes_no_folder(toy: Path, capsys, options) -> None:
    if options == ["--print_config"]:  # jsonargparse leaves the process
        with pytest.raises(SystemExit) as left:
            main([str(toy), *options])
        assert left.value.code == 0
    else:
        assert main([str(toy), *options]) == 0
    assert "max_epochs: 3" in capsys.readouterr().out and not (toy.parent / "runs").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize(("options", "words"), [("size=200k", "the disk is full"), ("ro", "nothing can be written")])
def test_a_full_and_a_read_only_disk_are_one_line(toy: Path, capsys, options, words) -> None:
    place = toy.parent / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        if "size" in options:
            (place / "other").write_bytes(bytes(190 * 1024))
        assert main([str(toy), "--runs", str(place)]) == 2
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1] and not [line for line in said if "Traceback" in line]


def test_weights_alone_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights_only.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="there is no training state in it") as error:
        batches_done(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    torch.save({name: 0 for name in ("state_dict", "loops", "optimizer_states", "epoch", "global_step")}, path)
    with pytest.raises(ValueError, match="state_dict: expected"):
        batches_done(path)


def test_help_parser_and_completion_have_the_same_options() -> None:
    from lit_faces.cli import complete_parser

    verbs = next(action for action in complete_parser()._actions if action.dest == "verb")
    words = {option for action in verbs.choices["fit"]._actions for option in action.option_strings}
    said = help_text("lit-faces fit")
    for option in OPTIONS:
        assert f"--{option.name}" in words
        assert f"--{option.name}" in said or option.name in ("config", "help")
    assert set(FLAGS) == {"--fit_only", "--dry_run"} and {"name", "runs", "resume"} <= NAMES
