"""Generate a person's set: photo or clip -> person -> plan -> verified pictures -> page.

::

    made = generate(PersonOptions(Path("anna.jpg")), SetOptions(n=300), Path("anna_set"))
    made.figures.kept, made.page

out/shard-*.tar, index.arrow, manifest.json   the set: ``adapt --person``, ``fit`` and ``evaluate`` read it
out/report.html                               pictures first, then figures; contact.png, source.png and the plots beside
out/attempts.csv                              every picture that was asked for, kept or not, and why
out/results.json                              the figures by name
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_faces.core.devices import device_of
from lit_faces.core.facs import au_numbers
from lit_faces.core.files import locked
from lit_faces.core.labelled import read_labelled
from lit_faces.core.options import at_least, check_out, one_of, option
from lit_faces.core.shipped import GENERATOR_HELP, JUDGE_HELP, PHOTO_HEAD
from lit_faces.models.detector import load_network
from lit_faces.persons.driving import DriveOptions, drive, notes_of
from lit_faces.persons.generators import load_generator
from lit_faces.persons.maker import Attempt, Settings
from lit_faces.persons.painters import check_eyes, enlarged
from lit_faces.persons.plan import PLANS, Plan, make_plan, prior_of
from lit_faces.persons.report import Figures, summarise, write_report
from lit_faces.persons.sets import Progress, write_set
from lit_faces.persons.source import PersonOptions, PersonSource, read_person
from lit_faces.persons.verify import LABELS, Tolerances
from lit_faces.reports.results import circumstances, write_json

Tell = Callable[[str], None]
_LIMITS = Tolerances()


def read_focus(text: str) -> tuple[int, ...]:
    """``"6,17"`` to numbers, ``"none"`` to none.

    Raises:
        ValueError: cannot be read.
    """
    if text.strip().lower() in ("", "none"):
        return ()
    try:
        return au_numbers(text)
    except ValueError as error:
        raise ValueError(f"--focus: {error}") from None


@dataclass(frozen=True)
class SetOptions:
    """How a person's set is made; each field's help says what it is."""

    n: int = option(300, "pictures wanted")
    plan: str = option("balanced", ", ".join(PLANS))
    prior: Path | None = option(None, "labelled set whose AU combinations the plan natural follows")
    generator: str = option(PHOTO_HEAD, GENERATOR_HELP)
    size: int | None = option(None, "side of the pictures: 128 to 512 (default: 256; 128 if learnt)")
    judge: str = option("packaged", JUDGE_HELP)
    attempts: int | None = option(None, "for each picture, at most (default: 3; 8 of a learnt generator)")
    labels: str = option("agreed", ", ".join(LABELS))
    max_nme: float = option(_LIMITS.nme, "landmark error")
    max_identity: float = option(_LIMITS.identity, "distance from the source")
    max_leak: float = option(_LIMITS.leak, "of AUs that were not asked, grades")
    focus: tuple[int, ...] = option(_LIMITS.focus, "AUs verified in every picture, or none", read=read_focus)
    verify: bool = option(True, "keep every picture, labelled as asked", flag="--no-verify")
    seed: int = option(0, "of everything")
    jobs: int = option(min(os.cpu_count() or 1, 8), "processes")
    accelerator: str = option("auto", "cpu, gpu or auto")
    overwrite: bool = option(False, "throw away what --out holds that was made otherwise")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        for name in ("n", "jobs"):
            at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0)
        one_of("plan", self.plan, PLANS)
        if self.prior is not None and self.plan != "natural":
            raise ValueError(f"--prior belongs to --plan natural, not {self.plan}")
        _ = self.settings  # checks the others

    @cached_property
    def settings(self) -> Settings:
        """What the pictures depend on besides person and plan."""
        limits = Tolerances(focus=self.focus, leak=self.max_leak, nme=self.max_nme, identity=self.max_identity)
        return Settings(
            self.generator,
            self.judge,
            self.most_attempts,
            self.labels,
            self.verify,
            limits,
            "cpu" if self.generator == PHOTO_HEAD else device_of(self.accelerator),
            self.size,
        )

    @property
    def most_attempts(self) -> int:
        """How often a picture is asked for: a photo head shows what is asked at once, or never."""
        return self.attempts if self.attempts is not None else 3 if self.generator == PHOTO_HEAD else 8

    def make_plan(self) -> Plan:
        """The plan.

        Raises:
            ValueError, OSError: of the prior.
        """
        prior = None if self.prior is None else prior_of(read_labelled(self.prior, 32, need="intensity").au_intensity)
        return make_plan(self.plan, self.n, self.seed, prior)

    def check_weights(self) -> None:
        """Load once what every process will load: a wrong file must not leave a folder behind.

        Raises:
            ValueError, OSError: names the file.
        """
        if self.generator != PHOTO_HEAD:
            load_generator(self.generator)
        if self.verify:
            load_network(self.judge)

    def tracked(self) -> dict[str, Any]:
        """The options that say nothing of who it is, nor where anything lies."""
        names = (
            "n",
            "plan",
            "attempts",
            "labels",
            "max_nme",
            "max_identity",
            "max_leak",
            "focus",
            "verify",
            "seed",
            "size",
        )
        return {**{name: getattr(self, name) for name in names}, "attempts": self.most_attempts}


@dataclass
class SetResult:
    """A set that is finished.

    Attributes:
        folder: where it is.
        source: the person.
        plan: what was asked.
        attempts: every picture that was asked for.
        figures: of the set.
        seconds: that it took.
        page: its report, where one was written.
        flat: what results.json says.
        driven: the video of the person acting, where that was asked.
    """

    folder: Path
    source: PersonSource
    plan: Plan
    attempts: list[Attempt]
    figures: Figures
    seconds: float
    page: Path | None = None
    flat: dict[str, Any] = field(default_factory=dict)
    driven: Path | None = None

    @property
    def notes(self) -> list[str]:
        """What a user should know."""
        return [*self.source.notes, *self.plan.notes]

    def refuse_empty(self) -> None:
        """Nothing can be learnt from nothing.

        Raises:
            ValueError: no picture was kept.
        """
        if not self.figures.kept:
            raise ValueError(f"{self.folder}: no picture passed the verification; attempts.csv has the reasons")

    def summary(self, verified: bool = True) -> list[str]:
        """A few lines on what became of the set."""
        figures = self.figures
        lines = [
            f"{figures.kept} of {figures.slots} pictures kept ({figures.attempts} asked for, {self.seconds:.0f} s)"
        ]
        if verified:
            icc = ", ".join(f"AU{n} {figures.icc_kept[f'AU{n:02d}']:.2f}" for n in (6, 17))
            lines.append(f"asked against achieved, ICC(3,1) of what was kept: {icc}")
        if figures.short:
            some = ", ".join(figures.short[:8])
            lines.append(f"cells with too few pictures: {some}{' ...' if len(figures.short) > 8 else ''}")
        return lines


def generate(
    person: PersonOptions,
    options: SetOptions,
    out: Path,
    progress: Progress = lambda slots, filled: None,
    tell: Tell = lambda line: None,
    driving: DriveOptions | None = None,
) -> SetResult:
    """A person's own training set, balanced, verified and labelled, with its report.

    Args:
        person: who.
        options: how.
        out: folder; a run that was stopped goes on there.
        progress: called with slots done and slots filled, since the last call.
        tell: called with each note as soon as it is known.
        driving: a clip that the person acts like.

    Raises:
        ValueError: an option, photo or weight file that cannot be used; names it. Or no picture was kept.
        OSError: another process works in ``out``, the disk is full, a process died.
    """
    began = time.monotonic()
    clip = driving.read() if driving is not None else None
    for note in notes_of(clip) if clip is not None else ():
        tell(note)
    plan, source = prepare(person, options, out, tell)
    with locked(out, "generate"):
        made = make_set(source, plan, options, out, progress)
        _, made.page = write_report(out, source, plan, made.attempts, following=_following(out))
        if clip is not None:
            made.driven = drive(clip, source, out, options.generator, person.detector, options.settings.pixels(source))
        made.seconds = time.monotonic() - began
        made.flat = {
            **made.figures.flat(), "run/seconds": made.seconds, "run/source_sha256": source.sha256,
            "run/seed": options.seed, "run/neutral_probability": source.neutral, "run/fit_error": source.fits[0].error,
            **circumstances(),
        }  # fmt: skip
        write_json(out / "results.json", made.flat)
    made.refuse_empty()
    return made


def _following(out: Path) -> list[str]:
    """What to do with a set."""
    called = out.resolve().name
    return [
        f"python -m lit_faces.adapt --person {shlex.quote(called)} --out {shlex.quote(f'{called}_detector')}",
        f"python -m lit_faces.predict VIDEO --detector {shlex.quote(f'{called}_detector')} --out aus.csv --page",
    ]


def prepare(person: PersonOptions, options: SetOptions, out: Path, tell: Tell) -> tuple[Plan, PersonSource]:
    """Plan and person; what cannot be is refused before anything is written, cheap checks first."""
    check_out(out)
    plan = options.make_plan()
    options.check_weights()
    source = read_person(person)
    if options.generator == PHOTO_HEAD:
        check_eyes(source)
        source.notes += enlarged(source, options.settings.pixels(source))
    for note in [*source.notes, *plan.notes]:
        tell(note)
    return plan, source


def make_set(
    source: PersonSource, plan: Plan, options: SetOptions, out: Path, progress: Progress = lambda slots, filled: None
) -> SetResult:
    """Generate and verify, or what is missing of it; the caller holds the lock of ``out``.

    Raises:
        ValueError: ``out`` holds another set.
        OSError: see :func:`lit_faces.persons.sets.write_set`.
    """
    began = time.monotonic()
    attempts = write_set(out, source, plan, options.settings, options.jobs, progress, options.overwrite)
    return SetResult(out, source, plan, attempts, summarise(plan, attempts), time.monotonic() - began)
