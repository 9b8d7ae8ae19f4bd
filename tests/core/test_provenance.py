"""Pictures and clips of generated faces say that they are, and of which photo they were made."""

import io
import json

import torch
from PIL import Image

from lit_faces.core.provenance import generated_png, statement
from lit_faces.core.video import write_video


def test_a_picture_carries_its_source_by_hash():
    image = torch.randint(0, 256, (3, 16, 20), dtype=torch.uint8)
    picture = Image.open(io.BytesIO(generated_png(image, "ab" * 32, {"cell": "AU06 high"})))
    assert picture.text["Comment"] == statement("ab" * 32) and "ab" * 32 in statement("ab" * 32)
    assert json.loads(picture.text["lit_faces"]) == {
        "generated": True, "source_sha256": "ab" * 32, "cell": "AU06 high"
    }  # fmt: skip
    assert picture.size == (20, 16)


def test_a_clip_carries_a_comment(tmp_path):
    import av

    frames = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
    write_video(tmp_path / "a.webm", frames, 10.0, comment=statement("cd" * 32))
    with av.open(str(tmp_path / "a.webm")) as clip:
        assert clip.metadata["COMMENT"] == statement("cd" * 32) and len(list(clip.decode(video=0))) == 7
