"""From Python: what the commands do, as functions.

::

    import lit_faces

    detector = lit_faces.load("generic")          # or "anna", the folder that personalise wrote
    found = detector("photo.jpg")                 # path, array (H, W, 3), tensor (3, H, W), list
    found.intensity["AU12"]

    from lit_faces import api

    api.calibrate("anna.jpg", "anna_zero").zero.offset
    api.generate("anna.jpg", "anna_set")
    api.personalise("anna.jpg", "anna")

They live here and not in ``lit_faces`` itself, where ``lit_faces.generate`` is the module of the command. Nothing heavy
is imported before a function is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from lit_faces.persons.adaptation import LearnOptions
    from lit_faces.persons.calibration import Calibrated, CalibrateOptions
    from lit_faces.persons.generation import SetOptions, SetResult
    from lit_faces.persons.personalisation import PersonResult
    from lit_faces.persons.source import PersonOptions
    from lit_faces.reading.detector import Detector

    Person: TypeAlias = str | Path | Sequence[str | Path] | PersonOptions

__all__ = ["calibrate", "generate", "load", "personalise"]


def load(detector: str | Path = "generic", accelerator: str = "auto") -> Detector:
    """A detector that finds, aligns and reads the faces of pictures and videos.

    Args:
        detector: ``generic``, the folder that ``personalise`` or ``adapt`` wrote, or weights (``.safetensors``).
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        FileNotFoundError: no such detector.
        ValueError: truncated, or not a detector; no GPU.
    """
    from lit_faces.reading.detector import Detector

    return Detector(detector, accelerator)


def calibrate(
    sources: str | Path | Sequence[str | Path], out: str | Path, wanted: CalibrateOptions | None = None
) -> Calibrated:
    """A person's zero from photos or clips, as ``python -m lit_faces.calibrate``.

    Args:
        sources: photo or clip of the person, best at rest; or several.
        out: folder of the person; what is given is pooled with a zero that is there.
        wanted: how it is set.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError, OSError: says what is wrong.
    """
    from lit_faces.persons.calibration import CalibrateOptions
    from lit_faces.persons.calibration import calibrate as made

    several = [sources] if isinstance(sources, str | Path) else list(sources)
    return made([Path(one) for one in several], wanted or CalibrateOptions(), Path(out))


def generate(source: Person, out: str | Path, wanted: SetOptions | None = None) -> SetResult:
    """A verified set of one person's face, as ``python -m lit_faces.generate``.

    Args:
        source: photo, clip, folder of photos, or several of these; :class:`PersonOptions` where more is to be said.
        out: folder to write; a stopped run goes on there.
        wanted: how the set is made.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError, OSError: says what is wrong.
    """
    from lit_faces.persons.generation import SetOptions
    from lit_faces.persons.generation import generate as made

    return made(_person(source), wanted or SetOptions(), Path(out))


def personalise(
    source: Person,
    out: str | Path,
    wanted: SetOptions | None = None,
    learning: LearnOptions | None = None,
) -> PersonResult:
    """A person's own detector from a photo or clip, as ``python -m lit_faces.personalise``.

    Args:
        source: photo, clip, folder of photos, or several of these; :class:`PersonOptions` where more is to be said.
        out: folder to write; ``load(out)`` reads with what is in it.
        wanted: how the set is made.
        learning: how it is learnt.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError, OSError: says what is wrong.
    """
    from lit_faces.persons.adaptation import LearnOptions
    from lit_faces.persons.generation import SetOptions
    from lit_faces.persons.personalisation import personalise as made

    return made(_person(source), wanted or SetOptions(), learning or LearnOptions(), Path(out))


def _person(source: Person) -> PersonOptions:
    from lit_faces.persons.source import PersonOptions

    if isinstance(source, PersonOptions):
        return source
    first, *more = [source] if isinstance(source, str | Path) else source
    return PersonOptions(Path(first), more=tuple(map(Path, more)))
