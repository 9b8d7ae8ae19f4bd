"""The kinds of files that people hand to lit_faces: good ones to damage, and the readers that must bear it."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from PIL import Image

from data_modules.folder import Folder
from lit_faces.arguments import read_experiment
from lit_faces.core.labelled import read_labelled
from lit_faces.core.pictures import load_picture
from lit_faces.core.shards import ShardSet, ShardWriter, write_index
from lit_faces.core.video import read_frames, timeline, write_video
from lit_faces.core.weights import load_checkpoint, plain_weights, training_state
from lit_faces.fit import build
from lit_faces.persons.learner import PersonalLearner
from lit_faces.studies.description import Study
from lit_faces.tasks.au_detector import AUDetector, load_detector
from tests.fuzz.mutate import mutate

SIZE = 32
_HEAD = 6000  # bytes of a large file that say how the rest is to be read: half of the damage goes there


@dataclass
class Kind:
    """Good files of one kind, and what reads them.

    Attributes:
        files: paths of the good files; each is damaged in turn.
        read: reads a file.
        names: one of these must be in the message that refuses it; the file's own name if empty.
        tokens: words of the format.
        text: see :func:`tests.fuzz.mutate.mutate`.
    """

    files: Sequence[Path]
    read: Callable[[Path], object]
    names: Sequence[str] = ()
    tokens: Sequence[bytes] = ()
    text: bool = False

    def __post_init__(self) -> None:
        self.good = [path.read_bytes() for path in self.files]
        self.names = self.names or [path.name for path in self.files]

    def __call__(self, seed: int) -> str:
        """Damage a file and read it."""
        which = seed % len(self.files)
        path, data = self.files[which], self.good[which]
        cut = _HEAD if len(data) > 10 * _HEAD and seed % 4 < 2 else len(data)
        path.unlink(missing_ok=True)  # whoever maps the last one keeps it
        path.write_bytes(mutate(data[:cut], seed, self.tokens, self.text) + data[cut:])
        os.utime(path, ns=(seed, seed))  # never the times of another damage
        self.read(path)
        return path.name


def _picture(number: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def pictures(folder: Path) -> Kind:
    """One of each format."""
    files = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, options in (("jpg", {"exif": exif}), ("png", {}), ("webp", {"exif": exif}), ("tif", {}), ("bmp", {})):
        files.append(folder / f"face.{suffix}")
        Image.fromarray(_picture(len(files))).save(files[-1], **options)
    return Kind(
        files, load_picture, tokens=(b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg>", b"IHDR\x7f\xff\xff\xff", b"\xff\xd9")
    )


def clips(folder: Path) -> Kind:
    """A short clip."""
    frames = torch.from_numpy(np.stack([_picture(n, 48) for n in range(6)])).permute(0, 3, 1, 2)
    path = write_video(folder / "clip.mp4", frames, 10.0)

    def read(path: Path) -> None:
        timeline(path)
        list(read_frames(path))

    return Kind([path], read, tokens=(b"moov", b"mdat", b"stts\x00\x00\x00\x00\xff\xff\xff\xff", b"stsz"))


def labels(folder: Path) -> Kind:
    """A table with everything in it, and its pictures."""
    lines = ["file,subject,frame,split,emotion,au6,AU17,occ12,yaw,pitch,roll"]
    for n in range(6):
        Image.fromarray(_picture(n)).save(folder / f"f{n}.png")
        lines.append(f"f{n}.png,anna,{n},train,happiness,{n % 6},{(n + 1) % 6}.5,1,{n}.25,-3,0")
    path = folder / "labels.csv"
    path.write_text("\n".join(lines).replace("5.5", "4.5") + "\n")

    def read(path: Path) -> None:
        Folder(path.parent).clips()
        read_labelled(path.parent, SIZE)

    tokens = (b"au6", b"AU06_r", b"=1+1", b"inf", b"1,5", b"f0.png", b"../f0.png", b"|", b"disgust", b"2020-01-01")
    return Kind([path], read, tokens=tokens, text=True)


_EXPERIMENT = {
    "seed_everything": 0,
    "model": {
        "class_path": "lit_faces.tasks.au_detector.AUDetector",
        "init_args": {"backbone": "aligned_face_small", "size": 64, "lr": 1.0e-3},
    },
    "data": {
        "class_path": "data_modules.prepared.PreparedFaces",
        "init_args": {"sources": [{"path": "set", "use": "folds"}], "batch_size": 4, "aus": [6, 17]},
    },
    "trainer": {
        "max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, "enable_progress_bar": False,
        "callbacks": [{"class_path": "pytorch_lightning.callbacks.Timer", "init_args": {"interval": "step"}}],
    },
}  # fmt: skip
_STUDY = {
    "detector": "generic",
    "people": {"class_path": "data_modules.people.RenderedPeople", "init_args": {"people": 3, "support": 4}},
    "sequence": [{"methods": ["none", "ewc"], "k": [1, 4]}],
    "single": [{"methods": ["finetune"], "k": 2, "images": ["real"], "seeds": [1, 2]}],
    "seeds": [0, 1],
    "recipe": {"steps": 3, "lr": 0.001},
    "capacity": "64MB",
}


def yamls(folder: Path) -> Kind:
    """An experiment and a study."""
    files = [folder / "experiment.yaml", folder / "study.yaml"]
    for path, content in zip(files, (_EXPERIMENT, _STUDY)):
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def read(path: Path) -> None:
        if path.stem == "study":
            Study.read(read_experiment(path), str(path)).cells()
        else:
            build([str(path)])

    laugh = b"a: &a [x, x]\n" + b"".join(
        b"%c: &%c [*%c, *%c, *%c]\n" % (c, c, c - 1, c - 1, c - 1) for c in b"bcdefghijklm"
    )
    tokens = (
        b"subprocess.Popen", b"os.system", b"this.d", b"torch.hub.load", b"lit_faces.fit.main", b"class_path:", b"!!python/object/apply:os.system [x]",
        laugh, b"&a [*a]", b"<<: *a", b"? [a]\n", b"- ", b"  ", b": ", b"{", b"torch.nn.Linear", b"dict_kwargs: {x: 1}",
    )  # fmt: skip
    return Kind(files, read, tokens=tokens, text=True)


def cards(folder: Path) -> Kind:
    """An exported detector."""
    path = AUDetector("aligned_face_small", size=32, export=False).export_weights(folder / "detector.safetensors")
    tokens = (b'"size":', b"F32", b"F16", b"BF16", b"I64", b'"shape":[', b'"data_offsets":[', b"__metadata__", b"card")
    return Kind([path], load_detector, tokens=tokens)


def memories(folder: Path) -> Kind:
    """What a detector remembers of people."""
    detector = AUDetector("aligned_face_small", size=32, export=False)
    learner = PersonalLearner(detector, "replay", capacity=8)
    assert learner.memory is not None
    learner.memory.add(ShardSet(prepared(folder / "set")).gather(range(6)))
    learner.save(folder / "memory.safetensors")

    def read(path: Path) -> None:
        PersonalLearner(detector, "replay", capacity=8).load(path)

    tokens = (b'"cells":[', b'"names":', b"rows.image", b"draws", b'"shape":[', b"I64", b"U8", b'"capacity":-1')
    return Kind([folder / "memory.safetensors"], read, tokens=tokens)


def checkpoints(folder: Path) -> Kind:
    """What torch.save writes."""
    progress = {"fit_loop": {"epoch_loop.batch_progress": {"total": {"ready": 3}}}}
    state = {"module.a": torch.arange(6.0), "module.b": torch.ones(2, 2, dtype=torch.int64)}
    content = {"state_dict": state, "loops": progress, "optimizer_states": [], "epoch": 1, "global_step": 3}
    path = folder / "last.ckpt"
    torch.save(content, path)

    def read(path: Path) -> None:
        found = load_checkpoint(path)
        plain_weights(found, path, {"a", "b"})
        training_state(found, path)

    return Kind([path], read, tokens=(b"cos\nsystem\n", b"ctorch\n", b"PK\x03\x04", b"data.pkl"))


def prepared(folder: Path) -> Path:
    """A prepared set of six faces in two shards."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for number in range(2):
        writer = ShardWriter(folder, number)
        for frame in range(3):
            grades = np.full(19, np.nan, np.float32)
            grades[::2] = frame
            row = {
                "subject": f"p{number}", "clip": "c", "frame": frame, "source": "set", "split": "train", "emotion": frame,
                "au_intensity": grades, "au_occurrence": np.where(np.isnan(grades), np.nan, grades >= 2).astype(np.float32),
                "landmarks": chance.uniform(4, 28, 136).astype(np.float32), "pose": np.zeros(3, np.float32),
            }  # fmt: skip
            writer.add(f"{number}-{frame}", cv2.imencode(".jpg", _picture(frame, SIZE))[1].tobytes(), "jpg", row)
        writer.close()
    write_index(folder, 2, {"title": "set", "set": "set", "name": "set", "size": SIZE, "aus": [6, 17]})
    return folder


def _gather(path: Path) -> None:
    faces = ShardSet(path.parent)
    faces.gather(range(len(faces)))
    assert [faces.key(row) for row in range(len(faces))] and faces.subjects()


def indices(folder: Path) -> Kind:
    """The index of a set whose manifest knows its digest, and twice of one that was prepared before there was one."""
    new, old = prepared(folder / "new"), prepared(folder / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["index"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    return Kind(
        [new / "index.arrow", *[old / "index.arrow"] * 2],
        _gather,
        tokens=(b"ARROW1", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"),
    )


def shards(folder: Path) -> Kind:
    """The rows of one shard."""
    path = prepared(folder / "set") / "shard-00000.arrow"

    def read(path: Path) -> None:
        write_index(path.parent, 2, {"title": "set", "size": SIZE})
        _gather(path)

    return Kind([path], read, ["shard-00000"], tokens=(b"ARROW1", b"\xff\xff\xff\xff", b"lit_faces", b'"bytes": -5'))


def manifests(folder: Path) -> Kind:
    """The manifest of a set. It may be right of other files than are there, and then those are named."""
    path = prepared(folder / "set") / "manifest.json"
    names = ["manifest.json", "index.arrow", "shard-0"]
    return Kind(
        [path],
        _gather,
        names,
        tokens=(b'"size": 9', b'"../../etc/passwd"', b'"faces": 7', b"shard-00001.tar"),
        text=True,
    )


def tars(folder: Path) -> Kind:
    """A shard of a set, read by its index and by its own names."""
    files = [prepared(folder / "set") / "shard-00000.tar", folder / "alone" / "faces-00000.tar"]
    files[1].parent.mkdir()
    with tarfile.open(files[1], "w") as tar:
        for n in range(3):
            labels = f"file,subject,frame,au6,AU17\n{n}.jpg,anna,{n},{n},4.5\n".encode()
            for name, data in ((f"{n}.jpg", cv2.imencode(".jpg", _picture(n))[1].tobytes()), (f"{n}.csv", labels)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    def read(path: Path) -> None:
        if path.parent.name == "set":
            _gather(path)
        else:
            read_labelled(path, SIZE)

    return Kind(
        files,
        read,
        tokens=(b"ustar\x0000", b"../../x", b"77777777777", io.BytesIO(b"\x80" * 12).getvalue(), b".json", b".jpg"),
    )


KINDS: dict[str, Callable[[Path], Kind]] = {
    "pictures": pictures, "clips": clips, "labels.csv": labels, "YAML": yamls, "cards": cards, "memories": memories, "checkpoints": checkpoints,
    "index.arrow": indices, "shard.arrow": shards, "manifests": manifests, "tar": tars,
}  # fmt: skip
