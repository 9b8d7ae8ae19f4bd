"""Three lines of Python: any kind of picture in, named intensities out."""

import subprocess
import sys

import clips
import numpy as np
import pytest
import torch
from PIL import Image

import lit_faces
from lit_faces import api


@pytest.fixture(scope="module")
def detector():
    return lit_faces.load("generic")


def test_paths_arrays_tensors_and_lists_are_read_alike(detector, people, tmp_path):
    picture = clips.stage([(people[0, 5], 150)])
    Image.fromarray(picture).save(tmp_path / "anna.png")
    found = detector(str(tmp_path / "anna.png"))
    assert found.intensity["AU12"] > 2 and found.present["AU12"] == 1 and set(found.expression) >= {"happiness"}
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    for same in (detector(picture), detector(tensor), detector(tmp_path / "anna.png")):
        assert same.intensity == found.intensity
    several = detector([tmp_path / "anna.png", picture, tensor[None]])
    assert several.intensity["AU12"] == pytest.approx([found.intensity["AU12"]] * 3)
    assert "detected and aligned" in repr(found) and "AU12" in repr(found)


def test_a_table(detector, people):
    pandas = pytest.importorskip("pandas")
    table = detector(clips.stage([(people[0, 0], 0), (people[1, 5], 300)])).to_frame()
    assert isinstance(table, pandas.DataFrame) and list(table["face_id"]) == [0, 1]
    assert table["AU12"][1] > 2 > table["AU12"][0]


def test_an_au_goes_by_the_names_that_people_write(detector, people):
    found = detector(clips.stage([(people[0, 5], 150)])).intensity
    assert found["AU6"] == found["au06"] == found[6] == found["AU06"] and "AU06" in found
    with pytest.raises(KeyError, match=r"AU3: not among AU01, AU02"):
        found["AU3"]
    with pytest.raises(KeyError, match="smile: not among"):
        found["smile"]


def test_without_a_face_nothing_is_known(detector):
    found = detector(clips.stage([]))
    assert len(found) == 1 and found.faces == [] and np.isnan(found.intensity["AU12"])


def test_aligned_crops_have_a_method_of_their_own(detector, people):
    from lit_faces.core.alignment import align_crop

    picture = clips.stage([(people[0, 5], 150)])
    found = detector(picture)
    crop = align_crop(picture, found[0].landmarks, 128)[0]
    assert detector.crops(crop).intensity["AU12"] == pytest.approx(found.intensity["AU12"], abs=1e-4)


@pytest.mark.parametrize("wrong", [np.zeros((3, 64, 64), np.uint8), np.zeros((64, 64, 3)), torch.zeros(3, 64, 64)])
def test_other_arrays_are_refused(detector, wrong):
    with pytest.raises(ValueError, match=r"picture: expected a uint8 .*, RGB, got "):
        detector(wrong)


def test_a_personal_folder_is_a_detector(tmp_path):
    from lit_faces.core.shipped import GENERIC, weights_path

    (tmp_path / "anna" / "detector").mkdir(parents=True)
    (tmp_path / "anna" / "detector" / "detector.safetensors").symlink_to(GENERIC)
    assert weights_path("detector", tmp_path / "anna").name == "detector.safetensors"
    assert api.load(tmp_path / "anna").network.size == 128
    with pytest.raises(FileNotFoundError):
        api.load(tmp_path / "ben")


def test_importing_is_quick_and_takes_nothing_heavy():
    said = "import sys, lit_faces; print(sorted({'torch', 'numpy', 'cv2', 'dlib'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_calibrate_sets_a_zero_that_pools(people, tmp_path):
    for number in (0, 1):
        Image.fromarray(clips.stage([(people[0, number], 150)])).save(tmp_path / f"{number}.png")
    first = api.calibrate(tmp_path / "0.png", tmp_path / "anna")
    both = api.calibrate([str(tmp_path / "1.png")], tmp_path / "anna")
    assert both.path == tmp_path / "anna" / "zero.json" and len(first.zero.sources) == 1
    assert len(both.zero.sources) == 2 and (both.zero.offset >= 0).all()
    with pytest.raises(ValueError, match="no photo and no clip"):
        api.calibrate([], tmp_path / "anna")


def test_the_functions_do_not_hide_the_commands():
    import lit_faces.calibrate
    import lit_faces.generate
    import lit_faces.personalise

    assert all(callable(module.main) for module in (lit_faces.calibrate, lit_faces.generate, lit_faces.personalise))
    assert {getattr(api, name).__module__ for name in api.__all__} == {"lit_faces.api"}


def test_a_detector_is_loaded_without_what_only_training_or_other_networks_need():
    heavy = {"timm", "wandb", "lit_faces.fitting", "pytorch_lightning", "torchmetrics", "torchvision", "matplotlib"}
    said = f"import sys, lit_faces; lit_faces.load(); print({heavy!r} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "set()"


def test_no_detector_at_all_is_refused():
    with pytest.raises(TypeError, match="expected 'generic', a folder or a file of weights, got NoneType"):
        api.load(None)
