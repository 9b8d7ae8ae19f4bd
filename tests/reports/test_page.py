"""The report page: one file, safe, whole."""

import re

import torch
from PIL import Image

from lit_faces.reports.page import Page


def test_a_page_holds_its_pictures_and_escapes_its_words(tmp_path):
    Image.fromarray(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()).save(tmp_path / "a.png")
    page = Page("<anna> & co")
    page.facts([("pictures", "<3>")])
    page.text("a < b", note=True)
    page.heading("Set")
    page.picture(tmp_path / "a.png", 'the "source"')
    page.table(("AU", "ICC"), [("AU06", 0.5), ("AU17", "<b>")], bad=[1])
    text = page.write(tmp_path / "deep" / "report.html").read_text()
    assert "<title>&lt;anna&gt; &amp; co</title>" in text and "<b>&lt;3&gt;</b>" in text
    assert "data:image/png;base64,iVBOR" in text and 'alt="the &quot;source&quot;"' in text
    assert "<tr class=bad><td>AU17</td><td>&lt;b&gt;</td></tr>" in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched
    assert 'name="viewport"' in text


def test_best_and_worst_cells_are_marked_and_wide_plots_scroll(tmp_path):
    page = Page("runs")
    page.table(("", "a", "b"), [("icc", "0.9", "0.1")], marks={(0, 1): "best", (0, 2): "worst"})
    for name, width in (("wide", 900), ("small", 90)):
        Image.new("RGB", (width, 4)).save(tmp_path / f"{name}.png")
        page.picture(tmp_path / f"{name}.png", name)
    page.commands(["python -m lit_faces.predict a.mp4 --out <aus.csv>"])
    text = page.write(tmp_path / "page.html").read_text()
    assert "<td class=best>0.9</td><td class=worst>0.1</td>" in text
    assert text.count("<figure class=wide>") == 1 and "--out &lt;aus.csv&gt;</pre>" in text
