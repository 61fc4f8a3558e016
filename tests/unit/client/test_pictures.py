from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from dmvfn_client.pictures import raw, to_bytes, to_pixels
from PIL import Image

from service.imaging.codec import FrameLimits, decode

PIXELS = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_arrays_images_bytes_and_paths_are_the_same_picture(tmp_path: Path) -> None:
    data = to_bytes(PIXELS)
    path = tmp_path / "frame.png"
    path.write_bytes(data)
    for picture in (PIXELS, Image.fromarray(PIXELS), data, memoryview(data), path, str(path)):
        assert np.array_equal(to_pixels(to_bytes(picture)), PIXELS)


def test_grey_arrays_and_other_modes_become_rgb() -> None:
    grey = PIXELS[:, :, 0]
    assert np.array_equal(to_pixels(to_bytes(grey)), np.repeat(grey[:, :, None], 3, 2))
    sent = raw(grey)
    assert sent is not None
    assert sent.shape == (16, 24, 3)
    assert to_pixels(to_bytes(Image.fromarray(PIXELS).convert("P"))).shape == (16, 24, 3)


def test_raw_transports_get_pixels_only_where_there_are_some() -> None:
    assert raw(b"\x89PNG") is None
    assert np.array_equal(raw(PIXELS[:, ::2]), PIXELS[:, ::2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (PIXELS / 255.0, r"\.astype\('uint8'\)"),
        (PIXELS[None], "HxWx3"),
        (np.zeros((4, 4, 4), np.uint8), "HxWx3"),
        (7, "int"),
    ],
)
def test_what_is_no_picture_says_what_would_be(picture: object, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        to_bytes(picture)  # type: ignore[arg-type]


def _reopened(image: Image.Image, format: str = "PNG", **how: object) -> Image.Image:
    """As Pillow opens it from a file, with what the file says of it."""
    file = io.BytesIO()
    image.save(file, format, **how)
    return Image.open(io.BytesIO(file.getvalue()))


def test_of_sixteen_bits_the_high_byte_is_sent_as_the_service_reads_a_file() -> None:
    """They came out all white: Pillow clips levels above 255."""
    levels = np.linspace(0, 65535, 16 * 24).astype(np.uint16).reshape(16, 24)
    for image in (Image.fromarray(levels), _reopened(Image.fromarray(levels))):
        assert np.array_equal(to_pixels(to_bytes(image))[:, :, 0], levels >> 8)
        sent = raw(image)
        assert sent is not None
        assert np.array_equal(sent[:, :, 2], levels >> 8)


def test_a_grey_map_of_sixteen_bits_is_sent_as_the_service_reads_its_file() -> None:
    """Pillow gives it a mode whose range nobody knows; of this format it is."""
    levels = np.linspace(0, 65535, 16 * 24).astype(">u2").reshape(16, 24)
    file = b"P5 24 16 65535\n" + levels.tobytes()
    sent = raw(Image.open(io.BytesIO(file)))
    assert sent is not None
    assert np.array_equal(sent, decode(file, FrameLimits(), "file").pixels)


def test_a_photo_is_sent_upright() -> None:
    """A phone writes its sensor's rows and, in Exif, how they were held."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo = _reopened(Image.fromarray(PIXELS), "PNG", exif=exif)
    assert np.array_equal(to_pixels(to_bytes(photo)), np.rot90(PIXELS, -1))
    sent = raw(photo)
    assert sent is not None
    assert sent.shape == (24, 16, 3)


def test_what_is_transparent_is_refused_and_what_only_could_be_is_not() -> None:
    opaque = Image.fromarray(PIXELS).convert("RGBA")
    assert np.array_equal(to_pixels(to_bytes(opaque)), PIXELS)
    hole = opaque.copy()
    hole.putpixel((3, 3), (255, 0, 0, 254))
    grey = Image.fromarray(PIXELS[:, :, 0])
    for image in (hole, hole.convert("LA"), _reopened(grey, transparency=int(PIXELS[0, 0, 0]))):
        for send in (to_bytes, raw):
            with pytest.raises(ValueError, match="transparent pixels: put it on a background"):
                send(image)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image.fromarray(PIXELS[:, :, 0].astype(np.int32)), "mode I has no known range"),
        (Image.fromarray(PIXELS[:, :, 0].astype(np.float32)), "mode F has no known range"),
        (
            _reopened(Image.new("L", (16, 16)), "GIF", save_all=True, append_images=[Image.new("L", (16, 16), 9)]),
            "predict_video",
        ),
        (Image.new("CMYK", (16, 16)), "CMYK mean nothing without their profile"),
        (_reopened(Image.new("I;16", (16, 16)), transparency=0), "marks a 16-bit level as transparent"),
    ],
)
def test_an_image_that_would_have_to_be_changed_is_refused_with_what_to_do(image: Image.Image, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        to_bytes(image)


def test_of_a_photo_with_its_depth_the_photo_is_sent() -> None:
    photo = Image.fromarray(np.full((32, 32, 3), 90, np.uint8))
    depth = Image.new("RGB", (32, 32), "white")
    sent = raw(_reopened(photo, "MPO", save_all=True, append_images=[depth]))
    assert sent is not None
    assert abs(int(sent.mean()) - 90) < 3


def test_torch_tensors_are_pictures_channels_first_or_last() -> None:
    tensor = torch.from_numpy(PIXELS.copy())
    for picture in (tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1).contiguous()):
        assert np.array_equal(to_pixels(to_bytes(picture)), PIXELS)
        assert np.array_equal(raw(picture), PIXELS)  # type: ignore[arg-type]
    assert np.array_equal(to_pixels(to_bytes(tensor[:, :, :1].permute(2, 0, 1)))[:, :, 1], PIXELS[:, :, 0])
    with pytest.raises(TypeError, match=r"to\(torch.uint8\)"):
        to_bytes(tensor / 255)
    with pytest.raises(TypeError, match=r">> 8"):
        to_bytes(PIXELS.astype(np.uint16))
