"""A detector as a file that runs without lit_faces: ONNX, TorchScript or torch.export, with a description beside it.

    crop float32 (B, 3, S, S), RGB, 0..255  ->  intensity (B, 19), occurrence (B, 19), expression (B, 8)

Normalisation, calibration and the person's zero are inside; finding and aligning the face is not, and the description
says how it is done.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_faces.core.alignment import SIDE_PER_EYES, SIDE_PER_FACE
from lit_faces.core.facs import AU_KEYS, EMOTIONS, MAX_INTENSITY
from lit_faces.core.files import replacing
from lit_faces.core.options import one_of, option
from lit_faces.core.shipped import DETECTOR_HELP, weights_code
from lit_faces.models.detector import DetectorNetwork, load_network
from lit_faces.persons.readers import person_detector
from lit_faces.persons.reference import REFERENCE_FILE
from lit_faces.reading.quantising import Cost, quantise
from lit_faces.reports.results import write_json

KINDS = {"onnx": ".onnx", "torchscript": ".pt", "torch.export": ".pt2"}
OUTPUTS = ("intensity", "occurrence", "expression")
TOLERANCE = 1e-4  # largest difference to the detector that is let through


@dataclass(frozen=True)
class ExportOptions:
    """What is exported; each field's help says what it is."""

    detector: str = option("generic", DETECTOR_HELP)
    to: str = option("onnx", f"what for: {', '.join(KINDS)}")
    zero: str = option("none", "the person's zero, folded in: none, a resting PHOTO, a .json")
    int8: bool = option(False, "onnx in whole numbers of 8 bits, for CPUs; refused where that costs ICC")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        one_of("to", self.to, list(KINDS))
        if self.int8 and self.to != "onnx":
            raise ValueError(f"--int8: is of --to onnx, not of {self.to}")
        if self.zero == "auto":
            raise ValueError("--zero auto: is of a clip; export takes a resting photo or a .json")


class Portable(nn.Module):
    """All that is done to an aligned crop, in one module.

    Args:
        detector: whose networks it holds.
        zero: float (19,), taken off the calibrated intensities.
    """

    zero: Tensor

    def __init__(self, detector: DetectorNetwork, zero: NDArray[np.float32] | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.calibration = detector.backbone, detector.head, detector.calibration
        self.occurrence, self.expression = detector.occurrence, detector.expression
        self.register_buffer("zero", torch.zeros(len(AU_KEYS)) if zero is None else torch.from_numpy(zero))

    def forward(self, crop: Tensor) -> tuple[Tensor, ...]:
        """Crops float (B, 3, S, S), 0..255, to intensities and the probabilities of the heads that there are."""
        features = self.backbone(crop / 127.5 - 1.0)
        intensity = (self.calibration(self.head(features)) - self.zero).clamp(0.0, MAX_INTENSITY)
        found = [intensity]
        if self.occurrence is not None:
            found.append(self.occurrence(features).sigmoid())
        if self.expression is not None:
            found.append(self.expression(features).softmax(1))
        return tuple(found)


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: file.
        worst: largest difference to the detector on made crops, in floats.
        cost: of 8 bits, where they were asked for.
    """

    path: Path
    worst: float
    cost: Cost | None = None


def exportable(word: str) -> DetectorNetwork:
    """The detector of a word.

    Raises:
        ValueError: no such detector, or one that reads beside pictures of a person: a file would read without them.
    """
    detector = load_network(word)
    if Path(word).is_dir() and (Path(word) / REFERENCE_FILE).is_file():
        made = person_detector(word)
        if isinstance(made, DetectorNetwork) and made.references is not None:
            raise ValueError(
                f"{word}: reads beside pictures of the person, and a file would read without them; export its "
                "detector.safetensors, with a --zero"
            )
    return detector


def export(
    options: ExportOptions,
    out: Path,
    zero: NDArray[np.float32] | None = None,
    detector: DetectorNetwork | None = None,
) -> Exported:
    """Write the file, run it on made crops, and write ``NAME.json`` beside it.

    Args:
        options: what.
        out: file; the kind's ending is added where it has another.
        zero: float32 (19,), see :class:`Portable`.
        detector: what is exported, where it is in memory (a person's delta folded in, say); by default what
            ``options.detector`` names.

    Raises:
        ModuleNotFoundError: ``onnx`` is not installed.
        ValueError: no such detector; another kind's ending; the file gives other results; 8 bits cost too much.
        OSError: it cannot be written.
    """
    other = next((kind for kind, ending in KINDS.items() if out.suffix == ending and kind != options.to), None)
    if other is not None:
        raise ValueError(f"--out {out}: ends as {other} does; --to {options.to} writes {KINDS[options.to]}")
    detector = load_network(options.detector) if detector is None else detector
    cost = None
    model = Portable(detector, zero).eval()
    crops = torch.rand(5, 3, detector.size, detector.size, generator=torch.Generator().manual_seed(0)) * 255
    path = out if out.suffix == KINDS[options.to] else out.with_name(out.name + KINDS[options.to])
    heads = [getattr(detector, name) for name in OUTPUTS[1:]]
    names = [OUTPUTS[0], *(name for name, head in zip(OUTPUTS[1:], heads) if head is not None)]
    with replacing(path) as temporary, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own exporters
        run = _WRITERS[options.to](model, crops, temporary, names)
        expected, found = model(crops), run(crops)
        worst = max(float((one - other).abs().max()) for one, other in zip(expected, found))
        if not worst <= TOLERANCE:
            raise ValueError(f"{path}: gives results that are {worst:.2g} off; nothing was written; use another --to")
        if options.int8:
            cost = quantise(temporary, detector.size)
    write_json(path.with_suffix(".json"), _description(detector, options, names, zero) | _said_of(cost))
    return Exported(path, worst, cost)


def _said_of(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {"numbers": "float32"}
    said = {"before": round(cost.before, 4), "after": round(cost.after, 4), "worst_au": round(cost.worst, 4)}
    return {"numbers": "int8 convolutions", "icc_on_rendered_strangers": {**said, "faces": cost.faces}}


def _description(
    detector: DetectorNetwork, options: ExportOptions, names: list[str], zero: NDArray[np.float32] | None
) -> dict[str, Any]:
    threshold = [round(float(value), 5) for value in detector.calibration.threshold]
    return {
        "detector": weights_code("detector", options.detector),
        "input": {"name": "crop", "type": "float32", "shape": ["batch", 3, detector.size, detector.size]},
        "input_is": "RGB, 0 to 255, an aligned crop; normalised inside",
        "alignment": {
            "landmarks": "68 (iBUG order), pixels of the picture, (0, 0) the centre of the top-left pixel",
            "eyes": "middle of the means of points 36-41 and 42-47",
            "mouth": "mean of points 48-59",
            "centre": "middle between eyes and mouth",
            "side": f"the larger of {SIDE_PER_EYES} times the distance of points 36 and 45, and {SIDE_PER_FACE} times "
            "that of eyes and mouth",
            "crop": "the upright square around the centre, border replicated, resized with antialiasing",
            "code": "lit_faces.core.alignment.align_crop",
        },
        "outputs": names,
        "aus": list(AU_KEYS),
        "expressions": list(EMOTIONS),
        "present_from": {"of": "occurrence" if "occurrence" in names else "intensity", "threshold": threshold},
        "zero": None if zero is None else dict(zip(AU_KEYS, (round(float(value), 4) for value in zero))),
    }


Run = Callable[[Tensor], tuple[Tensor, ...]]


def _torchscript(model: Portable, crops: Tensor, path: Path, names: list[str]) -> Run:
    torch.jit.save(torch.jit.trace(model, crops[:2], check_trace=False), str(path))
    return torch.jit.load(str(path))


def _exported(model: Portable, crops: Tensor, path: Path, names: list[str]) -> Run:
    batch = torch.export.Dim("batch", min=1, max=4096)
    torch.export.save(torch.export.export(model, (crops[:2],), dynamic_shapes={"crop": {0: batch}}), str(path))
    return torch.export.load(str(path)).module()


def _onnx(model: Portable, crops: Tensor, path: Path, names: list[str]) -> Run:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # what torch's exporter needs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"--to onnx needs {error.name}: pip install 'lit_faces[onnx]'") from error
    torch.onnx.export(
        model, (crops[:2],), str(path), input_names=["crop"], output_names=names, dynamo=True, verbose=False,
        dynamic_shapes={"crop": {0: torch.export.Dim("batch", min=1, max=4096)}}, external_data=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda batch: tuple(torch.from_numpy(one) for one in session.run(None, {"crop": batch.numpy()}))


_WRITERS: dict[str, Callable[[Portable, Tensor, Path, list[str]], Run]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "torch.export": _exported,
}
