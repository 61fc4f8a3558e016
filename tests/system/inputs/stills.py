"""Pictures, and what is none: from cameras, phones and picture tools."""

from __future__ import annotations

from tests.system.inputs.recipe import Picture

IM = "convert-im6.q16"
PICTURES = (
    Picture("plain.png", "PNG", "cp still.png {out}"),
    Picture("palette.png", "PNG with a palette", f"{IM} still.png -colors 64 PNG8:{{out}}"),
    Picture("interlaced.png", "interlaced PNG", f"{IM} still.png -interlace PNG {{out}}"),
    Picture("deep.png", "PNG of 16 bits", f"{IM} still.png -depth 16 PNG48:{{out}}"),
    Picture("grey16.png", "grey PNG of 16 bits", f"{IM} still.png -colorspace gray -depth 16 {{out}}"),
    Picture("bits.png", "PNG of one bit", f"{IM} still.png -monochrome {{out}}"),
    Picture("opaque.png", "PNG with an opaque alpha channel", f"{IM} still.png -alpha on PNG32:{{out}}"),
    Picture(
        "clear.png",
        "PNG with transparent pixels",
        f"{IM} still.png -transparent white -fill none -draw 'rectangle 0,0 9,9' -alpha set -channel A -evaluate multiply 0.5 PNG32:{{out}}",
        "transparent",
    ),
    Picture("gamma.png", "PNG with a gamma chunk", f"{IM} still.png -set gamma 0.4545 {{out}}"),
    Picture("progressive.jpg", "progressive JPEG", "djpeg still.jpg | cjpeg -progressive -quality 98 > {out}"),
    Picture(
        "arithmetic.jpg",
        "JPEG with arithmetic coding",
        "jpegtran -arithmetic still.jpg > {out}",
        "baseline or progressive",
    ),
    Picture("restart.jpg", "JPEG with restart markers", "jpegtran -restart 1 still.jpg > {out}"),
    Picture("grey.jpg", "grey JPEG", "jpegtran -grayscale still.jpg > {out}"),
    Picture("rgb.jpg", "JPEG that holds RGB", "djpeg still.jpg | cjpeg -rgb -quality 98 > {out}"),
    Picture("cmyk.jpg", "CMYK JPEG", f"{IM} still.png -colorspace CMYK {{out}}", "CMYK"),
    *(
        Picture(
            f"exif{n}.jpg",
            f"JPEG with EXIF orientation {n}",
            f"cp still.jpg {{out}}; exiftool -q -overwrite_original -n -Orientation={n} {{out}}",
        )
        for n in (2, 3, 4, 5, 6, 7, 8)
    ),
    Picture(
        "thumbnail.jpg",
        "JPEG with a thumbnail and GPS",
        "cp still.jpg {out}; exiftool -q -overwrite_original '-ThumbnailImage<=small.jpg' -GPSLatitude=1 -GPSLatitudeRef=N {out}",
    ),
    Picture("tail.jpg", "JPEG with bytes behind its end, as motion photos have", "cat still.jpg base.mp4 > {out}"),
    Picture("cut.jpg", "JPEG cut in half", "head -c $(($(stat -c %s still.jpg) / 2)) still.jpg > {out}", "truncated"),
    Picture("phone.jpg", "a phone's 12 megapixels", f"{IM} still.png -resize 4032x3024! {{out}}", "pixels"),
    Picture("lossless.webp", "lossless WebP", "cwebp -quiet -lossless still.png -o {out}"),
    Picture("lossy.webp", "WebP", "cwebp -quiet -q 95 still.png -o {out}"),
    Picture(
        "moving.webp", "animated WebP", "img2webp -loop 0 still.png -d 100 other.png -o {out} > /dev/null", "animated"
    ),
    Picture(
        "moving.gif",
        "animated GIF",
        f"{IM} still.png still.gif; {IM} other.png other.gif; gifsicle -d 10 still.gif other.gif -o {{out}}",
        "GIF",
    ),
    Picture(
        "moving.png",
        "APNG",
        "cp still.png a01.png; cp other.png a02.png; apngasm -o {out} a01.png a02.png > /dev/null 2>&1 || apngasm {out} a01.png a02.png > /dev/null",
        "animated",
    ),
    Picture("phone.heic", "HEIC of a phone", "heif-enc -q 90 still.png -o {out} > /dev/null", "HEIC"),
    Picture("still.avif", "AVIF", "avifenc -s 10 still.png {out} > /dev/null", "AVIF"),
    Picture("still.tiff", "TIFF", f"{IM} still.png {{out}}", "TIFF"),
    Picture("still.jp2", "JPEG 2000", "$FF -i still.png -c:v libopenjpeg {out}", "JPEG 2000"),
    Picture("still.jxl", "JPEG XL", "$FF -i still.png -c:v libjxl {out}", "JPEG XL"),
    Picture("still.bmp", "BMP", f"{IM} still.png BMP3:{{out}}"),
    Picture("bmp5.bmp", "BMP with a newer header", f"{IM} still.png BMP:{{out}}"),
    Picture("still.ppm", "PPM", f"{IM} still.png {{out}}"),
    Picture("still.pgm", "PGM", f"{IM} still.png {{out}}"),
    Picture("deep.ppm", "PPM of 16 bits", f"{IM} still.png -depth 16 {{out}}"),
    Picture("still.svg", "SVG", "echo '<svg xmlns=\"http://www.w3.org/2000/svg\"/>' > {out}", "SVG"),
)
