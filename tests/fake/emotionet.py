"""A look-alike of EmotioNet: quoted headers, 999, an old list with tabs, nested folders, pictures not downloaded."""

from __future__ import annotations

from pathlib import Path

from lit_faces.core.facs import AU_INDEX
from tests.fake.faces import NAN, Expected, framed, people, save, table, text

LISTED = tuple(range(1, 61))


def _codes(i: int) -> list[int]:
    return [999 if au % 7 == 0 else int((au + i) % 5 == 0) for au in LISTED]


LACKS = 1  # one download, on purpose


def write(root: Path, seed: int = 0) -> list[Expected]:
    """Write a table of four pictures, the third not downloaded, and an old list of two."""
    faces = people(6, 1, seed)
    header = ",".join(["URL", "URL orig", *(f"'AU {au}'" for au in LISTED)])
    lines, old = [header], []
    for i in range(6):
        stem = f"N_{i:010d}_{i:05d}"
        url = f"http://cbcsnas01.example/images/{stem}.jpg"
        cells = [url, f"http://elsewhere.example/{i}.jpg", *map(str, _codes(i))]
        (lines if i < 4 else old).append((",", "\t")[i >= 4].join(cells))
        if i != 2:
            suffix = "JPG" if i == 1 else "jpg"
            save(root / "images" / f"{i % 2}" / f"{stem}.{suffix}", framed(faces.image[i]))
    text(root / "EmotioNet_FACS_aws_2020_24600.csv", "\n".join(lines) + "\n")
    text(root / "dataFile_0001.txt", "\n".join(old) + "\n")
    out = []
    for key, shown, frames in (
        ("EmotioNet_FACS_aws_2020_24600_0000", (0, 1, 3), [2, 3, 5]),
        ("dataFile_0001_0000", (4, 5), [1, 2]),
    ):
        present = table(len(shown))
        for row, i in enumerate(shown):
            for au, code in zip(LISTED, _codes(i)):
                if au in AU_INDEX:
                    present[row, AU_INDEX[au]] = NAN if code == 999 else code
        out.append(Expected(key, "emotionet:*", frames, table(len(shown)), present, [], "train"))
    return out
