"""Mutated bytes into every parser that reads what strangers send: python -m tests.system.fuzz [INPUTS] [SEED].

The only permitted outcomes are a value and a ServiceError. Prints what was tried; a crash prints the input that did it.
"""

from __future__ import annotations

import collections
import random
import resource
import sys
import time
import warnings

from service.core.errors import ServiceError
from tests.system.fuzz.targets import TARGETS


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
        print(f"  {outcome:34} {number}")
    return crashes


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    total = arguments[0] if arguments else 1_000_000
    sys.exit(bool(main(total, arguments[1] if len(arguments) > 1 else random.SystemRandom().randrange(2**32))))
