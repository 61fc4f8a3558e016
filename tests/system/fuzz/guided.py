"""The same parsers under libFuzzer, which looks for inputs that reach new code: python -m tests.system.fuzz.guided.

Needs atheris (requirements/fuzz.txt), which `make fuzz-guided` installs. Each target runs in a process of its own,
since libFuzzer ends the process it runs in; what it finds is kept in .cache/fuzz and is where the next run begins.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

CORPUS = Path(__file__).parents[3] / ".cache" / "fuzz"
#: Inputs longer than this reach nothing new in parsers of headers, bytes.
LONGEST = 4096


def fuzz(name: str, seconds: int) -> None:
    """One target until the time is over or it crashes; does not return."""
    import atheris

    # Instrumented as they are imported: what is imported before stays dark to libFuzzer.
    with atheris.instrument_imports(include=["service", "proto"]):
        from service.core.errors import ServiceError
        from tests.system.fuzz.targets import TARGETS
    warnings.simplefilter("error")
    seeds, parse, _ = TARGETS[name]
    folder = CORPUS / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def one(data: bytes) -> None:
        with contextlib.suppress(ServiceError):
            parse(data)

    wishes = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/crash-"]
    atheris.Setup([sys.argv[0], *wishes, "-print_final_stats=1", "-verbosity=0", str(folder)], one)
    atheris.Fuzz()


def every(names: Sequence[str], seconds: int, run: Callable[..., subprocess.CompletedProcess[str]]) -> int:
    """Each target after the other; how many crashed."""
    crashed = 0
    for name in names:
        done = run(
            [sys.executable, "-m", "tests.system.fuzz.guided", name, "--seconds", str(seconds)],
            capture_output=True,
            text=True,
        )
        crashed += done.returncode != 0
        stats = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        inputs = stats[-1].split()[-1] if stats else "?"
        print(f"{name:18} {inputs:>10} inputs, {'CRASHED' if done.returncode else 'no crash'}", flush=True)
        if done.returncode:
            print("\n".join((done.stdout + done.stderr).splitlines()[-40:]))
    return crashed


def main() -> int:
    """0 if no target crashed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", nargs="?", help="one only, in this process")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    asked = parser.parse_args()
    if asked.target:
        fuzz(asked.target, asked.seconds)
    from tests.system.fuzz.targets import TARGETS

    return min(1, every(list(TARGETS), asked.seconds, subprocess.run))


if __name__ == "__main__":
    sys.exit(main())
