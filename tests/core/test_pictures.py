"""The one decoder: formats by content, whole or cut, turned, deep, transparent, and what is never opened."""

import io
import os
import pickle
import socket
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_modules.reader import read_picture
from lit_faces.core.labelled import read_labelled
from lit_faces.core.photos import load_photo
from lit_faces.core.picture_files import orientation_of
from lit_faces.core.pictures import PictureError, decode, decode_own, load_picture

GREY = 128
#: EXIF orientation to the Pillow transposition that stores an upright picture so.
STORED = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
#: Sound and fury of cameras: tag, type, count, value.
ODD_TAGS = {
    "negative width": (256, 9, 1, struct.pack("<i", -5)),
    "a date that points beyond the file": (306, 2, 20, struct.pack("<I", 2**31)),
    "a fraction of nothing": (282, 5, 1, struct.pack("<I", 0)),
    "an unknown type": (700, 77, 9, b"\xff" * 4),
    "a directory that is none": (34665, 4, 1, struct.pack("<I", 3)),
    "a million values": (37500, 7, 10**6, b"\1\2\3\4"),
}


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture whose four corners all differ."""
    y, x = np.mgrid[:height, :width]
    rows, columns = y * 255 // (height - 1), x * 255 // (width - 1)
    return np.stack([rows, columns, 255 - rows], 2).astype(np.uint8)


def noise(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def file(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def stored(orientation: int) -> Image.Image:
    image = Image.fromarray(gradient())
    how = STORED[orientation]
    return image if how is None else image.transpose(Image.Transpose(how))


def exif_with(orientation: int, tag: int, kind: int, count: int, value: bytes) -> bytes:
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), (tag, kind, count, value)])
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + packed + bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def into_jpeg(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def into_png(data: bytes, *chunks: bytes) -> bytes:
    return data[:33] + b"".join(chunks) + data[33:]  # behind IHDR


def off(found: np.ndarray, right: np.ndarray) -> float:
    assert found.shape == right.shape and found.dtype == np.uint8 and found.flags.c_contiguous and found.flags.writeable
    return float(np.abs(found.astype(int) - right).mean())


# -- turned -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {"quality": 98}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_a_picture_is_turned_as_its_orientation_says(form: str, options: dict, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert off(decode(file(stored(orientation), form, exif=exif, **options), "x"), gradient()) < 2


@pytest.mark.parametrize("odd", ODD_TAGS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_odd_exif_beside_a_good_orientation_does_not_matter(form: str, odd: str) -> None:
    exif = exif_with(6, *ODD_TAGS[odd])
    plain = file(stored(6), form, **({"quality": 98} if form == "JPEG" else {"exif": exif, "lossless": True}))
    if form == "JPEG":
        plain = into_jpeg(plain, segment(0xE1, exif))
    if form == "PNG":
        plain = into_png(file(stored(6), "PNG"), chunk(b"eXIf", exif[6:]))
    assert off(decode(plain, "x"), gradient()) < 2


def test_an_odd_tag_in_a_tiff_does_not_matter() -> None:
    info = {0x0112: 6, 34665: 3, 700: b"<x:xmpmeta", 37724: b"\xff" * 9, 33723: b"\1"}
    assert off(decode(file(stored(6), "TIFF", tiffinfo=info), "x"), gradient()) == 0


@pytest.mark.parametrize(
    "before",
    [
        segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xED, b"Photoshop 3.0\x008BIM"),
        segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
        segment(0xE2, b"ICC_PROFILE\0\1"),
        segment(0xE0, b"JFIF"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b"\xff\xd9 a comment"),
        b"\xff\xff\xff",
    ],
)
def test_odd_segments_of_a_jpeg_do_not_matter(before: bytes) -> None:
    good = segment(0xE1, exif_with(6, *ODD_TAGS["negative width"]))
    assert off(decode(into_jpeg(file(stored(6), "JPEG", quality=98), before, good), "x"), gradient()) < 2


def test_odd_chunks_of_a_png_do_not_matter() -> None:
    wrong_sum = chunk(b"tEXt", b"Comment\0x")[:-1] + b"?"
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**7)))
    data = into_png(file(stored(1), "PNG"), wrong_sum, bomb, chunk(b"iCCP", b"\0"), chunk(b"pHYs", b""))
    assert off(decode(data, "x"), gradient()) == 0


def test_orientation_in_xmp_and_in_the_text_of_imagemagick() -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    jpeg = into_jpeg(file(stored(6), "JPEG", quality=98), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
    assert off(decode(jpeg, "x"), gradient()) < 2
    exif = exif_with(6, *ODD_TAGS["negative width"])
    text = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode() + b"\n"
    for name, body in ((b"zTXt", b"\0" + zlib.compress(text)), (b"tEXt", text)):
        png = into_png(file(stored(6), "PNG"), chunk(name, b"Raw profile type exif\0" + body))
        assert off(decode(png, "x"), gradient()) == 0


@pytest.mark.parametrize(
    "block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0\x09"]
)
def test_an_orientation_that_cannot_be_read_is_none(block: bytes) -> None:
    assert orientation_of(block) is None


# -- whole or cut -----------------------------------------------------------------------------------------------------


def whole() -> dict[str, bytes]:
    """A file of every kind of storage, of a picture that cannot be guessed from its half."""
    image = noise(24, 32)
    deep = np.asarray(image).astype(np.uint16) * 257
    return {
        "jpeg": file(image, "JPEG"),
        "progressive": file(image, "JPEG", progressive=True),
        "restarts": file(image, "JPEG", restart_marker_rows=1),
        "grey": file(image.convert("L"), "JPEG"),
        "cmyk": file(image.convert("CMYK"), "JPEG"),
        "png": file(image, "PNG"),
        "png16": cv2.imencode(".png", deep)[1].tobytes(),
        "palette": file(image.quantize(32), "PNG"),
        "bmp": file(image, "BMP"),
        "tiff": file(image, "TIFF"),
        "lzw": file(image, "TIFF", compression="tiff_lzw"),
        "deflate": file(image, "TIFF", compression="tiff_deflate"),
        "tiff_jpeg": file(image, "TIFF", compression="jpeg"),
        "webp": file(image, "WEBP"),
        "webp_lossless": file(image, "WEBP", lossless=True),
        "gif": file(image.quantize(32), "GIF"),
        "interlaced": file(image.quantize(32), "GIF", interlace=1),
        "ppm": file(image, "PPM"),
        "pgm": file(image.convert("L"), "PPM"),
        "text": b"P3 4 3 255\n" + b" ".join(b"%d" % value for value in range(200, 236)) + b"\n",
    }


@pytest.mark.parametrize("kind", whole())
def test_a_cut_anywhere_is_an_error_or_takes_nothing_away(kind: str) -> None:
    data = whole()[kind]
    right = decode(data, kind)
    places = {*range(0, len(data), max(1, len(data) // 150)), *range(max(0, len(data) - 12), len(data))}
    read = 0
    for place in places:
        try:
            found = decode(data[:place], kind)
        except PictureError:
            continue
        read += 1
        assert np.array_equal(found, right), f"cut at {place} of {len(data)}"
    assert read <= 2  # the mark of the end of a GIF


@pytest.mark.parametrize("kind", sorted(set(whole()) - {"text"}))
def test_what_stands_behind_the_end_does_not_matter(kind: str) -> None:
    data = whole()[kind]
    for trailer in (b"SEFH" + bytes(200) + b"SEFT", b"\n", bytes(70000), data):
        assert np.array_equal(decode(data + trailer, kind), decode(data, kind))


def test_a_jpeg_or_png_whose_rest_is_zeros_is_cut_short() -> None:
    for kind in ("jpeg", "progressive", "png"):
        data = whole()[kind]
        for part in (0.5, 0.8, 0.99):
            place = int(part * len(data))
            with pytest.raises(PictureError, match="damaged or cut short"):
                decode(data[:place] + bytes(len(data) - place), "x.jpg")


def test_random_damage_is_success_or_our_error() -> None:
    chance = np.random.default_rng(7)
    files, ends = whole(), {"read": 0, "refused": 0}
    for number in range(400):
        data = bytearray(files[sorted(files)[number % len(files)]])
        for place in chance.integers(0, len(data) if number % 2 else min(len(data), 100), chance.integers(1, 8)):
            data[place] = chance.integers(256)
        try:
            assert decode(bytes(data), "x", 10**6).ndim == 3
            ends["read"] += 1
        except PictureError:  # anything else fails the test
            ends["refused"] += 1
    assert min(ends.values()) > 20


# -- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_a_channel_grey_colour_and_alpha(suffix: str) -> None:
    deep = gradient().astype(np.uint16) * 257

    def written(pixels: np.ndarray) -> bytes:
        return cv2.imencode(suffix, pixels)[1].tobytes()

    assert off(decode(written(deep[:, :, ::-1]), "x"), gradient()) == 0
    assert off(decode(written(deep[:, :, 0]), "x"), gradient()[:, :, :1].repeat(3, 2)) == 0
    alpha = np.full((40, 60), 65535, np.uint16)
    alpha[:, :30] = 0
    found = decode(written(np.dstack([deep[:, :, ::-1], alpha])), "x")
    assert (found[:, :30] == GREY).all() and np.array_equal(found[:, 30:], gradient()[:, 30:])


def test_a_grey_tiff_whose_zero_is_white() -> None:
    values = np.array([[0, 32896, 65535]], np.uint16).repeat(2, 0)
    data = file(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    assert decode(data, "x")[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_shows_mid_grey_at_every_depth(depth: int) -> None:
    top = 2**depth - 1
    row = {1: b"\x40", 2: b"\x30", 4: b"\x0f", 8: b"\0\xff", 16: b"\0\0\xff\xff"}[depth]  # 0, then the highest
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0))
    data += chunk(b"tRNS", struct.pack(">H", top)) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    assert decode(data, "x")[0, :, 0].tolist() == [0, GREY]


def test_a_transparent_colour_of_16_bits() -> None:
    row = np.array([65535, 0, 0, 257, 514, 771], ">u2").tobytes()
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += chunk(b"tRNS", struct.pack(">HHH", 65535, 0, 0))
    data += chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    assert decode(data, "x").tolist() == [[[GREY] * 3, [1, 2, 3]]]


@pytest.mark.parametrize(("form", "most"), [("JPEG", 4), ("TIFF", 0)])
def test_cmyk(form: str, most: float) -> None:
    data = file(Image.fromarray(gradient()).convert("CMYK"), form, **({"quality": 95} if form == "JPEG" else {}))
    assert off(decode(data, "x"), gradient()) <= most  # Adobe stores a JPEG's inks inverted


def test_ycbcr_is_read_and_lab_is_refused_by_name() -> None:
    image = Image.fromarray(gradient())
    assert off(decode(file(image.convert("YCbCr"), "TIFF"), "x"), gradient()) < 2
    with pytest.raises(PictureError, match=r"x\.tif: colour mode LAB is not handled; save the photo as an RGB"):
        decode(file(image.convert("LAB"), "TIFF"), "x.tif")
    floats = cv2.imencode(".tiff", (gradient() / 255).astype(np.float32))[1].tobytes()
    with pytest.raises(PictureError, match=r"pixel type is not handled.*save it with 8 bits"):
        decode(floats, "x.tif")


def test_of_several_frames_the_first_is_taken() -> None:
    first, second = Image.fromarray(gradient()), noise()
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("MPO", {"quality": 98})):
        data = file(first, form, save_all=True, append_images=[second], **options)
        assert off(decode(data, "x"), gradient()) < 2, form


def test_16_bit_and_plain_pnm() -> None:
    deep = b"P5 3 1 65535\n" + np.array([0, 32896, 65535], ">u2").tobytes()
    assert decode(deep, "x")[0, :, 0].tolist() == [0, 128, 255]
    assert decode(b"P3 # words\n1 1 255\n1 2 3\n", "x").tolist() == [[[1, 2, 3]]]


# -- what is no picture -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "eps"])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "PostScript"),
        (b"%PDF-1.7\n", "a PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<html>404</html>", "a web page"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "a video"),
        (b"8BPS" + bytes(40), "a Photoshop document"),
        (b"words, only words", "whatever its name says; readable"),
    ],
)
def test_only_raster_pictures_are_read_whatever_the_name(tmp_path: Path, data: bytes, what: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=rf"a\.{suffix}: not a picture that can be read.*{what}"):
        load_picture(path)
    assert what in read_picture(path)[1]


def test_the_suffix_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(file(Image.fromarray(gradient()), "JPEG", quality=98))
    assert off(load_picture(tmp_path / "a.png"), gradient()) < 2


def test_a_camera_s_raw_file_is_no_preview() -> None:
    with pytest.raises(PictureError, match="a camera's raw file"):
        decode(file(noise(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}), "x.dng")
    with pytest.raises(PictureError, match="a camera's raw file"):
        decode(file(noise(), "TIFF", tiffinfo={254: 1}), "x.nef")


def test_heic_is_read_or_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from lit_faces.core import pictures

    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    pictures._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r"x\.jpg: a HEIC photo.*`pip install lit_faces\[heic\]` reads it"):
        decode(data, "x.jpg")
    monkeypatch.undo()
    pictures._decoder.cache_clear()


def test_a_heic_photo_is_read_upright_once() -> None:
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(Image.fromarray(gradient())).save(out, quality=95)
    assert off(decode(out.getvalue(), "x.heic"), gradient()) < 5
    with pytest.raises(PictureError, match="damaged or cut short"):
        decode(out.getvalue()[: len(out.getvalue()) // 2], "x.heic")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_the_limit_on_pixels_is_checked_before_decoding(form: str) -> None:
    data = file(Image.new("RGB", (400, 300)), form)
    with pytest.raises(PictureError, match=r"x: too large to decode safely \(400x300 px; limit 0.1 million px\)"):
        decode(data, "x", max_pixels=100_000)
    assert decode(data, "x", max_pixels=120_000).shape == (300, 400, 3)


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("plug.jpg")
        for name, what in (("pipe.jpg", "a named pipe"), ("plug.jpg", "a socket"), ("/dev/zero", "a device")):
            said: list[str] = []

            def ask(path: Path = tmp_path / name, said: list[str] = said) -> None:
                try:
                    load_picture(path)
                except ValueError as error:
                    said.append(str(error))

            worker = threading.Thread(target=ask, daemon=True)
            worker.start()
            worker.join(5)
            assert said and what in said[0] and name in said[0]
            assert what in read_picture(tmp_path / name)[1]
    (tmp_path / "labels.csv").write_text("file,au6\npipe.jpg,1\n")
    with pytest.raises(ValueError, match=r"labels\.csv, line 2: .*pipe\.jpg: expected a picture, found a named pipe"):
        read_labelled(tmp_path)


def test_what_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    for name in ("loop.jpg", "gone.jpg", "a\0b.jpg", "x" * 300 + ".jpg"):
        with pytest.raises(FileNotFoundError, match="no such photo"):
            load_picture(tmp_path / name)
    assert read_picture(tmp_path / "gone.jpg") == (None, "the picture is missing")
    assert "found a folder" in read_picture(tmp_path)[1]


# -- everywhere the same ----------------------------------------------------------------------------------------------


def test_every_reader_of_the_package_sees_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[:128, :128]
    photo = Image.fromarray((x + y).astype(np.uint8)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    (tmp_path / "labels.csv").write_text("file,au6\nturned.png,1\n")
    seen, why = read_picture(tmp_path / "turned.png")
    assert seen is not None and why == "" and off(seen, np.asarray(photo)) == 0
    assert off(load_photo(tmp_path / "turned.png"), np.asarray(photo)) == 0
    labelled = read_labelled(tmp_path).image[0].permute(1, 2, 0).contiguous().numpy()
    assert off(labelled, np.asarray(photo)) == 0


def test_the_fast_decoder_of_own_files_gives_the_same_pixels() -> None:
    from data_modules.cropping import encode

    for encoding in ("jpg", "png"):
        data = encode(np.asarray(noise(128, 128)), encoding)
        found = decode_own(data)
        assert found is not None and np.array_equal(found[:, :, ::-1], decode(data, "x"))
    assert decode_own(b"nothing") is None


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(PictureError("a.jpg", "damaged")))
    assert (str(error), error.reason) == ("a.jpg: damaged", "damaged")
