"""From jobs to tables: what `predict` does for each video, for all photos together, or for a camera.

=====================  =============================================================================================
out.csv                the table (or ``.parquet``)
out.json               what it was made with: detector, zero, people, notes, versions
out.png, out.html      with ``plot`` and ``page``
out.partial.csv        while it is being made: :mod:`lit_faces.reading.partial`
=====================  =============================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_faces import __version__
from lit_faces.core.clips import SAME_PERSON
from lit_faces.core.containers import missing_bytes
from lit_faces.core.devices import device_of
from lit_faces.core.files import locked
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.signals import SIGNALS
from lit_faces.core.video import length_hint
from lit_faces.models.adapters import detector_code
from lit_faces.models.detector import DetectorNetwork
from lit_faces.persons.gate import Gate
from lit_faces.persons.readers import person_detector, word_of
from lit_faces.persons.reference import REFERENCE_FILE
from lit_faces.persons.registry import INDEX, Registry
from lit_faces.reading.detector import read_zero
from lit_faces.reading.formats import write_table
from lit_faces.reading.options import PredictOptions
from lit_faces.reading.partial import Partial
from lit_faces.reading.people import People
from lit_faces.reading.pipeline import Part, read_photos, read_video
from lit_faces.reading.rows import MARGIN, FaceRow
from lit_faces.reading.sources import Job, camera_shots, video_shots
from lit_faces.reading.tracking import FaceTracker
from lit_faces.reading.zero import RestingEstimate, Zeros
from lit_faces.reports.results import circumstances, write_json
from lit_faces.tasks.black_box import FaceReader, code_of

#: Called with how far a job is (seconds of a video, photos) and the rows so far; total 0 = not known.
Progress = Callable[[Job, float, float, int], None]


@dataclass
class Outcome:
    """What became of a job.

    Attributes:
        table: file.
        frames: frames or photos that were looked at.
        rows: rows of the table.
        found: frames with a face.
        faces: rows with a face.
        people: face ids, each with its number of frames.
        trouble: what could not be read; one line each.
        notes: what a user should know.
        already: the table was there.
        photos: ids are places from left to right, not people.
        files: what else was written.
    """

    table: Path
    frames: int = 0
    rows: int = 0
    found: int = 0
    faces: int = 0
    people: dict[int, int] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    already: bool = False
    photos: bool = False
    files: list[Path] = field(default_factory=list)

    def count(self, rows: list[FaceRow]) -> None:
        """The rows of one more frame."""
        self.frames += 1
        self.rows += len(rows)
        self.found += any(row.success for row in rows)
        for row in rows:
            if row.success:
                self.people[row.person] = self.people.get(row.person, 0) + 1
                self.faces += 1


_ONE_PERSON = (
    "{} faces were all read beside the pictures of one person: for clips of several people enrol them "
    "(`python -m lit_faces.people REGISTRY --add NAME --from DIR --photo PHOTO`) and use --registry with --recognise"
)


class Predictor:
    """Reads jobs with one detector.

    Args:
        options: how.
    """

    def __init__(self, options: PredictOptions) -> None:
        self.options = options
        detector = person_detector(options.detector)
        detector.to(device_of(options.accelerator))
        beside = isinstance(detector, DetectorNetwork) and detector.references is not None
        self._beside = hashlib.sha256((Path(options.detector) / REFERENCE_FILE).read_bytes()) if beside else None
        self._code = code_of(word_of(options.detector))  # of what was loaded, whatever lies there later
        self.gate = _gate(detector, options)
        self.detector: FaceReader | Gate = detector if self.gate is None else self.gate
        self.analyser = FaceAnalyser()
        self._zero = read_zero(options.zero, detector, self.analyser)

    def run(self, job: Job, out: Path, progress: Progress = lambda *_: None) -> Outcome:
        """Read a job, or what is left of it, and write its table.

        Raises:
            FileNotFoundError, ValueError: nothing of it can be read; names it.
            OSError: the disk is full; another process writes this table; a file of somebody else's is in its place.
        """
        about = self._about(job)
        if job.kind != "camera" and _is_done(out, self._facts(about)):
            return Outcome(out, already=True)
        _refuse_foreign(out)
        with locked(out.parent, "predict", name=f".{out.stem}.lock") as lock:
            partial = Partial(out, self.options.keeps_landmarks, about)
            done = Outcome(out, photos=job.kind == "photos")
            for rows in _by_frame(partial.rows()) if partial.frame >= 0 else ():
                done.count(rows)
            tracker = FaceTracker(self.options.detect_every, self.analyser)
            try:
                self._read(job, partial, tracker, done, progress)
            except BaseException:
                partial.close()
                if not done.frames:
                    partial.remove()
                raise
            self._finish(job, partial, tracker.people, done, self._facts(about))
            lock.unlink(missing_ok=True)
        return done

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, job: Job, partial: Partial, tracker: FaceTracker, done: Outcome, progress: Progress) -> None:
        if job.kind == "video" and partial.state:
            tracker.restore(partial.state)
        if self.gate is not None:
            self.gate.restore(partial.state)
        total = length_hint(job.paths[0]) if job.kind == "video" else float(len(job.paths))
        part = None
        try:
            for part in self._parts(job, partial.frame, tracker):
                partial.append(part.rows)
                done.count(part.rows)
                if part.trouble:
                    done.trouble.append(part.trouble)
                if part.state is not None:
                    partial.keep(part.number, part.seconds, part.state)
                progress(job, part.seconds if job.kind == "video" else part.number + 1.0, total, done.rows)
        except KeyboardInterrupt:
            if job.kind != "camera":
                raise
            SIGNALS.answered()
        partial.close()

    def _parts(self, job: Job, after: int, tracker: FaceTracker) -> Iterator[Part]:
        size = self.options.batch
        if job.kind == "photos":
            return read_photos(job.paths[after + 1 :], self.detector, self.analyser, size, after + 1)
        if job.kind == "camera":
            shots = camera_shots(job.camera, self.options.seconds)
            return read_video(shots, job.title, self.detector, tracker, 1)
        return read_video(video_shots(job.paths[0], after), job.paths[0].name, self.detector, tracker, size)

    # -- the person's zero -------------------------------------------------------------------------------------------

    def _zeros(self, job: Job, partial: Partial, people: People, seen: dict[int, int]) -> Zeros:
        if self.options.zero == "auto" and job.kind == "photos":
            return Zeros(
                notes=["--zero auto: photos do not say who is who; nothing was taken off: name a resting photo"]
            )
        if self.options.zero == "auto":
            return RestingEstimate().add(partial.rows()).zeros()
        if self.gate is not None:
            return self._zeros_of_known(self.gate, job, seen)
        if self._zero is None:
            crowd = self._beside is not None and len(seen) > 1
            return Zeros(notes=[_ONE_PERSON.format(len(seen))] if crowd else [])
        zero, face = self._zero
        found = Zeros("file" if face is None else "photo")
        if face is None or not people.means or len(seen) <= 1:
            found.people = {who: zero for who in seen}
            return found
        near = {who: distance for who, distance in enumerate(people.distances(face)) if who in seen}
        who = min(near, key=lambda one: near[one])
        if near[who] < SAME_PERSON:
            found.people[who] = zero
            found.notes.append(f"--zero: the resting photo shows face {who}; the other faces keep their readings")
        else:
            found.notes.append("--zero: the resting photo shows none of the faces of the video; nothing was taken off")
        return found

    def _zeros_of_known(self, gate: Gate, job: Job, seen: dict[int, int]) -> Zeros:
        """Of people in the registry who have a zero and no delta; and who was known."""
        found = Zeros("registry")
        if job.kind == "photos":  # ids are places there, and one person may stand at several
            return found
        for who, name in sorted(gate.known.items()):
            if who in seen and (zero := gate.zero_of(name)) is not None:
                found.people[who] = zero
        named = [f"face {who} is {name}" for who, name in sorted(gate.known.items()) if who in seen and name]
        others = len(seen) - len(named)
        found.notes.append(f"--registry: {', '.join(named) or 'nobody is known'}; {others} read as anybody")
        if not self.options.recognise and len(seen) > 1:
            found.notes.append(
                f"--person: {len(seen)} faces were all read as {gate.person}; --recognise tells them apart"
            )
        return found

    # -- writing -----------------------------------------------------------------------------------------------------

    def _finish(self, job: Job, partial: Partial, people: People, done: Outcome, facts: dict[str, Any]) -> None:
        options, out = self.options, done.table
        if not done.rows:
            partial.remove()
            raise ValueError(f"{job.title}: it gave no frame; look at it with another program")
        zeros = self._zeros(job, partial, people, done.people)
        done.notes += zeros.notes
        if not done.found:
            done.notes.append(
                f"{job.title}: no face in any of {done.frames} frames; the table says success 0 everywhere"
            )
        if job.kind == "video" and (lacking := missing_bytes(job.paths[0])):
            done.trouble.append(
                f"{job.title}: the clip is cut short (at least {lacking} bytes are missing); the {done.frames} frames "
                f"that are there are in {out}"
            )
        lost = sum(row.width == 0 for row in partial.rows()) if job.kind == "video" else 0
        if lost:
            done.trouble.append(f"{job.title}: {lost} of {done.frames} frames cannot be decoded; success is 0 there")

        def rows() -> Iterator[FaceRow]:
            return map(zeros.of, partial.rows())

        write_table(out, rows(), options.table_format(out), options.landmarks, job.kind == "photos")
        if options.plot or options.page:
            from lit_faces.reading.pages import write_page, write_plot

            done.files.append(write_plot(out.with_suffix(".png"), rows(), job.title))
            if options.page:
                done.files.append(
                    write_page(out.with_suffix(".html"), job.title, rows(), done, zeros, options.detector)
                )
        if options.overlay is not None and job.kind == "video":
            from lit_faces.reading.overlay import write_overlay

            done.files.append(write_overlay(options.overlay, job.paths[0], _by_frame(rows())))
        found: dict[str, Any] = {"frames": done.frames, "rows": done.rows, "frames_with_a_face": done.found}
        faces = {} if done.photos else {str(who): count for who, count in sorted(done.people.items())}
        found |= {"faces": faces, "zero": zeros.facts()}
        found |= {"notes": done.notes, "trouble": done.trouble}
        write_json(out.with_suffix(".json"), {**facts, **found, **circumstances()})
        partial.remove()

    def _about(self, job: Job) -> dict[str, Any]:
        """What the rows depend on."""
        found = [(path, path.stat()) for path in job.paths]
        return {
            "files": [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in found],
            "detector": self._code,
            **self._about_people(),
            "detect_every": self.options.detect_every,
            "lit_faces": __version__,
        }

    def _about_people(self) -> dict[str, Any]:
        """Who may be known, and beside whose pictures is read; nothing where nobody is."""
        if self.gate is None:
            return {} if self._beside is None else {"references": self._beside.hexdigest()[:12]}
        index = (self.gate.registry.folder / INDEX).read_bytes()
        asked = {"person": self.gate.person, "recognise": self.gate.recognise, "threshold": self.gate.threshold}
        return {"registry": {"index": hashlib.sha256(index).hexdigest()[:12], **asked}}

    def _facts(self, about: dict[str, Any]) -> dict[str, Any]:
        """What the table depends on."""
        asked = {"format": self.options.format, "zero_asked": self.options.zero, "landmarks": self.options.landmarks}
        asked |= {"plot": self.options.plot, "page": self.options.page, "overlay": str(self.options.overlay or "")}
        return {"about": about, **asked, "expression_margin": MARGIN}


def _gate(detector: FaceReader, options: PredictOptions) -> Gate | None:
    """Who is read as their own; None: nobody."""
    if options.registry is None:
        return None
    assert isinstance(detector, DetectorNetwork)  # the options refuse others
    registry = Registry(options.registry, detector_code(detector))
    return Gate(detector, registry, options.person, options.recognise)


def _said_of(out: Path) -> dict[str, Any]:
    """What stands beside a table of ours; nothing where it is somebody else's."""
    try:
        said = json.loads(out.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) and "about" in said else {}


def _is_done(out: Path, facts: dict[str, Any]) -> bool:
    said = _said_of(out)
    return out.is_file() and bool(said) and all(said.get(name) == value for name, value in facts.items())


def _refuse_foreign(out: Path) -> None:
    """Only tables of ours are replaced.

    Raises:
        FileExistsError: there is another file of that name, or of that of the facts beside it.
    """
    beside = out.with_suffix(".json")
    for path in (out, beside):
        if path.exists() and not _said_of(out):
            raise FileExistsError(f"{path}: is there already, and no `predict` wrote it; choose another --out")


def _by_frame(rows: Iterator[FaceRow]) -> Iterator[list[FaceRow]]:
    """Rows of one frame (or photo) together."""
    group: list[FaceRow] = []
    for row in rows:
        if group and (row.frame, row.file) != (group[-1].frame, group[-1].file):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
