import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_faces.core.landmarks import FaceAnalyser, outer_eye_distance
from lit_faces.core.photos import load_photo, source_from_photo
from lit_faces.core.sample import check_sample

REAL = Path(os.environ.get("LIT_FACES_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data")) / "real"
ORIENTATION = 0x0112  # EXIF tag


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    return FaceAnalyser()


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    from skimage import data

    return Image.fromarray(data.astronaut()).crop((96, 16, 352, 272))


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture whose four corners all differ."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // (height - 1), x * 255 // (width - 1), 255 - y * 255 // (height - 1)], 2).astype(
        np.uint8
    )


def test_an_rgb_photo_is_read_as_it_is(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    assert np.array_equal(load_photo(tmp_path / "a.png"), gradient())
    assert np.array_equal(load_photo(str(tmp_path / "a.png")), gradient())


def test_grey_and_palette_photos_become_rgb(tmp_path):
    Image.fromarray(gradient()).convert("L").save(tmp_path / "grey.jpg", quality=95)
    Image.fromarray(gradient()).quantize(64).save(tmp_path / "palette.gif")
    grey = load_photo(tmp_path / "grey.jpg")
    assert grey.shape == (40, 60, 3) and (grey[..., 0] == grey[..., 2]).all()
    assert np.abs(load_photo(tmp_path / "palette.gif").astype(int) - gradient()).mean() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_mid_grey(tmp_path, mode):
    image = Image.fromarray(gradient()).convert(mode)
    image.putalpha(
        Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 40, 0)).resize((60, 40), Image.Resampling.NEAREST)
    )
    image.save(tmp_path / "alpha.png")
    loaded = load_photo(tmp_path / "alpha.png")
    opaque = np.asarray(Image.fromarray(gradient()).convert(mode[:-1]).convert("RGB"))
    assert (loaded[:, :30] == 128).all() and np.array_equal(loaded[:, 30:], opaque[:, 30:])


def test_a_palette_with_a_transparent_colour_shows_mid_grey(tmp_path):
    image = Image.fromarray(np.repeat(np.array([[0, 1]], np.uint8), 8, 0), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "p.png", transparency=0)
    assert load_photo(tmp_path / "p.png")[0].tolist() == [[128, 128, 128], [0, 255, 0]]


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert np.abs(load_photo(tmp_path / "print.jpg").astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation to the Transpose that stores it so
    stored = Image.fromarray(gradient())
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(load_photo(tmp_path / "phone.png"), gradient())


def test_unreadable_exif_says_nothing(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "odd.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff")
    assert np.array_equal(load_photo(tmp_path / "odd.png"), gradient())


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_keeps_its_highest_8_bits(tmp_path, suffix):
    values = np.array([[0, 257, 32896, 65535]], np.uint16).repeat(3, 0)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert load_photo(tmp_path / f"deep.{suffix}")[0, :, 1].tolist() == [0, 1, 128, 255]


def test_16_bit_colour_png(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\x00" + np.array([0, 32896, 65535], ">u2").tobytes() * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(data)
    assert load_photo(tmp_path / "deep.png")[1, 1].tolist() == [0, 128, 255]


def test_float_tiff_in_0_to_1_or_0_to_255(tmp_path):
    for name, top in (("unit", 1.0), ("bytes", 255.0), ("wild", 1e4)):
        Image.fromarray(np.array([[0.0, top / 2, top]], np.float32).repeat(2, 0)).save(tmp_path / f"{name}.tiff")
    assert load_photo(tmp_path / "unit.tiff")[0, :, 0].tolist() == [0, 128, 255]
    assert load_photo(tmp_path / "bytes.tiff")[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match=r"wild\.tiff: grey values up to 10000.*save it with 8 bits"):
        load_photo(tmp_path / "wild.tiff")


def test_a_missing_photo_suggests_the_nearest_name(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "anna.png")
    with pytest.raises(FileNotFoundError, match=r"ana\.png: no such photo; did you mean .*anna\.png"):
        load_photo(tmp_path / "ana.png")
    with pytest.raises(FileNotFoundError, match="check the path"):
        load_photo(tmp_path / "nowhere" / "x.png")
    with pytest.raises(IsADirectoryError, match="name one file"):
        load_photo(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_a_photo_that_was_cut_short_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"half\.{suffix}: .*(copy or download|save it as JPEG)"):
        load_photo(path)


def test_a_photo_with_damaged_bytes_is_named(tmp_path):
    path = tmp_path / "bad.png"
    Image.fromarray(gradient()).save(path)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"bad\.png: damaged or cut short"):
        load_photo(path)


def test_an_empty_file_and_a_web_page_are_no_photos(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"empty\.jpg: the file is empty"):
        load_photo(tmp_path / "empty.jpg")
    with pytest.raises(ValueError, match=r"page\.jpg: not a picture.*save it as JPEG or PNG"):
        load_photo(tmp_path / "page.jpg")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="not a picture"):
        load_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("side", [12000, 50000])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png: too large to decode safely"):
        load_photo(tmp_path / "bomb.png")


def test_source_from_photo_is_a_valid_aligned_sample(tmp_path, astronaut, analyser):
    path = tmp_path / "eileen.png"
    astronaut.save(path)
    sample = source_from_photo(path, 128, analyser=analyser)
    check_sample(sample)
    assert sample.image.shape == (3, 128, 128)
    assert (sample.subject, sample.source, sample.emotion) == ("eileen", "photo", -1)
    assert sample.au_intensity.isnan().all() and sample.au_occurrence.isnan().all() and sample.pose.isnan().all()
    assert 0.3 < float(outer_eye_distance(sample.landmarks)) / 128 <= 1 / 2.4 + 1e-3
    assert sample.provenance["photo"] == "eileen.png"
    assert sample.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_false_alarm_does_not_count_as_a_second_face(tmp_path, analyser):
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "a.png")  # dlib sees another "face" in the suit, score 0.12
    assert len(analyser.detect(data.astronaut())) > 1
    assert source_from_photo(tmp_path / "a.png", 64, analyser=analyser).image.shape == (3, 64, 64)


@pytest.mark.parametrize("variant", ["L", "CMYK", "RGBA", "exif"])
def test_the_same_face_is_found_in_every_kind_of_file(tmp_path, astronaut, analyser, variant):
    astronaut.save(tmp_path / "plain.png")
    plain = source_from_photo(tmp_path / "plain.png", 96, analyser=analyser)
    path = tmp_path / ("odd.tiff" if variant in ("CMYK", "exif") else "odd.png")
    exif = Image.Exif()
    if variant == "exif":
        exif[ORIENTATION] = 6
        astronaut.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    else:
        astronaut.convert(variant).save(path)
    odd = source_from_photo(path, 96, analyser=analyser)
    assert np.linalg.norm(odd.landmarks.numpy() - plain.landmarks.numpy(), axis=1).mean() < 1.5


def test_no_face(tmp_path, analyser):
    Image.fromarray(gradient(100, 120)).save(tmp_path / "wall.jpg")
    with pytest.raises(ValueError, match=r"wall\.jpg: no face found in 120x100 px; use a photo from the front"):
        source_from_photo(tmp_path / "wall.jpg", 64, analyser=analyser)


def two_faces(path: Path, left: Image.Image, right: Image.Image) -> None:
    canvas = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), (90, 90, 90))
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width, 0))
    canvas.save(path)


def test_two_faces_are_listed_and_one_can_be_chosen(tmp_path, astronaut, analyser):
    path = tmp_path / "two.png"
    two_faces(path, astronaut, astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    with pytest.raises(ValueError, match=r"two\.png: 2 faces found.*choose one: face=0 at x \d+.*; face=1 at x \d+"):
        source_from_photo(path, 64, analyser=analyser)
    first, second = (source_from_photo(path, 64, face=k, analyser=analyser) for k in (0, 1))
    assert first.provenance["box"][0] < 256 < second.provenance["box"][0]
    with pytest.raises(ValueError, match=r"face=2 does not exist, found 2: face=0"):
        source_from_photo(path, 64, face=2, analyser=analyser)
    with pytest.raises(ValueError, match="face=-1 does not exist"):
        source_from_photo(path, 64, face=-1, analyser=analyser)


def test_16x16_and_small_faces_are_too_small(tmp_path, astronaut, analyser):
    astronaut.resize((16, 16)).save(tmp_path / "icon.png")
    with pytest.raises(ValueError, match=r"icon\.png: 16x16 px is too small"):
        source_from_photo(tmp_path / "icon.png", 64, analyser=analyser)
    astronaut.resize((112, 112)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"small\.png: the face at x .* is only \d+ px, at least 64 px"):
        source_from_photo(tmp_path / "small.png", 64, analyser=analyser)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photographs at {REAL} (set LIT_FACES_SHARED)")
def test_every_real_photograph_gives_one_face(analyser):
    photos = sorted([*REAL.glob("*.jpg"), *REAL.glob("*.png")])
    assert len(photos) == 14
    for path in photos:
        sample = source_from_photo(path, 96, analyser=analyser)
        assert sample.landmarks.isfinite().all()
        inner = sample.landmarks[17:].numpy()  # brows, eyes, nose and mouth lie inside the crop
        assert inner.min() > 0 and inner.max() < 95, path.name


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photographs at {REAL} (set LIT_FACES_SHARED)")
def test_two_real_people_in_one_photo(tmp_path, analyser):
    people = [
        Image.open(REAL / f"{name}.jpg").convert("RGB") for name in ("az_dad_Family1-Dad1", "az_mom_Family1-Mom1")
    ]
    two_faces(tmp_path / "couple.jpg", *people)
    with pytest.raises(ValueError, match="2 faces found"):
        source_from_photo(tmp_path / "couple.jpg", 64, analyser=analyser)
    alone = analyser.embedding(np.asarray(people[1]))
    chosen = source_from_photo(tmp_path / "couple.jpg", 128, face=1, analyser=analyser)
    crop = chosen.image.permute(1, 2, 0).numpy()
    assert np.linalg.norm(analyser.embedding(crop, chosen.landmarks.numpy()) - alone) < 0.3
