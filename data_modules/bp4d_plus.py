"""BP4D+ (Zhang et al. 2016), v0.2: 140 people, 10 tasks, of which T1, T6, T7 and T8 are coded.

::

    2D+3D/F001/T1/000.jpg    AUCoding/AU_OCC/F001_T1.csv    AUCoding/AU_INT/AU06/F001_T1_AU06.csv
    2DFeatures/F001_T1.mat

Labels count frames from 1, pictures from 0: ``frame_offset`` is ``auto`` here.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_modules.bp4d import BP4D
from data_modules.reader import option


@dataclass
class BP4DPlus(BP4D):
    """Reader of BP4D+; the arguments are BP4D's."""

    name = "bp4d_plus"
    title = "BP4D+"

    frame_offset: str = option(
        "auto", "picture number = label frame + offset; auto = -1 where picture 0 exists", ("auto", "0", "-1")
    )
    odd_sequences: str = option("drop", "F041_T7, whose frames and labels do not match", ("drop", "keep"))

    def _must_be_coded(self, key: str) -> bool:
        return key.rpartition("_")[2] in ("T1", "T6", "T7", "T8") and not self._skip(key)

    def _skip(self, key: str) -> bool:
        if key != "F041_T7" or self.odd_sequences == "keep":
            return False
        self.choose("F041_T7 is left out: its frames and labels do not match (--odd-sequences keep)")
        return True


READER = BP4DPlus
