"""From one photo or clip to a person's own detector: set the zero, generate a set, learn from it, one page on all.

::

    done = personalise(PersonOptions(Path("anna.jpg")), SetOptions(), LearnOptions(), Path("anna"))
    done.learnt.detector, done.page

out/zero.json              the person's zero: what everything learnt afterwards must beat (lit_faces.persons.zero)
out/report.html            what changed on the source, then pictures and figures of the whole way, one file
out/set/                   the generated, verified set (:mod:`lit_faces.persons.generation`)
out/detector/              detector.safetensors, memory.safetensors, report.md (:mod:`lit_faces.persons.adaptation`)
out/results.json           the figures of both by name
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lit_faces.core.files import locked
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.models.detector import load_network
from lit_faces.persons.adaptation import LearnOptions, LearnResult, adapt, check_groups
from lit_faces.persons.before_after import OnSource
from lit_faces.persons.before_after import add_to_page as add_source
from lit_faces.persons.calibration import CalibrateOptions, calibrate
from lit_faces.persons.enrolment import enrol, entry_of, face_of_original, registry_for
from lit_faces.persons.generation import SetOptions, SetResult, Tell, make_set, prepare
from lit_faces.persons.learning_report import add_to_page, verdict
from lit_faces.persons.recipes import Step, nothing
from lit_faces.persons.reference import REFERENCE_FILE, PersonReferences
from lit_faces.persons.report import write_report
from lit_faces.persons.sets import Progress
from lit_faces.persons.source import PersonOptions
from lit_faces.persons.zero import MOST_SOURCES, Zero
from lit_faces.reports.page import Page
from lit_faces.reports.results import write_json


@dataclass
class PersonResult:
    """A person's set and detector.

    Attributes:
        made: the set.
        learnt: the detector.
        figures: flat, of both, as in results.json.
        page: the report.
    """

    made: SetResult
    learnt: LearnResult
    figures: dict[str, Any]
    page: Path


def personalise(
    person: PersonOptions,
    wanted: SetOptions,
    learning: LearnOptions,
    out: Path,
    progress: Progress = lambda slots, filled: None,
    tell: Tell = lambda line: None,
    registry: Path | None = None,
    each_step: Step = nothing,
) -> PersonResult:
    """A person's own detector; whatever of it is there already is kept.

    Args:
        person: who.
        wanted: how the set is made.
        learning: how the detector learns.
        out: folder; a run that was stopped goes on there.
        progress: called with slots done and slots filled, since the last call.
        tell: called with each note as soon as it is known.
        registry: folder of people in which the person is enrolled.
        each_step: called after each step of learning.

    Raises:
        ValueError: an option, photo or file that cannot be used; names it.
        OSError: another process works in ``out``, the disk is full, a process died.
    """
    began = time.monotonic()
    learning = replace(learning, method=learning.method or _usual_method(learning, registry is not None))
    people = None if registry is None else registry_for(registry, learning.detector)
    learning.check(out / "detector")
    check_groups(learning, person.called)
    plan, source = prepare(person, wanted, out, tell)
    with locked(out, "personalise"):
        zero = _zero(person, source.files, learning, out, tell)
        with locked(out / "set", "personalise"):
            made = make_set(source, plan, wanted, out / "set", progress)
        for line in made.summary(wanted.verify):
            tell(line)
        made.refuse_empty()
        beside = PersonReferences.load(out) if (out / REFERENCE_FILE).is_file() else None
        learnt = adapt(made.folder, learning, out / "detector", source.name, tell, zero, beside, each_step)
        if said := verdict(learnt.figures):
            tell(said)
        if learnt.already:
            tell(f"{learnt.folder}: is there already")
        seen = OnSource.read(source, learning.detector, zero, learnt.folder)
        figures = {**learnt.figures, **seen.flat(), **made.figures.flat(), "run/seconds/set": made.seconds}
        figures["run/seconds"] = time.monotonic() - began

        def first(page: Page) -> None:
            add_source(page, source, seen, out)
            add_to_page(page, learnt.folder, figures)

        page = write_report(made.folder, source, plan, made.attempts, out / "report.html", first, _following(out))[1]
        write_json(out / "results.json", figures)
        if people is not None:
            face = face_of_original(source.originals[0], FaceAnalyser()) if source.originals else None
            tell(enrol(people, source.name, entry_of(learnt.folder, face, people.detector, learning.detector)))
    return PersonResult(made, learnt, figures, page)


def _usual_method(learning: LearnOptions, delta: bool) -> str | None:
    """A delta, learnt and read beside the photo, where the detector can look at one: nobody else changes by a bit.

    A memory knows the method by which its people were learnt; a registry takes deltas only.
    """
    if learning.memory is not None:
        return None
    if load_network(learning.detector).reference is not None:
        return "delta_reference"
    return "delta" if delta else None


def _following(out: Path) -> list[str]:
    """What to do with a detector."""
    folder = shlex.quote(out.resolve().name)
    return [
        f"python -m lit_faces.predict VIDEO --detector {folder} --out aus.csv --page",
        f"python -m lit_faces.evaluate --detector {folder} --data LABELLED --out {folder}_on_labels",
    ]


def _zero(person: PersonOptions, files: Sequence[Path], learning: LearnOptions, out: Path, tell: Tell) -> Zero:
    """The zero that the sources set, of the detector that is adapted; kept in ``out``."""
    au = "auto" if person.source_au == "detector" else person.source_au  # its misreading is what is wanted
    asked = CalibrateOptions(learning.detector, au, person.face, overwrite=True)
    done = calibrate(files[:MOST_SOURCES], asked, out)
    tell(done.text)
    return done.zero
