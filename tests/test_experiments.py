"""Every shipped experiment is built as the command builds it, and says what it says it does."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("lit_faces.fit")
from lit_faces.fit import build
from lit_faces.studies.description import Study

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.y*ml"))
STUDIES = sorted((ROOT / "experiments" / "study").glob("*.y*ml"))
BASELINES = [path for path in EXPERIMENTS if path.stem.startswith("au6_17_") and path.stem != "au6_17_h200"]


def read(name: str | Path) -> dict:
    return yaml.safe_load((ROOT / "experiments" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_builds(path: Path) -> None:
    cli = build([str(path)])
    content = read(path)
    for built, key in ((cli.model, "model"), (cli.datamodule, "data")):
        assert f"{type(built).__module__}.{type(built).__name__}" == content[key]["class_path"]
    assert cli.trainer.max_epochs == content["trainer"]["max_epochs"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_header_gives_the_command(path: Path) -> None:
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"python -m lit_faces.fit {path.relative_to(ROOT)}" in line for line in header)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_say_what_they_compare(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    study = Study.read(yaml.safe_load(text), str(path))
    assert study.cells() and study.stream().names
    assert f"python -m lit_faces.study {path.relative_to(ROOT)}" in text


def test_the_studies_have_the_same_people() -> None:
    assert len({str(yaml.safe_load(path.read_text(encoding="utf-8"))["people"]) for path in STUDIES}) == 1


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_baselines_have_the_data_and_the_budget_of_the_main_job(path: Path) -> None:
    main, baseline = read("au6_17.yaml"), read(path)
    assert baseline["data"] == main["data"]
    assert baseline["trainer"] == main["trainer"]
    assert baseline["seed_everything"] == main["seed_everything"]


def test_there_are_three_baselines() -> None:
    assert len(BASELINES) == 3


def test_judge_critic_base_weights_and_main_job_have_different_people() -> None:
    seeds = [read(f"{name}.yaml")["data"]["init_args"]["seed"] for name in ("au6_17", "base", "critic", "judge")]
    assert len(set(seeds)) == 4


def _prepared(path: Path) -> bool:
    return "prepared.PreparedFaces" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in EXPERIMENTS if _prepared(path)], ids=lambda path: path.stem)
def test_every_source_of_an_experiment_has_its_prepare_command_in_the_headers(path: Path) -> None:
    headers = "".join(other.read_text(encoding="utf-8") for other in EXPERIMENTS if _prepared(other))
    for source in read(path)["data"]["init_args"]["sources"]:
        name = Path(source["path"]).name
        assert f"python -m lit_faces.prepare {name} --root" in headers and f"--out {source['path']}" in headers
