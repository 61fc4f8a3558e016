"""Mutated bytes into every parser that reads what strangers send: python -m tests.fuzz [INPUTS] [SEED].

The only permitted outcomes are a value and a ServiceError. Prints what was tried; a crash prints the input that did it.
"""

from __future__ import annotations

import collections
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable

from PIL import Image

from service.core import accept, codec
from service.core.codec import Limits
from service.core.errors import ServiceError
from service.rest import inputs, multipart, options
from service.settings import Settings
from tests.core.pictures import exif, file_of, noise, save, smooth

LIMITS = Limits(max_bytes=2**20, max_pixels=128 * 128, min_side=4, max_side=128)
PICTURES = [
    *(file_of(noise(12, 16), format) for format in ("PNG", "JPEG", "WEBP", "BMP", "PPM")),
    *(file_of(noise(12, 16)[..., 0], format) for format in ("PNG", "BMP", "PPM", "JPEG")),
    save(Image.fromarray(smooth(12, 16)).quantize(8), "PNG", transparency=bytes(3)),
    save(Image.fromarray(smooth(12, 16)).quantize(8), "BMP"),
    save(Image.fromarray(smooth(12, 16)).convert("RGBA"), "WEBP", lossless=True, exif=exif(5)),
    save(Image.fromarray(smooth(12, 16)).convert("LA"), "PNG", exif=b"Exif\0\0" + exif(6)),
    save(Image.fromarray(smooth(12, 16)), "PNG", save_all=True, append_images=[Image.fromarray(noise(12, 16))]),
    file_of(smooth(24, 32), "JPEG", progressive=True, exif=b"Exif\0\0" + exif(8)),
]
FORM = b"--X\r\nContent-Disposition: form-data; name=\"previous\"; filename*=utf-8''a\r\n\r\nab\r\n"
FORM += b"--X\r\nContent-Disposition: form-data; name=current\r\n\r\n\r\n--X\r\n"
FORM += b'Content-Disposition: form-data; name="steps"\r\n\r\n2\r\n--X--\r\n'
JSONS = [
    b'{"previous": "aGk=", "current": "data:image/png;base64,aGk=", "steps": 2, "scale": 0.5, "seed": null}',
    b'{"previous": "\\ud83d\\ude00", "maps": "float16", "route": "100100100", "blocks": 1e5, "x": [[[{}]]]}',
]
ACCEPTS = [b"text/html, image/*;q=0.8, */*;q=0.1", b"application/json;charset=utf-8;q=1.000, image/png;q=0"]
SETTINGS = Settings()


def _options(data: bytes) -> object:
    pairs = [part.partition("=") for part in data.decode("latin-1").split("&")]
    return options.parse(options.merge([[(name, value) for name, _, value in pairs]]), None, SETTINGS)


#: What is fuzzed: seeds, the parser, how often (pictures have the most to go wrong).
TARGETS: dict[str, tuple[list[bytes], Callable[[bytes], object], int]] = {
    "picture": (PICTURES, lambda data: codec.decode(data, LIMITS, "previous"), 12),
    "form": ([FORM], lambda data: multipart.parse(data, "multipart/form-data; boundary=X"), 2),
    "form type": (
        [b"multipart/form-data; boundary=\"X\"; charset*=utf-8'en'%00"],
        lambda data: multipart.parse(FORM, data.decode("latin-1")),
        1,
    ),
    "json": (JSONS, inputs._json, 3),
    "accept": (ACCEPTS, lambda data: accept.choose(data.decode("latin-1"), ["image/png"]), 1),
    "options": ([b"steps=2&scale=0.5&route=budget&blocks=3", b"seed=1&maps=float16"], _options, 1),
}


def mutate(data: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    """A few of: a byte changed, bytes cut, doubled, moved in from another seed, a length made extreme."""
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        if not made:
            break
        # Half of the time near the start, where headers are.
        at = dice.randrange(min(len(made), 64) if dice.random() < 0.5 else len(made))
        end = min(len(made), at + dice.randrange(1, 32))
        match dice.randrange(7):
            case 0 | 1:
                made[at] = dice.randrange(256)
            case 2:
                made[at] ^= 1 << dice.randrange(8)
            case 3:
                del made[at:end]
            case 4:
                made[at:at] = made[at:end] * dice.choice((1, 2, 50))
            case 5:
                other = dice.choice(others)
                start = dice.randrange(len(other))
                made[at:end] = other[start : start + dice.randrange(1, 64)]
            case _:
                made[at:end] = dice.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * (end - at)
    return bytes(made)


def main(count: int, seed: int) -> int:
    """How many inputs crashed a parser."""
    warnings.simplefilter("error")
    dice, outcomes, crashes = random.Random(seed), collections.Counter[str](), 0
    names = [name for name, (_, _, often) in TARGETS.items() for _ in range(often)]
    began = time.monotonic()
    for _ in range(count):
        name = dice.choice(names)
        seeds, parse, _ = TARGETS[name]
        data = mutate(dice.choice(seeds), dice, seeds)
        try:
            parse(data)
            outcomes[f"{name}: read"] += 1
        except ServiceError as error:
            outcomes[f"{name}: {error.code}"] += 1
        except Exception as error:
            crashes += 1
            print(f"CRASH {name} {type(error).__name__}: {error}\n  {data!r}")
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} inputs (seed {seed}) in {seconds:.0f} s: {crashes} crashes, peak memory {peak:.0f} MiB")
    for outcome, number in sorted(outcomes.items()):
        print(f"  {outcome:28} {number}")
    return crashes


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    total = arguments[0] if arguments else 1_000_000
    sys.exit(bool(main(total, arguments[1] if len(arguments) > 1 else random.SystemRandom().randrange(2**32))))
