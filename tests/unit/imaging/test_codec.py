"""Every kind of picture that comes in, and what is made of it."""

from __future__ import annotations

import concurrent.futures
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from service.core.errors import InvalidFrame, InvalidRequest, NotAcceptable, ServiceError, TooLarge, UnsupportedMedia
from service.core.types import Frame
from service.imaging.codec import FrameLimits, ImageFormat, decode, encode, from_raw, own_bytes
from service.settings import Settings
from tests.unit.imaging.pictures import Pixels, exif, file_of, noise, png, png_chunk, save, smooth

LIMITS = FrameLimits(max_bytes=2**20, max_pixels=256 * 256, min_side=4, max_side=256, max_aspect=8)
LOSSLESS = (ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.PPM)


def pixels_of(data: bytes, limits: FrameLimits = LIMITS) -> Pixels:
    return decode(data, limits, "previous").pixels


def frames(max_side: int = 40) -> st.SearchStrategy[Pixels]:
    sides = st.integers(8, max_side)
    return st.tuples(sides, sides).flatmap(lambda hw: arrays(np.uint8, (*hw, 3)))


class TestRoundTrips:
    @pytest.mark.parametrize("format", LOSSLESS)
    @given(pixels=frames())
    @settings(max_examples=40, deadline=None)
    def test_a_lossless_format_gives_back_every_bit(self, format: ImageFormat, pixels: Pixels) -> None:
        assert np.array_equal(pixels_of(encode(Frame(pixels), format)), pixels)

    @given(pixels=frames())
    @settings(max_examples=40, deadline=None)
    def test_raw_gives_back_every_bit(self, pixels: Pixels) -> None:
        frame = Frame(pixels)
        data = encode(frame, ImageFormat.RAW)
        assert np.array_equal(from_raw(data, frame.height, frame.width, LIMITS, "previous").pixels, pixels)

    @pytest.mark.parametrize(("format", "quality"), [("jpeg", None), ("jpeg", 90), ("webp", 90)])
    def test_a_lossy_format_stays_close(self, format: str, quality: int | None) -> None:
        pixels = smooth(64, 96)
        back = pixels_of(encode(Frame(pixels), ImageFormat(format), quality))
        assert np.abs(back.astype(int) - pixels).mean() < 2

    def test_a_lower_quality_makes_a_smaller_file(self) -> None:
        frame = Frame(noise(64, 64))
        for format in (ImageFormat.JPEG, ImageFormat.WEBP):
            assert len(encode(frame, format, 20)) < len(encode(frame, format, 90))

    @pytest.mark.parametrize("quality", [0, 101, -1])
    def test_an_impossible_quality_is_refused(self, quality: int) -> None:
        with pytest.raises(InvalidRequest) as error:
            encode(Frame(noise(8, 8)), ImageFormat.JPEG, quality)
        assert error.value.field == "image_quality"

    def test_a_frame_too_long_for_webp_is_not_acceptable(self) -> None:
        with pytest.raises(NotAcceptable):
            encode(Frame(noise(1, 16_384)), ImageFormat.WEBP)

    def test_our_png_is_read_alike_by_pillow(self) -> None:
        pixels = noise(33, 47)
        with Image.open(io.BytesIO(encode(Frame(pixels), ImageFormat.PNG))) as image:
            image.verify()
        with Image.open(io.BytesIO(encode(Frame(pixels), ImageFormat.PNG))) as image:
            assert np.array_equal(np.asarray(image), pixels)

    def test_answers_decode_to_read_only_frames(self) -> None:
        assert not pixels_of(file_of(noise(16, 16), "PNG")).flags.writeable


class TestPixelKinds:
    """What each kind of pixel becomes."""

    @pytest.mark.parametrize("format", ["PNG", "BMP", "PPM", "WEBP"])
    def test_rgb_is_taken_as_it_is(self, format: str) -> None:
        pixels = noise(20, 30)
        options = {"lossless": True} if format == "WEBP" else {}
        assert np.array_equal(pixels_of(file_of(pixels, format, **options)), pixels)

    @pytest.mark.parametrize("format", ["PNG", "BMP", "PPM"])
    def test_grey_becomes_three_equal_channels(self, format: str) -> None:
        grey = noise(20, 30)[..., 0]
        assert np.array_equal(pixels_of(file_of(grey, format)), np.stack([grey] * 3, -1))

    def test_grey_jpeg_becomes_three_equal_channels(self) -> None:
        pixels = pixels_of(file_of(smooth(20, 30)[..., 0], "JPEG"))
        assert pixels.shape == (20, 30, 3)
        assert np.ptp(pixels, axis=-1).max() == 0

    def test_one_bit_becomes_black_and_white(self) -> None:
        bits = noise(16, 16)[..., 0] > 127
        assert np.array_equal(pixels_of(file_of(bits, "PNG"))[..., 1], bits * np.uint8(255))

    @pytest.mark.parametrize("format", ["PNG", "BMP"])
    def test_a_palette_becomes_its_colours(self, format: str) -> None:
        image = Image.fromarray(smooth(24, 24)).quantize(16)
        assert np.array_equal(pixels_of(save(image, format)), np.asarray(image.convert("RGB")))

    def test_sixteen_bit_grey_keeps_its_high_byte(self) -> None:
        levels = np.random.default_rng(0).integers(0, 65536, (12, 14), dtype=np.uint16)
        assert np.array_equal(pixels_of(save(Image.fromarray(levels), "PNG"))[..., 2], levels >> 8)

    def test_sixteen_bit_colour_keeps_its_high_byte(self) -> None:
        levels = np.random.default_rng(0).integers(0, 65536, (12, 14, 3)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in levels)
        assert np.array_equal(pixels_of(png(14, 12, bits=16, data=rows)), levels >> 8)

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_opaque_alpha_is_dropped(self, mode: str) -> None:
        image = Image.fromarray(noise(16, 20)).convert(mode)
        assert np.array_equal(pixels_of(save(image, "PNG")), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("format", ["PNG", "WEBP"])
    def test_transparency_is_refused(self, format: str) -> None:
        image = Image.fromarray(noise(16, 20)).convert("RGBA")
        image.putpixel((3, 3), (1, 2, 3, 254))
        with pytest.raises(InvalidFrame, match="transparent"):
            decode(save(image, format, lossless=True) if format == "WEBP" else save(image, format), LIMITS, "previous")

    def test_a_transparent_palette_entry_is_refused_only_where_it_is_used(self) -> None:
        image = Image.fromarray(smooth(24, 24)).quantize(16)
        unused = bytes([255] * 255 + [0])
        assert pixels_of(save(image, "PNG", transparency=unused)).shape == (24, 24, 3)
        with pytest.raises(InvalidFrame, match="transparent"):
            pixels_of(save(image, "PNG", transparency=bytes([0] * 16)))

    def test_a_colour_key_is_refused_only_where_it_is_used(self) -> None:
        pixels = np.full((16, 16, 3), 9, np.uint8)
        assert pixels_of(file_of(pixels, "PNG", transparency=(1, 2, 3))).shape == (16, 16, 3)
        with pytest.raises(InvalidFrame, match="transparent"):
            pixels_of(file_of(pixels, "PNG", transparency=(9, 9, 9)))

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_grey_level_as_key_is_refused_only_where_it_is_used(self, bits: int) -> None:
        """Pillow compares the key, as it is written, with pixels that it has widened to 8 bits."""
        white = 2**bits - 1
        rows = (b"\0" + b"\xff" * (2 * bits)) * 16
        key = [png_chunk(b"tRNS", struct.pack(">H", level)) for level in (0, white)]
        assert pixels_of(png(16, 16, bits=bits, colour=0, data=rows, extra=key[0])).min() == 255
        with pytest.raises(InvalidFrame, match="transparent"):
            pixels_of(png(16, 16, bits=bits, colour=0, data=rows, extra=key[1]))

    def test_a_sixteen_bit_colour_key_is_refused(self) -> None:
        rows = bytes(12 * (1 + 14 * 6))
        data = png(14, 12, bits=16, data=rows, extra=png_chunk(b"tRNS", bytes(6)))
        with pytest.raises(InvalidFrame, match="16-bit"):
            pixels_of(data)

    def test_cmyk_is_refused(self) -> None:
        with pytest.raises(InvalidFrame, match="CMYK"):
            pixels_of(save(Image.fromarray(smooth(16, 16)).convert("CMYK"), "JPEG"))

    def test_progressive_jpeg_is_read(self) -> None:
        pixels = smooth(64, 64)
        back = pixels_of(file_of(pixels, "JPEG", progressive=True, quality=95))
        assert np.abs(back.astype(int) - pixels).mean() < 2

    def test_interlaced_png_is_read(self) -> None:
        # Adam7 with a single colour: seven passes of equal rows.
        passes = [(2, 2), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (16, 8)]
        rows = b"".join((b"\0" + b"\x40\x50\x60" * width) * height for width, height in passes)
        data = bytearray(png(16, 16, data=rows))
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        assert np.array_equal(pixels_of(bytes(data)), np.full((16, 16, 3), (0x40, 0x50, 0x60), np.uint8))

    @pytest.mark.parametrize("maxval", [1, 7, 255, 1023, 65535])
    def test_an_anymap_is_scaled_by_its_maximum(self, maxval: int) -> None:
        levels = np.random.default_rng(0).integers(0, maxval + 1, (9, 11, 3))
        body = levels.astype(np.uint8 if maxval < 256 else ">u2").tobytes()
        back = pixels_of(b"P6 # by hand\n11 9\n%d\n" % maxval + body)
        assert np.abs(back - levels * 255 / maxval).max() <= 0.5

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, format: str, orientation: int) -> None:
        image = Image.fromarray(smooth(24, 40))
        tags = Image.Exif()
        tags[0x0112] = orientation
        data = save(image, format, exif=tags.tobytes(), **({"quality": 95} if format == "JPEG" else {"lossless": True}))
        image.getexif()[0x0112] = orientation
        wanted = np.asarray(ImageOps.exif_transpose(image))
        got = pixels_of(data)
        assert got.shape == wanted.shape
        assert np.abs(got.astype(int) - wanted).mean() < 3

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_exif_is_read_in_both_byte_orders(self, order: str) -> None:
        pixels = noise(12, 20)
        data = file_of(pixels, "JPEG", quality=95, exif=b"Exif\0\0" + exif(6, order))
        assert pixels_of(data).shape == (20, 12, 3)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_an_orientation_in_four_bytes_is_read(self, order: str) -> None:
        block = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "IHHHII", 8, 1, 0x0112, 4, 1, 6)
        assert pixels_of(file_of(noise(12, 20), "JPEG", exif=b"Exif\0\0" + block)).shape == (20, 12, 3)

    @pytest.mark.parametrize("block", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif(9), exif(0), exif(6)[:-9]])
    def test_damaged_exif_does_not_spoil_a_picture(self, block: bytes) -> None:
        data = file_of(noise(12, 20), "JPEG", exif=b"Exif\0\0" + block)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pixels_of(data).shape == (12, 20, 3)

    def test_profiles_and_text_are_ignored(self) -> None:
        pixels = noise(12, 20)
        bomb = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(8 * 2**20)))
        profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(8 * 2**20)))
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        assert np.array_equal(pixels_of(png(20, 12, data=rows, extra=bomb + profile)), pixels)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
    def test_the_clip_behind_a_phones_photo_is_not_looked_at(self, options: dict[str, int]) -> None:
        data = file_of(smooth(64, 64), "JPEG", quality=95, **options)
        # In a clip of some megabytes the bytes that begin a scan come up by chance, more often than a photo has scans.
        assert np.array_equal(pixels_of(data + b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\0" * 50), pixels_of(data))

    def test_the_first_picture_of_an_mpo_is_taken(self) -> None:
        first, second = Image.fromarray(smooth(32, 32)), Image.fromarray(255 - smooth(32, 32))
        data = save(first, "MPO", save_all=True, append_images=[second], quality=95)
        assert np.abs(pixels_of(data).astype(int) - smooth(32, 32)).mean() < 3


class TestRefusals:
    """Files that are refused, each for its own reason."""

    @pytest.mark.parametrize("format", ["PNG", "WEBP"])
    def test_an_animation_is_refused(self, format: str) -> None:
        first, second = Image.fromarray(noise(16, 16, 1)), Image.fromarray(noise(16, 16, 2))
        data = save(first, format, save_all=True, append_images=[second])
        with pytest.raises(InvalidFrame, match=r"animated; .*POST /v1/video"):
            pixels_of(data)

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"GIF89a" + bytes(20), "is GIF; .*an animation can go to POST /v1/video"),
            (b"\0\0\0\x18ftypheic" + bytes(20), "is HEIC; .*save or share it as JPEG"),
            (b"\0\0\0\x18ftypavif" + bytes(20), "is AVIF; .*save or share it as JPEG"),
            (b"\0\0\0\x18ftypisom" + bytes(20), "is MP4 video; .*a clip goes to POST /v1/video"),
            (b"\x1aE\xdf\xa3" + bytes(20), "WebM video; .*a clip goes to POST /v1/video"),
            (b"RIFF\0\0\0\0AVI LIST" + bytes(20), "AVI video; .*a clip goes to POST /v1/video"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(20), "QuickTime video; .*a clip goes to POST /v1/video"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(20), "is AVIF; "),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(20), "is HEIC; "),
            (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "is JPEG XL; "),
            (b"\xff\x4f\xff\x51" + bytes(20), "is JPEG 2000; "),
            (b"II+\0\x08\0\0\0", "is BigTIFF; "),
            (b"\0\0\1\0\1\0", "is ICO; "),
            (b"8BPS\0\1", "is Photoshop"),
            (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- by hand -->\n<svg/>', "is SVG; "),
            (b"\n<!DOCTYPE html><html>404</html>", "is an HTML page; "),
            (b'{"error": "not found"}', "is JSON; "),
            (b"iVBORw0KGgoAAAANSUhEUg", "is a picture in base64; .*send the bytes"),
            (b"data:image/jpeg;base64,/9j/", "is a picture in base64; .*send the bytes"),
            (b"\x1f\x8b\x08\0", "is compressed by gzip; .*send the file itself"),
            (b"\x93NUMPY\1\0", "is a NumPy file; .*can be sent raw"),
            (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), r"is Canon's raw \(CR2\); .*as JPEG"),
            (b"II*\0\x08\0\0\0" + bytes(20), "is TIFF; .*raw file .*save a JPEG"),
            (b"FUJIFILMCCD-RAW 0201", r"is Fujifilm's raw \(RAF\); .*as JPEG"),
            (b"IIRO\x08\0\0\0", r"is Olympus' raw \(ORF\); .*as JPEG"),
            (b"IIU\0\x18\0\0\0", r"is Panasonic's raw \(RW2\); .*as JPEG"),
            (b"\x8aMNG\r\n\x1a\n", "is MNG; "),
            (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\6" + bytes(30), "in a form of Apple's own"),
            (b"https://example.org/frame.png\n", "is an address, and none is fetched; .*send the file itself"),
            (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS; .*git lfs pull"),
            (b"\xfd7zXZ\0", "is compressed by xz; .*send the file itself"),
            (bytes(100), "is no picture of a kind that is known here; "),
        ],
    )
    def test_what_people_have_instead_is_named_with_what_to_do(self, data: bytes, sentence: str) -> None:
        with pytest.raises(UnsupportedMedia, match=sentence):
            pixels_of(data)

    def test_a_phones_photo_is_told_the_size_that_fits(self) -> None:
        with pytest.raises(TooLarge, match="is 4032x3024; a frame may have at most 9437184 pixels, such as 3547x2660"):
            FrameLimits().check(4032, 3024, "previous")
        FrameLimits().check(3547, 2660, "previous")

    @pytest.mark.parametrize("format", ["GIF", "TIFF", "ICO", "TGA"])
    def test_other_formats_are_refused(self, format: str) -> None:
        with pytest.raises(UnsupportedMedia) as error:
            pixels_of(file_of(noise(16, 16), format))
        assert error.value.field == "previous"

    @pytest.mark.parametrize("data", [b"hello", b"\0" * 100, b"P7\n", b"P3\n1 1\n255\n1 1 1", b"<svg/>", b"B"])
    def test_what_is_no_picture_is_refused(self, data: bytes) -> None:
        with pytest.raises(UnsupportedMedia):
            pixels_of(data)

    def test_light_that_sdr_has_not_is_refused(self) -> None:
        rows = b"".join(b"\0" + row.tobytes() for row in noise(16, 16))
        for curve in (16, 18):
            with pytest.raises(InvalidFrame, match="HDR"):
                pixels_of(png(16, 16, data=rows, extra=png_chunk(b"cICP", bytes([9, curve, 0, 1]))))
        profile = b"ITUR_2100_PQ_FULL\0\0" + zlib.compress(bytes(128))
        with pytest.raises(InvalidFrame, match="HDR"):
            pixels_of(png(16, 16, data=rows, extra=png_chunk(b"iCCP", profile)))
        with pytest.raises(InvalidFrame, match="limited range"):
            pixels_of(png(16, 16, data=rows, extra=png_chunk(b"cICP", bytes([1, 1, 0, 0]))))
        assert pixels_of(png(16, 16, data=rows, extra=png_chunk(b"cICP", bytes([1, 13, 0, 1])))).shape == (16, 16, 3)

    def test_a_webp_that_ends_too_early_is_called_so(self) -> None:
        for options in ({"lossless": True}, {"quality": 90}):
            with pytest.raises(InvalidFrame, match="truncated"):
                pixels_of(file_of(noise(64, 64), "WEBP", **options)[:-20])

    def test_a_jpeg_ls_is_called_no_damaged_jpeg(self) -> None:
        frame = struct.pack(">BBHBHHB", 0xFF, 0xF7, 11, 8, 16, 16, 1) + bytes([1, 0x11, 0])
        with pytest.raises(UnsupportedMedia, match="not 8-bit baseline or progressive"):
            pixels_of(b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(40) + b"\xff\xd9")

    def test_nothing_is_refused(self) -> None:
        with pytest.raises(InvalidFrame, match="empty"):
            pixels_of(b"")

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "PPM"])
    @pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.98])
    def test_a_truncated_file_is_refused(self, format: str, share: float) -> None:
        data = file_of(noise(64, 64), format)
        with pytest.raises(InvalidFrame):
            pixels_of(data[: int(len(data) * share)])

    def test_too_many_bytes_are_refused_unread(self) -> None:
        with pytest.raises(TooLarge, match="bytes"):
            pixels_of(b"\x89PNG" + bytes(2**20))

    @pytest.mark.parametrize(
        ("width", "height", "error"),
        [
            (60_000, 1, InvalidFrame),  # too short a side
            (1, 60_000, InvalidFrame),
            (0, 16, InvalidFrame),
            (257, 200, TooLarge),  # too long a side
            (2**31 - 1, 2**31 - 1, TooLarge),
            (128, 8, InvalidFrame),  # too stretched
        ],
    )
    def test_a_claimed_size_is_refused_before_any_pixel(
        self, width: int, height: int, error: type[ServiceError]
    ) -> None:
        bmp = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, width, height, 1, 24, 0) + bytes(20)
        webp = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0)
        webp += (width - 1 & 0xFFFFFF).to_bytes(3, "little") + (height - 1 & 0xFFFFFF).to_bytes(3, "little")
        for data in (png(width, height), b"P6 %d %d 255\n" % (width % 10**7, height % 10**7), bmp, webp):
            with pytest.raises((error, TooLarge)):
                pixels_of(data)

    def test_too_many_pixels_are_refused(self) -> None:
        with pytest.raises(TooLarge, match="pixels"):
            decode(png(200, 200), FrameLimits(max_pixels=39_999), "previous")

    def test_a_decompression_bomb_is_refused(self) -> None:
        # 100 MB of zeros in 100 kB, behind a header that claims little: only the claimed rows are unpacked.
        data = png(64, 64, data=bytes(100 * 2**20))
        assert len(data) < LIMITS.max_bytes
        assert pixels_of(data).shape == (64, 64, 3)
        with pytest.raises(TooLarge):
            pixels_of(png(30_000, 30_000, data=bytes(2**20)))

    def test_many_tiny_scans_are_refused(self) -> None:
        data = file_of(smooth(64, 64), "JPEG", progressive=True)
        start = data.rindex(b"\xff\xda")
        scan = data[start:-2]
        with pytest.raises(InvalidFrame, match="scans"):
            pixels_of(data[:start] + scan * 100 + data[-2:])

    def test_many_empty_chunks_are_refused(self) -> None:
        with pytest.raises(InvalidFrame):
            pixels_of(png(16, 16, data=bytes(16 * 49), extra=png_chunk(b"teSt", b"") * 20_001))

    def test_two_sizes_in_one_jpeg_are_refused(self) -> None:
        data = file_of(smooth(64, 64), "JPEG")
        at = data.index(b"\xff\xc0")
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        with pytest.raises(InvalidFrame):
            pixels_of(data[:end] + data[at:])

    def test_run_length_bmp_is_refused(self) -> None:
        data = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 16, 16, 1, 8, 1) + bytes(2000)
        with pytest.raises(UnsupportedMedia):
            pixels_of(data)

    def test_an_anymap_that_goes_on_is_refused(self) -> None:
        data = file_of(noise(16, 16), "PPM")
        with pytest.raises(InvalidFrame, match="goes on"):
            pixels_of(data + data)

    @pytest.mark.parametrize("stride", [47, -48, 2**62, 0])
    def test_an_impossible_stride_is_refused(self, stride: int) -> None:
        with pytest.raises(InvalidFrame, match="stride"):
            from_raw(bytes(16 * 48), 16, 16, LIMITS, "current", stride)

    @pytest.mark.parametrize("length", [0, 767, 769])
    def test_raw_pixels_of_another_length_are_refused(self, length: int) -> None:
        with pytest.raises(InvalidFrame) as error:
            from_raw(bytes(length), 16, 16, LIMITS, "current")
        assert error.value.field == "current"

    @pytest.mark.parametrize(("height", "width"), [(-1, -1), (0, 0), (2**40, 2**40), (3, 100)])
    def test_impossible_raw_sizes_are_refused(self, height: int, width: int) -> None:
        with pytest.raises(ServiceError):
            from_raw(bytes(768), height, width, LIMITS, "current")


class TestRaw:
    def test_rows_with_gaps_are_closed(self) -> None:
        pixels = noise(10, 12)
        padded = np.zeros((10, 40), np.uint8)
        padded[:, :36] = pixels.reshape(10, 36)
        for data in (padded.tobytes(), padded.tobytes()[:-4]):
            assert np.array_equal(from_raw(data, 10, 12, LIMITS, "current", 40).pixels, pixels)

    def test_bytes_are_not_copied(self) -> None:
        data = noise(16, 16).tobytes()
        frame = from_raw(memoryview(data), 16, 16, LIMITS, "current")
        assert np.shares_memory(frame.pixels, np.frombuffer(data, np.uint8))

    def test_memory_that_may_change_is_copied(self) -> None:
        data = bytearray(noise(16, 16).tobytes())
        frame = from_raw(memoryview(data), 16, 16, LIMITS, "current")
        data[0] ^= 0xFF
        assert frame.pixels[0, 0, 0] == data[0] ^ 0xFF


@given(data=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_nothing_but_service_errors(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM", b"P6 ", b"P5 9 9 255\n"):
        with pytest.raises(ServiceError):
            pixels_of(start + data)


SEEDS = {
    **{format: file_of(noise(24, 32), format) for format in ("PNG", "JPEG", "WEBP", "BMP", "PPM")},
    "PALETTE": save(Image.fromarray(smooth(24, 32)).quantize(8), "PNG"),
    "PROGRESSIVE": file_of(smooth(24, 32), "JPEG", progressive=True, exif=b"Exif\0\0" + exif(6)),
    "LOSSLESS": file_of(smooth(24, 32), "WEBP", lossless=True, exif=exif(3)),
    "ALPHA": save(Image.fromarray(smooth(24, 32)).convert("RGBA"), "WEBP"),
}


@pytest.mark.parametrize("seed", SEEDS)
@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8), cut=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_mutated_file_gives_a_frame_or_a_service_error(
    seed: str, edits: list[tuple[int, int]], cut: st.DataObject
) -> None:
    data = bytearray(SEEDS[seed])
    for at, value in edits:
        # Half of the edits near the start, where the headers are.
        data[at % (len(data) if at % 2 else 80)] = value
    length = cut.draw(st.one_of(st.just(len(data)), st.integers(1, len(data))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome: Pixels | ServiceError
        try:
            outcome = pixels_of(bytes(data[:length]))
        except ServiceError as error:
            outcome = error
    if isinstance(outcome, ServiceError):
        assert outcome.field == "previous"
    else:
        assert outcome.size <= 3 * LIMITS.max_pixels


def test_many_threads_decode_the_same_picture() -> None:
    files = {format: file_of(noise(64, 64), format) for format in ("PNG", "JPEG", "WEBP", "BMP", "PPM")}
    alone = {format: pixels_of(data) for format, data in files.items()}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for format, pixels in pool.map(lambda name: (name, pixels_of(files[name])), [*files] * 20):
            assert np.array_equal(pixels, alone[format])


def test_the_limits_are_those_of_the_settings() -> None:
    given_settings = Settings(max_body_bytes=4096, max_pixels=1000, min_side=8, max_side=99, max_aspect=2)
    assert FrameLimits.of(given_settings) == FrameLimits(4096, 1000, 8, 99, 2)


def test_pixels_that_lie_in_bytes_are_sent_as_these_and_others_as_a_copy() -> None:
    values = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    data = values.tobytes()
    sent = from_raw(data, 6, 8, FrameLimits(min_side=1), "frame")
    viewed = from_raw(memoryview(data), 6, 8, FrameLimits(min_side=1), "frame")
    part = Frame(np.frombuffer(data, np.uint8).reshape(6, 8, 3)[:4])
    assert encode(sent, ImageFormat.RAW) is data
    assert encode(viewed, ImageFormat.RAW) is data
    assert encode(part, ImageFormat.RAW) == values[:4].tobytes()
    assert encode(Frame(values), ImageFormat.RAW) == data
    for frame, memory in ((sent, data), (viewed, data), (part, None), (Frame(values), None)):
        assert own_bytes(frame) is memory


def test_bytes_that_their_owner_may_change_are_no_frames_own() -> None:
    data = bytearray(range(48))
    frame = from_raw(memoryview(data), 4, 4, FrameLimits(min_side=1), "frame")
    sent = encode(frame, ImageFormat.RAW)
    data[:] = bytes(48)
    assert sent == bytes(range(48))
