"""Which end of a figure is good, as the metrics themselves say.

A metric of one figure has torchmetrics' ``higher_is_better``; its figure goes by the name of its class. One of several
figures, or of another name, has ``figures``: the first word or words of each name, and whether more is better.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

from torchmetrics import Metric

import lit_faces.metrics

#: Figures that no metric class computes: losses, means of pixels, counts of expressions, the clock.
_PLAIN = {
    "l1": False, "loss": False, "gradient": False, "gap": False, "seconds": False, "distance": False,
    "accuracy": True, "recall": True, "correlation": True, "kept": True, "found": True,
}  # fmt: skip


def directions() -> dict[str, bool]:
    """Name of a figure -> whether more is better, of every metric of this package and every one that is imported."""
    for module in pkgutil.iter_modules(lit_faces.metrics.__path__):
        importlib.import_module(f"lit_faces.metrics.{module.name}")
    from lit_faces.metrics.continual import ResultMatrix

    table = {**_PLAIN, **ResultMatrix.figures}
    for cls in _below(Metric):  # type: ignore[type-abstract]  # it is not made, only asked for its children
        if not cls.__module__.startswith("torchmetrics."):
            table |= figures_of(cls)
    return table


def figures_of(metric: type[Metric]) -> dict[str, bool]:
    """The figures of one metric class and whether more of each is better."""
    if "figures" in vars(metric):
        return dict(vars(metric)["figures"])
    if metric.higher_is_better is None or metric.__name__.startswith("_"):
        return dict(getattr(metric, "figures", {}))
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric.__name__).lower(): metric.higher_is_better}


def _below(cls: type[Metric]) -> Iterator[type[Metric]]:
    for child in cls.__subclasses__():
        yield child
        yield from _below(child)


def higher_is_better(name: str) -> bool | None:
    """Whether more of a logged figure is better; None where neither end is.

    The last part of the name that says anything counts; in it a whole figure (``nme_found``) before its words.

    Example:
        >>> higher_is_better("test/au_fidelity/icc/AU06"), higher_is_better("val/l1_changed")
        (True, False)
    """
    table = directions()
    for part in reversed(name.lower().split("/")):
        if part in table:
            return table[part]
        words = part.split("_")
        spans = [(end - start, "_".join(words[start:end])) for start in range(len(words))
                 for end in range(start + 1, len(words) + 1)]  # fmt: skip
        known = [(length, table[words]) for length, words in spans if words in table]
        if known:
            longest = max(length for length, _ in known)
            return any(better for length, better in known if length == longest)
    return None
