"""The compiled network of videos reads as the detector does, and where it cannot be compiled the detector itself reads."""

import numpy as np
import pytest
import torch

from lit_faces.reading.network import CropReader
from lit_faces.tasks.au_detector import AUDetector, load_detector

CROPS = torch.randint(0, 256, (5, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def differences(one, other):
    return [float(np.abs(a - b).max()) for a, b in zip(vars(one).values(), vars(other).values()) if a is not None]


def test_the_shipped_detector_is_compiled_and_reads_the_same():
    detector = load_detector("generic")
    compiled, plain = CropReader(detector), CropReader(detector, compiled=False)
    assert compiled._backbone is not None and plain._backbone is None
    for count in (1, 5):
        assert differences(compiled(CROPS[:count]), plain(CROPS[:count])) == pytest.approx([0, 0, 0], abs=1e-4)


class Odd(torch.nn.Module):
    """A backbone that does otherwise while it is traced."""

    def __init__(self, backbone, refuses):
        super().__init__()
        self.backbone, self.refuses = backbone, refuses

    def forward(self, image):
        if torch.jit.is_tracing() and self.refuses:
            raise RuntimeError("cannot be traced")
        return self.backbone(image) + 5.0 * torch.jit.is_tracing()


@pytest.mark.parametrize("refuses", [True, False])
def test_a_backbone_that_cannot_be_compiled_is_read_as_it_is(refuses):
    detector = AUDetector("aligned_face_small", size=32)
    detector.backbone = Odd(detector.backbone, refuses)
    reader = CropReader(detector)
    assert reader._backbone is None
    found = reader(CROPS[..., :32, :32])
    assert found.expression is None and found.intensity.shape == found.present.shape == (5, 19)
