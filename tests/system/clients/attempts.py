"""Calls of a stock client, each with what came of it.

Imported by that client's own Python: needs numpy and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

#: What a session's standard output marks its lines by; clients print of their own accord, too.
MARK = "attempt "


class Attempts:
    """Tries calls one after the other; a failure ends none of those that follow."""

    def __init__(self, package: str, folder: str) -> None:
        """Read FRAMES and the right answer from `folder`; `package` is the client's distribution."""
        self.frames: np.ndarray = np.load(Path(folder) / "frames.npy")
        self.files = [(Path(folder) / f"{k}.png").read_bytes() for k in range(2)]
        self._right: np.ndarray = np.load(Path(folder) / "pred.npy")
        self._version = version(package)

    def tried(self, call: str, ask: Callable[[], object]) -> None:
        """Try `ask`: an array must be the right prediction, anything else must be true."""
        try:
            value = ask()
        except Exception as error:
            self._write(call, False, f"{type(error).__name__}: {error}")
            return
        if isinstance(value, np.ndarray):
            same = value.dtype == np.uint8 and value.ravel().tolist() == self._right.ravel().tolist()
            self._write(call, same, "the service's pixels" if same else f"other pixels, {value.dtype}{value.shape}")
        else:
            self._write(call, bool(value), "answered" if value else f"answered {value!r}")

    def refused(self, call: str, ask: Callable[[], object], words: str) -> None:
        """Try `ask`, which the service must refuse with a message that has `words`."""
        try:
            ask()
        except Exception as error:
            is_right = words in str(error)
            self._write(call, is_right, f"refused: “{words}”" if is_right else f"{type(error).__name__}: {error}")
        else:
            self._write(call, False, "was not refused")

    def _write(self, call: str, right: bool, result: str) -> None:
        line = {"call": call, "version": self._version, "right": right, "result": " ".join(result.split())}
        print(MARK + json.dumps(line), flush=True)
