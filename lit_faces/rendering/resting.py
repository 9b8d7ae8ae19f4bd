"""Where brows, lids and eyes rest on the mean face, and how far people differ.

Every figure here was read off the 189 hand-placed points of real neutral faces: 48 people of folds 0 and 1 of the Face
Research Lab London Set and its Canadian companion (L. DeBruine & B. Jones, figshare 5047666 and 4220517, CC BY 4.0,
altered: averaged over people and sides, in the frame of the eye corners).  The third fold is kept to check them
(``python -m benchmarks.rest``).  Heights were carried over as shares of the distance between the outer eye corners
(89.6 mm here) above the line of the corners.

    share of the outer-eye distance      measured     here
    brow's centre above the inner corner 24.8 +- 3.1  BROW_CENTRE at 31 mm
    its thickness there                   9.3 +- 2.5  BROW_HALF
    upper lid above the pupil             4.8 +- 0.9  LID_UPPER, EYE_RISE
    lids' opening                        11.7 +- 1.1  LID_UPPER + LID_LOWER
    lid's crease above its margin         4.1 +- 1.6  CREASE
"""

from __future__ import annotations

#: The line through the middle of a brow and half its thickness, mm, at distances from the midline (left side).
BROW_X = (6.0, 10.0, 14.6, 20.0, 26.0, 31.0, 38.0, 45.0, 52.0, 57.0, 60.0, 66.0)
BROW_CENTRE = (10.2, 11.2, 12.6, 14.5, 16.2, 17.2, 17.8, 17.4, 14.4, 10.8, 7.6, 0.0)
BROW_HALF = (2.6, 2.9, 3.2, 3.5, 3.9, 4.1, 4.1, 3.8, 3.0, 2.2, 1.6, 0.3)

#: Landmarks 22 to 26 (mirrored: 21 to 17), mm.  A landmarker that learnt from people puts them on the upper edge of the
#: brow: their mean over the same 48 pictures, dlib's points.
BROW_LANDMARKS = ((12.3, 15.6), (25.2, 20.4), (38.6, 21.9), (51.6, 18.5), (60.5, 9.1))

#: Upper and lower lid's height over the line of the corners, mm, and how pointed their arcs are towards the corners.
LID_UPPER, LID_LOWER, LID_POWER = 6.1, 3.3, 0.9
#: The hand-placed points of the upper lid lie in the dark line of the lashes, this far (mm) above the edge of the opening.
LASH_LINE = 0.6
#: Height of the middle of the corners, its slope to the outer corner (mm), and of the eyeball's centre over it.
CORNERS, CORNER_RISE, EYE_RISE = -3.8, 0.45, 2.5
#: Height of the crease over the lid's margin and how far people differ, mm.
CREASE, CREASE_SPREAD = 3.6, 1.6
