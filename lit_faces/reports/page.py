"""A report as one HTML file that needs neither network nor server: pictures inside, readable on a phone."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from lit_faces.core.files import replace_file

_WIDE = 800  # pixels: wider plots scroll sideways on a phone instead of shrinking until nobody can read them
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #3a6ea5; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .4rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .4rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; border-radius: 4px; background: #fff; }
figcaption { font-size: .9rem; opacity: .8; margin-top: .3rem; }
@media (max-width: 40rem) {
  .wide { overflow-x: auto; } .wide img { max-width: none; width: 44rem; }
  th, td { padding: .25rem .35rem !important; } .facts li { padding: .3rem .6rem !important; }
}
.scroll { overflow-x: auto; } .row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row figure { flex: 1 1 20rem; min-width: 0; margin: 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--line); }
pre { background: var(--soft); border-radius: 6px; padding: .6rem .8rem; font-size: .85rem; }
tr.bad td, td.worst { color: #b3261e; } td.best { font-weight: 700; color: #1e7d4f; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; list-style: none; }
.facts li { background: var(--soft); border-radius: 6px; padding: .5rem .8rem; overflow-wrap: anywhere; }
.facts b { display: block; font-size: 1.25rem; } .note { border-left: 3px solid var(--accent); padding-left: .8rem; }
"""


class Page:
    """A page that is built from top to bottom.

    Args:
        title: of the page.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """A section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, note: bool = False) -> None:
        """A paragraph; a note stands out."""
        self._parts.append(f"<p{' class=note' if note else ''}>{html.escape(text)}</p>")

    def commands(self, lines: Sequence[str]) -> None:
        """What to type next; scrolls sideways on small screens."""
        self._parts.append(f"<pre class=scroll>{html.escape(chr(10).join(lines))}</pre>")

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Figures in large type, each with what it is."""
        items = "".join(f"<li><b>{html.escape(value)}</b>{html.escape(name)}</li>" for name, value in facts)
        self._parts.append(f"<ul class=facts>{items}</ul>")

    def picture(self, path: Path, caption: str, largest: int | None = None) -> None:
        """A PNG or JPEG, put into the page.

        Args:
            path: file.
            caption: what it shows; also read aloud.
            largest: width in CSS pixels, at most.
        """
        self._parts.append(_figure(path, caption, largest))

    def pictures(self, shown: Sequence[tuple[Path, str]]) -> None:
        """Pictures with their captions side by side, below each other on a narrow screen."""
        if len(shown) == 1:
            self.picture(*shown[0])
        else:
            self._parts.append(f"<div class=row>{''.join(_figure(path, caption) for path, caption in shown)}</div>")

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[object]],
        bad: Sequence[int] = (),
        marks: Mapping[tuple[int, int], str] | None = None,
    ) -> None:
        """A table that scrolls sideways on small screens.

        Args:
            head: of the columns.
            rows: cells.
            bad: rows that are marked.
            marks: ``best`` or ``worst`` by row and column.
        """
        marks = marks or {}
        names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        lines = []
        for number, row in enumerate(rows):
            mark = " class=bad" if number in bad else ""
            classes = [f" class={marks[number, k]}" if (number, k) in marks else "" for k in range(len(row))]
            cells = "".join(f"<td{name}>{html.escape(str(cell))}</td>" for name, cell in zip(classes, row))
            lines.append(f"<tr{mark}>{cells}</tr>")
        self._parts.append(
            f"<div class=scroll><table><thead><tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        )

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all."""
        head = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{head}{''.join(self._parts)}</body></html>\n".encode())
        return path


def _figure(path: Path, caption: str, largest: int | None = None) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    content = path.read_bytes()
    data = base64.b64encode(content).decode()
    width = f' style="width:{largest}px"' if largest else ""
    words = html.escape(caption)
    wide = " class=wide" if kind == "png" and int.from_bytes(content[16:20], "big") > _WIDE else ""
    return (
        f'<figure{wide}><img{width} alt="{words}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )
