"""Panels, strips and what W&B gets of them, with a generator that is an ordinary function."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from lit_faces.callbacks import strips
from lit_faces.callbacks.panels import TITLES, Panels, active_aus, draw_panel, flow_colours
from lit_faces.callbacks.strips import STEPS, AUStrips, Truth, request
from lit_faces.callbacks.wandb_media import WandbMedia
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.sample import FaceBatch
from lit_faces.core.weights import save_weights
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.models.warping import canonical_face
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.reports.pictures import CAPTION, cell_size
from lit_faces.reports.tracking import default_wandb_mode

SIZE = 32
CELL = cell_size(SIZE)


def faces(subjects: list[str], value: int = 120, known: bool = True) -> FaceBatch:
    batch = len(subjects)
    au = torch.zeros(batch, NUM_AUS) if known else torch.full((batch, NUM_AUS), float("nan"))
    return FaceBatch(
        image=torch.full((batch, 3, SIZE, SIZE), value, dtype=torch.uint8),
        landmarks=((canonical_face() + 1) * SIZE / 2 - 0.5).expand(batch, -1, -1).clone(),
        au_intensity=au,
        au_occurrence=au.clone(),
        emotion=torch.full((batch,), -1),
        pose=torch.zeros(batch, 3),
        subject=subjects,
        source=["test"] * batch,
        frame=torch.zeros(batch, dtype=torch.int64),
    )


def pair(subjects: list[str]) -> dict[str, FaceBatch]:
    return {"source": faces(subjects), "target": faces(subjects, 200)}


class Task:
    """Paints every pixel as bright as the strongest AU that it is asked for."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[torch.Tensor] = []

    def reenact(self, source, target_landmarks, target_au) -> GeneratorOutput:
        self.asked.append(target_au)
        level = target_au.nan_to_num(0.0).amax(1) / 2.5 - 1
        image = level[:, None, None, None].expand(-1, 3, SIZE, SIZE)
        return GeneratorOutput(image, flow=torch.zeros(len(source), 8, 8, 2))


def trainer(folder: Path, **more) -> SimpleNamespace:
    plain = {"default_root_dir": str(folder), "global_step": 12, "current_epoch": 0, "is_global_zero": True}
    return SimpleNamespace(**{**plain, "sanity_checking": False, "loggers": [], "callback_metrics": {}, **more})


def test_a_panel_has_a_column_for_everything_and_blanks_for_what_is_missing() -> None:
    batch = pair(["a", "b"])
    batch["target"].landmarks[1] = float("nan")
    output = Task().reenact(batch["source"], batch["target"].landmarks, torch.full((2, NUM_AUS), 5.0))
    panel = np.asarray(draw_panel(batch["source"], batch["target"], output))
    assert panel.shape == (CAPTION + 2 * (CELL + CAPTION), len(TITLES) * CELL, 3)
    cells = [panel[CAPTION : CAPTION + CELL, k * CELL : (k + 1) * CELL] for k in range(len(TITLES))]
    assert [int(np.median(c)) for c in cells] == [120, 60, 60, 200, 255, 255, 255, 127]
    assert (cells[5] == 255).all() and (cells[6] == 255).all()  # keep and attention: the generator has none
    dots = (panel[:, CELL : 2 * CELL] == (255, 255, 0)).all(-1)
    assert dots[: CAPTION + CELL].any() and not dots[CAPTION + CELL :].any()  # unknown landmarks are not drawn


def test_captions_name_the_strongest_aus_first() -> None:
    au = torch.full((NUM_AUS,), float("nan"))
    au[AU_INDEX[6]], au[AU_INDEX[17]], au[AU_INDEX[12]] = 3.2, 4.0, 0.2
    assert active_aus(au) == "AU17 4.0 AU6 3.2"
    assert active_aus(torch.zeros(NUM_AUS)) == "neutral"


def test_opposite_flows_have_opposite_colours() -> None:
    flow = torch.tensor([[[0.1, 0.0], [-0.1, 0.0], [0.0, 0.0]]])
    right, left, still = flow_colours(flow)[:, 0].T.int()
    assert right[0] == 255 and left[0] == 0
    assert still.tolist() == [127, 127, 127]


def test_panels_show_different_people_and_keep_to_their_epochs(tmp_path: Path) -> None:
    task, callback = Task(), Panels(pairs=3, every_n_epochs=2)
    for epoch in (0, 1):
        run = trainer(tmp_path, current_epoch=epoch, global_step=epoch)
        callback.on_validation_epoch_start(run, task)
        for subjects in (["a", "a", "b", "a"], ["b", "c", "d"]):
            callback.on_validation_batch_end(run, task, None, pair(subjects), 0)
        chosen = callback._chosen.take() if callback._chosen else []
        callback.on_validation_epoch_end(run, task)
    assert [source.subject[0] for source, _ in chosen] == ["a", "b", "c"]
    assert [p.name for p in (tmp_path / "panels").iterdir()] == ["val-000001.png"]


def test_few_people_fill_the_panel_with_further_pairs(tmp_path: Path) -> None:
    callback, run = Panels(pairs=3), trainer(tmp_path)
    callback.on_test_epoch_start(run, Task())
    callback.on_test_batch_end(run, Task(), None, pair(["a", "b", "a", "b"]), 0)
    callback.on_test_epoch_end(run, Task())
    with Image.open(tmp_path / "panels" / "test-000012.png") as picture:
        assert picture.height == CAPTION + 3 * (CELL + CAPTION)


def test_a_strip_asks_for_one_au_and_leaves_the_others() -> None:
    known, unknown = faces(["a"]), faces(["p"], known=False)
    known.au_intensity[0, AU_INDEX[12]] = 2.0
    many, landmarks, wanted = request(known, 26)
    assert wanted[:, AU_INDEX[26]].tolist() == [0, 1, 2, 3, 4, 5] and (wanted[:, AU_INDEX[12]] == 2).all()
    assert torch.equal(landmarks[0], known.landmarks[0]) and landmarks[5, 8, 1] > landmarks[0, 8, 1] + 1
    assert len(many) == STEPS
    _, landmarks, wanted = request(unknown, 17)
    assert wanted.isnan().sum(1).tolist() == [NUM_AUS - 1] * STEPS and landmarks.isfinite().all()


def test_the_truth_of_a_strip_is_the_same_person_scene_and_pose() -> None:
    options = {"size": SIZE, "seed": 3, "head": "parametric", "focus_aus": (6, 17), "yaw_limit": 25.0}
    data = SimpleNamespace(renderer_options=options, frames={"test": 3})
    pose, neutral = torch.tensor([[8.0, -2.0, 1.0]]).expand(2, 3), torch.zeros(2, NUM_AUS)
    who, frame, scene = torch.tensor([7, 9]), torch.tensor([3, 3]), torch.tensor([1, 1])
    source = FaceRenderer(**options).render(who, frame, scene, au=neutral, pose=pose).select(slice(0, 1))
    images = Truth(data).render(source, request(source, 17)[2])
    assert images is not None and torch.equal(images[0], source.image[0])
    assert (images[5].int() - images[0].int()).abs().max() > 20
    assert Truth(data).render(faces(["render3:000007"]), neutral) is None  # not said to be rendered
    assert Truth(None).render(source, neutral) is None


def run_strips(callback: AUStrips, folder: Path) -> Task:
    task, run = Task(), trainer(folder)
    callback.on_test_epoch_start(run, task)
    callback.on_test_batch_end(run, task, None, pair(["a", "b", "a", "c"]), 0)
    callback.on_test_epoch_end(run, task)
    return task


class Judge:
    """Reads brightness."""

    def to(self, _device) -> "Judge":
        return self

    def predict_au(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((1, 2, 3))[:, None].expand(-1, NUM_AUS) / 51


def test_strips_of_people_and_of_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "load_detector", lambda _name: Judge())
    task = run_strips(AUStrips(people=2), tmp_path)
    names = {p.name for p in (tmp_path / "strips").iterdir()}
    assert names == {"AU06.png", "AU17.png", "AU06-photo.png", "AU17-photo.png"}
    with Image.open(tmp_path / "strips" / "AU06.png") as picture:
        assert picture.height == CAPTION + 2 * (CELL + CAPTION)
        middle = [picture.getpixel((150 + k * CELL + 40, 60)) for k in range(STEPS)]
    assert [m[0] for m in middle] == [0, 51, 102, 153, 204, 255]
    assert sorted(len(asked) for asked in task.asked) == [STEPS] * 6


def test_a_photo_that_cannot_be_used_does_not_cost_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name):
        raise FileNotFoundError

    monkeypatch.setattr(strips, "load_detector", none)
    Image.new("RGB", (200, 200), "gray").save(tmp_path / "wall.png")
    with pytest.warns(UserWarning, match="no face found"):
        run_strips(AUStrips(aus=[6], photo=str(tmp_path / "wall.png")), tmp_path)
    assert [p.name for p in (tmp_path / "strips").iterdir()] == ["AU06.png"]
    monkeypatch.setattr(strips.importlib.util, "find_spec", lambda _name: None)
    with pytest.warns(UserWarning, match="pip install scikit-image"):
        run_strips(AUStrips(aus=[6]), tmp_path)
    with pytest.raises(ValueError, match="unknown AU 3"):
        AUStrips(aus=[3])


def test_wandb_is_offline_unless_somebody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    assert default_wandb_mode() == "offline"
    file.write_text("machine example.org login me password x\n")
    file.chmod(0o600)
    assert default_wandb_mode() == "offline"
    file.write_text("machine api.wandb.ai login user password x\n")
    assert default_wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert default_wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert default_wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert default_wandb_mode() == "offline"


def test_wandb_gets_pictures_table_and_weights_but_no_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for index, name in enumerate(("panels/val-000012", "panels/test-000012", "strips/AU06", "strips/AU06-photo")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (index * 50, 0, 0)).save(tmp_path / f"{name}.png")
    save_weights(tmp_path / "generator.safetensors", {"w": torch.zeros(2)}, {"kind": "reenactment"})
    logger = WandbLogger(project="lit_faces", save_dir=str(tmp_path))
    figures = {"test/l1": torch.tensor(0.25), "test/nme": torch.tensor(float("nan")), "val/l1": torch.tensor(1.0)}
    run, callback = trainer(tmp_path, loggers=[logger], callback_metrics=figures), WandbMedia()
    callback.on_validation_end(run, None)
    callback.on_test_end(run, None)
    folder = Path(logger.experiment.dir).parent
    logger.experiment.finish()
    assert f"wandb sync {folder}" in capsys.readouterr().out
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    logged = {key.partition(".")[0] for r in records if r["type"] == "history" for key in r["history"]["item"]}
    assert {"panels/val", "panels/test", "strips/AU06", "tables/results"} <= logged
    assert "strips/AU06-photo" not in logged
    assert any(r["type"] == "artifact" and r["artifact"]["name"].startswith("detector-") for r in records)
    (table,) = (folder / "files" / "media" / "table").glob("**/results*.json")
    assert json.loads(table.read_text())["data"] == [["test/l1", 0.25, "min"], ["test/nme", None, "min"]]
