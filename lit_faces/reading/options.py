"""How `predict` reads: one type owns the knobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lit_faces.core.options import at_least, one_of, option
from lit_faces.core.shipped import DETECTOR_HELP
from lit_faces.reading.formats import FORMATS
from lit_faces.tasks.black_box import OWN_HELP, is_own


@dataclass(frozen=True)
class PredictOptions:
    """How faces are found and read, and what is written; each field's help says what it is."""

    detector: str = option("generic", DETECTOR_HELP + OWN_HELP)
    format: str = option("", f"of the table: {', '.join(FORMATS)} (default: by the name's ending, else csv)")
    landmarks: bool = option(False, "also the 68 landmarks, pixels of the picture")
    registry: Path | None = option(None, "folder of people: who is known is read as their own")
    person: str | None = option(None, "who it is, of the registry")
    recognise: bool = option(False, "look who it is, once a track; whom the registry does not know is read as anybody")
    zero: str = option("none", "the person's resting face: none, auto (of the clip itself), a resting PHOTO, a .json")
    detect_every: float = option(0.5, "seconds between detections on the whole picture; 0: in every frame")
    seconds: float | None = option(None, "of a camera (default: until Ctrl-C)")
    overlay: Path | None = option(None, "also the video with landmarks and bars drawn on it (.mp4 or .webm)")
    plot: bool = option(False, "also a plot of the AUs over time, NAME.png")
    page: bool = option(False, "also a page to look at, NAME.html")
    batch: int = option(16, "faces that the network reads at once")
    accelerator: str = option("auto", "auto, cpu or gpu")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        if self.format:
            one_of("format", self.format, FORMATS)
        at_least("batch", self.batch, 1)
        if self.registry is None and (self.person is not None or self.recognise):
            raise ValueError("--person, --recognise: of whom? add --registry DIR, a folder that `people` has made")
        if self.registry is not None and self.zero != "none":
            raise ValueError("--zero: the registry has everybody's own: leave --zero or --registry out")
        if self.registry is not None and is_own(self.detector):
            raise ValueError("--registry: its deltas change the weights of our detector; a class path has none of them")
        if not 0 <= self.detect_every <= 60:
            raise ValueError(f"--detect-every: expected 0 to 60 seconds, got {self.detect_every!r}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"--seconds: expected a number above 0, got {self.seconds!r}")
        if self.overlay is not None and self.overlay.suffix.lower() not in (".mp4", ".webm"):
            raise ValueError(f"--overlay: expected a name that ends with .mp4 or .webm, got {str(self.overlay)!r}")

    def table_format(self, out: Path) -> str:
        """The format of a table of this name."""
        return self.format or ("parquet" if out.suffix.lower() == ".parquet" else "csv")

    @property
    def keeps_landmarks(self) -> bool:
        """Whether they are needed for anything that is written."""
        return self.landmarks or self.format == "fex" or self.overlay is not None
