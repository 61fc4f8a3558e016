"""Pictures as callers have them (arrays, Pillow images, files, bytes) and as they travel."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


class TensorLike(Protocol):
    """What of a torch.Tensor is used here; torch itself is not needed."""

    def detach(self) -> Any:
        """The tensor without its history."""

    def cpu(self) -> Any:
        """The tensor in the CPU's memory."""


#: HxWx3 uint8 RGB (or HxW grey), a torch tensor (3xHxW or HxWx3, uint8), a Pillow image, an image file's bytes or path.
Picture = NDArray[np.uint8] | TensorLike | Image.Image | bytes | bytearray | memoryview | str | os.PathLike[str]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame of a live stream with what belongs to it; a bare picture will do where nothing does.

    `id` comes back with the answer (else the frame's number); from `time_us`, when it is shown, predicted frames get
    theirs. `jump`: the camera jumped, do not predict from the frame before.
    """

    picture: Picture
    id: str | None = None
    time_us: int | None = None
    jump: bool = False
    sent_us: int | None = None  #: when it is sent, and ...
    receipt: tuple[int, int] | None = None  #: ... an earlier answer's sequence and when it came, on the sender's clock
    number: int | None = None  #: in a concealed stream: its place in the sequence, with gaps where frames were lost


def to_bytes(picture: Picture) -> bytes:
    """An image file's bytes: files and bytes as they are, pixels as PNG at its fastest level.

    TypeError and ValueError say what is wrong with an array or an image; OSError, that a path cannot be read.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    image = _upright(picture) if isinstance(picture, Image.Image) else Image.fromarray(_checked(picture))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def to_pixels(data: bytes) -> Pixels:
    """HxWx3 uint8 RGB of an image file's bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def raw(picture: Picture) -> Pixels | None:
    """The picture's pixels where it has them already and a raw transport can send them as they are."""
    if isinstance(picture, Image.Image):
        return np.array(_upright(picture).convert("RGB"))
    if isinstance(picture, bytes | bytearray | memoryview | str | os.PathLike):
        return None
    pixels = _checked(picture)
    return np.ascontiguousarray(np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels)


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its file's bytes would be read by the service: upright, 8 bits, RGB or grey.

    Of 16 bits the high byte counts. TypeError and ValueError say what cannot be sent without a decision.
    """
    # Not MPO: a phone's photo with its depth beside it, of which the service takes the first picture, too.
    if image.format in ("GIF", "PNG", "WEBP", "AVIF") and getattr(image, "n_frames", 1) > 1:
        raise ValueError(
            "an animated picture is a clip: send its file with predict_video, or one frame of it (.copy())"
        )
    kind = image.format
    image = ImageOps.exif_transpose(image)
    if image.mode == "CMYK":
        raise ValueError(
            "the colours of CMYK mean nothing without their profile: make the picture RGB first, such as "
            "ImageCms.profileToProfile(image, io.BytesIO(image.info['icc_profile']), ImageCms.createProfile('sRGB'), "
            "outputMode='RGB')"
        )
    is_deep = image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG")
    if is_deep and "transparency" in image.info:
        raise ValueError("the picture marks a 16-bit level as transparent: save it with an alpha channel, or without")
    if image.mode == "I" and kind == "PPM":  # a grey map of 16 bits, whose levels the service scales
        return Image.fromarray(((np.asarray(image) * 255 + 32767) // 65535).astype(np.uint8))
    if is_deep:
        levels = np.asarray(image)
        return Image.fromarray((levels >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise TypeError(
            f"an image of mode {image.mode} has no known range; make it 8 bits, such as "
            "Image.fromarray((np.asarray(image) / highest * 255).round().astype('uint8'))"
        )
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image)[:, :, 3].min() < 255:
            raise ValueError(
                "the picture has transparent pixels: put it on a background first, such as "
                "Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))"
            )
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _checked(pixels: Any) -> Pixels:
    if not isinstance(pixels, np.ndarray) and hasattr(pixels, "detach") and hasattr(pixels, "cpu"):
        pixels = _of_tensor(pixels)
    if not isinstance(pixels, np.ndarray):
        raise TypeError(
            f"a picture is an array, a torch tensor, a Pillow image, bytes or a path, not {type(pixels).__name__}"
        )
    if pixels.dtype == np.uint16:
        raise TypeError("pixels must be uint8, 0 to 255; of 16 bits: (x >> 8).astype('uint8')")
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"pixels must be uint8, 0 to 255, not {pixels.dtype}; for 0..1: (x * 255).round().astype('uint8')"
        )
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not pixels.size:
        raise ValueError(f"pixels must be HxWx3 (RGB) or HxW (grey), not {'x'.join(map(str, pixels.shape))}")
    return pixels


def _of_tensor(tensor: Any) -> NDArray[Any]:
    """A torch tensor's values as HxWx3 or HxW; torch keeps channels first."""
    if str(tensor.dtype) != "torch.uint8":
        raise TypeError(
            f"a tensor must be torch.uint8, 0 to 255, not {tensor.dtype}; for 0..1: x.mul(255).round().to(torch.uint8)"
        )
    values: NDArray[Any] = tensor.detach().cpu().numpy()
    if values.ndim == 3 and values.shape[2] != 3 and values.shape[0] in (1, 3):
        return values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0)
    return values
