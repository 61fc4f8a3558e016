"""The file of API keys, read again when it is replaced while the service runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from service.core.api_keys import KeyRing, read_keys
from service.files import file_version

log = logging.getLogger("service")

#: Seconds between looks at the file.
CHECK_S = 2.0
#: The file holds keys of people, not of everybody: more than this is some other file.
MOST_BYTES = 16 * 2**20


def read_key_file(path: Path) -> KeyRing:
    """Read the keys in a file. Raises ValueError, which holds nothing of its content, if it cannot be used."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")  # Windows' editors begin with a mark
    except UnicodeDecodeError:
        raise ValueError("is no text") from None
    return read_keys(text)


def usable_key_file(name: str) -> Path:
    """Return the path of a file of keys that can be used now. Raises ValueError as `read_key_file`."""
    path = Path(name)
    read_key_file(path)
    return path


class KeyFile:
    """A file of keys, and what was last read from it. `problem` says why its content is not in force, else ""."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Before the content: a file that is replaced in between is then read again.
        self._version = file_version(path)
        self.keys = read_key_file(path)
        self.problem = ""

    def renewed(self) -> bool:
        """Read the file if it was replaced; tell whether it holds keys, which are `keys` from then on.

        Content that cannot be used changes nothing but `problem`.
        """
        version = file_version(self.path)
        if version == self._version:
            return False
        self._version = version
        try:
            self.keys = read_key_file(self.path)
        except ValueError as error:
            self.problem = f"DMVFN_API_KEYS_FILE {error}; the keys before stay in force"
            log.error("%s", self.problem)
            return False
        self.problem = ""
        log.info("the API keys were read again", extra={"keys": len(self.keys.keys)})
        return True

    async def keep(self, use: Callable[[KeyRing], None], check_s: float = CHECK_S) -> None:
        """Call `use` with the keys whenever they are renewed. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(check_s)
            if self.renewed():
                use(self.keys)

    def warnings(self) -> tuple[str, ...]:
        """Return what an operator should mend."""
        return (self.problem,) if self.problem else ()


def gauges(file: KeyFile | None) -> list[tuple[str, str, dict[str, str], float]]:
    """Return the series of a file of keys, or of none, for `Metrics.watch`."""
    is_bad = file is not None and bool(file.problem)
    return [("api_keys_file_bad", "1 while the file of API keys cannot be used; the keys before stay.", {}, is_bad)]
