"""How `predict` reads: one type owns the knobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lit_faces.core.options import at_least, one_of, option
from lit_faces.core.shipped import DETECTOR_HELP
from lit_faces.reading.formats import FORMATS


@dataclass(frozen=True)
class PredictOptions:
    """How faces are found and read, and what is written; each field's help says what it is."""

    detector: str = option("generic", DETECTOR_HELP)
    format: str = option("", f"of the table: {', '.join(FORMATS)} (default: by the name's ending, else csv)")
    landmarks: bool = option(False, "also the 68 landmarks, pixels of the picture")
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
