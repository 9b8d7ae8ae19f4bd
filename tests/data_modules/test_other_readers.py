"""DISFA+, CK+, UNBC, RAF-DB, AffectNet, FER2013, Aff-Wild2, EmotioNet: labels as written, damage named."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.affectnet import AffectNet
from data_modules.ck_plus import CKPlus
from data_modules.fer2013 import FER2013
from data_modules.unbc import UNBC
from tests.fake import disfa, fer2013, look_alike, variants
from tests.fake.faces import check, people

SETS = variants()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory):
    made = {}
    for name, (how, _) in SETS.items():
        root = tmp_path_factory.mktemp(name)
        made[name] = root, look_alike(name.partition("-")[0]).write(root, **how)
    return made


def open_copy(originals, name: str, tmp_path: Path):
    """A copy of its own, what is in it, and how to open it."""
    root = Path(shutil.copytree(originals[name][0], tmp_path / "copy"))
    module = importlib.import_module(f"data_modules.{name.partition('-')[0]}")
    return root, originals[name][1], lambda: module.READER(root, **SETS[name][1])


@pytest.mark.parametrize("name", SETS)
def test_labels_are_exactly_those_that_were_written(originals, name: str, tmp_path: Path) -> None:
    _, expected, open_reader = open_copy(originals, name, tmp_path)
    reader = open_reader()
    clips = reader.clips()
    check(clips, expected)
    assert len(reader.problems) == getattr(look_alike(name.partition("-")[0]), "LACKS", 0), reader.problems
    for clip in clips:
        rows = [(row, problem) for row, picture, problem in reader.pictures(clip) if picture is not None]
        assert rows == [(row, None) for row in range(len(clip))]


DAMAGE = [
    # set, file, new content (None: gone, Path: a folder instead), file of the problem, what it says, line
    ("disfa_plus", "DISFAPlusDataset/Labels/SN001/A1_AU1_TrailNo_1/AU6.txt", "a\nb\n000.jpg  1\nzzz\n", "AU6.txt", "expected '000.jpg 0', found 'zzz'", 4),
    ("disfa_plus", "DISFAPlusDataset/Labels/SN001/A1_AU1_TrailNo_1/AU6.txt", None, "AU6.txt", "missing", 0),
    ("disfa_plus", "DISFAPlusDataset/Labels/SN001/A1_AU1_TrailNo_1/AU6.txt", Path(), "AU6.txt", "cannot be read", 0),
    ("disfa_plus", "DISFAPlusDataset/Images/SN003/A5_AU1_4b_TrailNo_1", None, "A5_AU1_4b_TrailNo_1", "no pictures of this trial", 0),
    ("disfa_plus", "DISFAPlusDataset/Labels/SN003/A5_AU1_4b_TrailNo_1", None, "A5_AU1_4b_TrailNo_1", "no labels for this trial", 0),
    ("ck_plus", "FACS_labels/FACS/S005/001/S005_001_00000003_facs.txt", "9 5\n17\n", "S005_001_00000003_facs.txt", "expected AU and intensity, found '17'", 2),
    ("ck_plus", "FACS_labels/FACS/S005/001/S005_001_00000003_facs.txt", "9 7\n", "S005_001_00000003_facs.txt", "expected an AU and 0..5", 1),
    ("ck_plus", "FACS_labels/FACS/S005/001/S005_001_00000003_facs.txt", "", "S005_001_00000003_facs.txt", "empty", 0),
    ("ck_plus", "Emotion/S005/001/S005_001_00000003_emotion.txt", "9\n", "S005_001_00000003_emotion.txt", "expected an emotion 0..7, found 9", 1),
    ("ck_plus", "extended-cohn-kanade-images/cohn-kanade-images/S895", None, "S895_001_00000003_emotion.txt", "no pictures of S895_001", 0),
    ("unbc", "Frame_Labels/Frame_Labels/FACS/042-ll042/ll042t1aaaff/ll042t1aaaff002_facs.txt", "\x00\x01\x02", "ll042t1aaaff002_facs.txt", "expected AU, intensity", 1),
    ("unbc", "Frame_Labels/Frame_Labels/FACS/042-ll042/ll042t1aaaff/ll042t1aaaff002_facs.txt", None, "ll042t1aaaff", "no FACS file for 1 pictures", 0),
    ("unbc", "Frame_Labels/Frame_Labels/FACS/042-ll042/ll042t1aaaff", None, "ll042t1aaaff", "no FACS labels of this sequence", 0),
    ("unbc", "Images/Images/043-jh043", None, "jh043t1aaaff", "no pictures of this sequence", 0),
    ("rafdb", "basic/EmoLabel/list_patition_label.txt", "train_00001.jpg 5\ntrain_00002.jpg 9\n\ntest_00001.jpg 3\n", "list_patition_label.txt", "expected 'train_00001.jpg 1..7'", 2),
    ("rafdb", "basic/EmoLabel/list_patition_label.txt", "train_00001.jpg 5\ntrain_00001.jpg 4\n", "list_patition_label.txt", "stands twice", 2),
    ("affectnet-2016", "training.csv", "a,b\n1,2\n", "training.csv", "no column subDirectory_filePath", 1),
    ("affectnet-2016", "training.csv", "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression\n1/abc1.jpg,32,0,192,192,,1\n,,,,,,\n", "training.csv", "expected an expression 0..10", 3),
    ("affectnet-2016", "validation.csv", None, "validation.csv", "missing", 0),
    ("affectnet-2021", "train_set/annotations/1_exp.npy", "none", "1_exp.npy", "no expression can be read", 0),
    ("affectnet-2021", "train_set/annotations/1_exp.npy", None, "1_exp.npy", "no expression for this picture", 0),
    ("fer2013", "fer2013/fer2013.csv", "emotion,pixels,Usage\n9,1 2,Training\n", "fer2013.csv", "expected 0..6,pixels,Usage", 2),
    ("fer2013", "fer2013/fer2013.csv", "a,b\n", "fer2013.csv", "expected the header", 1),
    ("fer2013-plus", "FERPlus/fer2013new.csv", "Usage,Image name\n", "fer2013new.csv", "no column neutral", 1),
    ("affwild2", "annotations/AU_Detection_Challenge/Train_Set/1-30-1280x720.txt", "AU1,AU2\n0,1\n0,5\n", "1-30-1280x720.txt", "expected 2 codes 0, 1 or -1, found '0,5'", 3),
    ("affwild2", "annotations/EXPR_Recognition_Challenge/Train_Set/7_left.txt", "Neutral,Anger\n1\n2\n", "7_left.txt", "expected one number from -1 to 1", 3),
    ("affwild2", "cropped_aligned/cropped_aligned/video55", None, "video55.txt", "no crops of video55", 0),
    ("emotionet", "EmotioNet_FACS_aws_2020_24600.csv", "URL,'AU 1'\nhttp://x/N_0000000000_00000.jpg,7\n", "EmotioNet_FACS_aws_2020_24600.csv", "expected a URL and codes", 2),
    ("emotionet", "EmotioNet_FACS_aws_2020_24600.csv", "what\n", "EmotioNet_FACS_aws_2020_24600.csv", "expected the columns URL", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "content", "named", "says", "line"), DAMAGE)
def test_damage_is_named_and_others_are_unharmed(
    originals, name: str, file: str, content, named: str, says: str, line: int, tmp_path: Path
) -> None:
    root, expected, open_reader = open_copy(originals, name, tmp_path)
    path = root / file
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if isinstance(content, Path):
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    reader = open_reader()
    clips = reader.clips()
    said = [p for p in reader.problems if p.file.endswith(named) and says in p.reason]
    assert said, reader.problems
    assert said[0].line == line
    before = {e.key: e for e in expected}
    same = [clip for clip in clips if clip.key in before and len(clip) == len(before[clip.key].frames)]
    whole = [clip.key for clip in same if np.array_equal(clip.au_intensity, before[clip.key].au_intensity, True)
             and np.array_equal(clip.au_occurrence, before[clip.key].au_occurrence, True)]  # fmt: skip
    assert len(whole) >= len(expected) - 1 - 2 * name.startswith(("fer2013", "rafdb")), "one file costs one clip"


def test_missing_pictures_are_said_when_they_are_read(originals, tmp_path: Path) -> None:
    root, _, open_reader = open_copy(originals, "rafdb", tmp_path)
    (root / "basic/Image/aligned/aligned/train_00003_aligned.jpg").unlink()
    reader = open_reader()
    clip = reader.clips()[0]
    problems = [problem for _, _, problem in reader.pictures(clip) if problem]
    assert len(problems) == 1 and problems[0].frames == "3" and "train_00003_aligned.jpg" in problems[0].file


def test_pixels_of_fer2013(originals, tmp_path: Path) -> None:
    root, _, open_reader = open_copy(originals, "fer2013", tmp_path)
    truth = fer2013.grey()
    for clip in open_reader().clips():
        for (_, picture, _), number in zip(FER2013(root).pictures(clip), clip.frames, strict=True):
            assert np.array_equal(picture[:, :, 0], truth[number]) and picture.shape == (48, 48, 3)
    table = root / "fer2013" / "fer2013.csv"
    lines = table.read_text().splitlines()
    lines[2] = lines[2].replace(",", ",999 ", 1)  # one value more, and more than white
    lines[4] = lines[4].replace(" ", " -1 ", 1).replace(" ", "", 1)
    table.write_text("\n".join(lines) + "\n")
    reader = FER2013(root)
    problems = [problem for clip in reader.clips() for _, _, problem in reader.pictures(clip) if problem]
    assert reader.problems == [] and len(problems) == 2
    assert [problem.reason for problem in problems] == [f"row {n}: expected 2304 grey values 0..255" for n in (2, 4)]


def test_shipped_landmarks(originals) -> None:
    reader = CKPlus(originals["ck_plus"][0])
    for number, clip in enumerate(reader.clips()):
        truth = [disfa.in_frame(people(3, 3).landmarks[number * 3 + frame].numpy()) for frame in (0, 2)]
        assert np.allclose(reader.own_landmarks(clip), truth, atol=1e-3)
    unbc = UNBC(originals["unbc"][0])
    points = unbc.own_landmarks(unbc.clips()[0])
    keep = [i for i in range(68) if i not in (60, 64)]
    assert np.allclose(points[1, keep], disfa.in_frame(people(2, 3).landmarks[1].numpy())[keep], atol=1e-3)
    assert np.isnan(points[2]).all(), "an empty file"
    for name in ("affectnet-2016", "affectnet-2021"):
        affectnet = AffectNet(originals[name][0])
        marks = affectnet.own_landmarks(affectnet.clips()[0])
        assert np.allclose(marks[0], disfa.in_frame(people(8, 1).landmarks[0].numpy()), atol=1e-2)


def test_uncertain_faces_are_kept_without_a_label_when_asked(originals) -> None:
    reader = AffectNet(originals["affectnet-2016"][0], uncertain="keep")
    assert reader.clips()[0].emotion.tolist().count(-1) == 1
    assert np.isfinite(reader.clips()[0].boxes).all()


@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder_says_what_to_unpack(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"data_modules.{name.partition('-')[0]}")
    with pytest.raises(FileNotFoundError, match=r"unpack|under|no list"):
        module.READER(tmp_path).clips()
