"""A metric says itself which end of it is good."""

import importlib
import pkgutil

import pytest
import torch
from torchmetrics import Metric

import lit_faces.metrics
from lit_faces.metrics.directions import directions, figures_of, higher_is_better
from lit_faces.reports.tracking import direction

MODULES = [
    importlib.import_module(f"lit_faces.metrics.{m.name}") for m in pkgutil.iter_modules(lit_faces.metrics.__path__)
]
CLASSES = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Metric) and value.__module__ == module.__name__
}


@pytest.mark.parametrize(
    "name", [n for n in CLASSES if not n.startswith("_") and n not in ("PairMoments", "WeightedMeans")]
)
def test_every_metric_of_the_package_says_it(name):
    figures = figures_of(CLASSES[name])
    assert figures and all(isinstance(better, bool) for better in figures.values())
    for figure, better in figures.items():
        assert higher_is_better(f"test/{figure}/mean") is better


def test_a_metric_that_is_added_is_known_by_its_class_alone():
    assert higher_is_better("val/jaw_blur") is None and direction("val/whiteness") is None

    class JawBlur(Metric):
        higher_is_better = False

        def update(self, images):
            """Nothing is kept."""

        def compute(self):
            return torch.zeros(())

    class Shades(JawBlur):
        figures = {"whiteness": True, "whiteness_gap": False}

    assert higher_is_better("val/jaw_blur") is False and direction("test/jaw_blur/AU06") == "min"
    assert direction("val/whiteness") == "max" and direction("val/whiteness_gap") == "min"
    assert {"jaw_blur", "whiteness"} <= directions().keys()


def test_the_figures_of_the_house_keep_their_direction():
    up = ("val/icc/AU06", "test/f1_norm/mean", "test/is_n240_dlib_identities", "test/identity/same_share", "test/nme_found",
          "test/found_fake_n24_dlib", "test/expression/recall/mean", "test/real/identity/found", "test/au_fidelity/icc_neutral/mean")  # fmt: skip
    down = ("test/l1_changed", "test/fid_n24_dlib", "test/kid_std_n24_dlib", "test/leak/AU17", "test/identity/distance", "val/mse",
            "test/nme_median", "run/seconds/learning", "train/critic_loss", "test/forgetting_max", "person/after/mae/mean")  # fmt: skip
    assert [name for name in up if higher_is_better(name) is not True] == []
    assert [name for name in down if higher_is_better(name) is not False] == []
    assert higher_is_better("train/images") is None and higher_is_better("val/keep") is None
