"""Pictures and clips of generated faces say that they are, and of which photo they were made."""

import io
import json

import pytest
import torch
from PIL import Image

from lit_faces.core.clips import write_video
from lit_faces.core.provenance import generated_png, statement
from lit_faces.core.webm import tag_webm


def test_a_picture_carries_its_source_by_hash():
    image = torch.randint(0, 256, (3, 16, 20), dtype=torch.uint8)
    picture = Image.open(io.BytesIO(generated_png(image, "ab" * 32, {"cell": "AU06 high"})))
    assert picture.text["Comment"] == statement("ab" * 32) and "ab" * 32 in statement("ab" * 32)
    assert json.loads(picture.text["lit_faces"]) == {
        "generated": True, "source_sha256": "ab" * 32, "cell": "AU06 high"
    }  # fmt: skip
    assert picture.size == (20, 16)


@pytest.mark.parametrize("frames", [1, 70])
def test_a_clip_carries_a_tag_and_plays_as_before(tmp_path, frames):
    av = pytest.importorskip("av")

    def read(path):
        with av.open(str(path)) as clip:
            tags, video = dict(clip.metadata), clip.streams.video[0]
            pictures = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in clip.decode(video)]
            clip.seek(clip.duration // 2)
            return tags, pictures, clip.duration, next(clip.decode(video)).time

    path = write_video(tmp_path / "a.webm", torch.randint(0, 256, (frames, 3, 32, 32), dtype=torch.uint8), 10.0)
    before = read(path)
    tag_webm(path, "COMMENT", statement("cd" * 32))
    after = read(path)
    assert after[0].pop("COMMENT") == statement("cd" * 32) and after == before and len(after[1]) == frames


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.webm").write_bytes(b"RIFF nothing" * 20)
    with pytest.raises(ValueError, match="not a WebM file"):
        tag_webm(tmp_path / "a.webm", "COMMENT", "x")
    assert (tmp_path / "a.webm").read_bytes() == b"RIFF nothing" * 20
