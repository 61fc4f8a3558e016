"""A TLS certificate whose files are replaced while the service runs, as cert-manager and certbot do before it ends."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from service.files import file_version

log = logging.getLogger("service")

#: Seconds between looks at the files.
CHECK_S = 10.0


class CertificateFiles:
    """A PEM chain and its private key on disk. `renewed` is for one reader."""

    def __init__(self, chain: Path, key: Path) -> None:
        self.chain, self.key = chain, key
        self._used = self._warned = self._versions()

    def renewed(self) -> bool:
        """Tell whether the files hold another pair than at the last call that said so.

        Files that do not fit each other, half of them written perhaps, are no pair: the one in use stays.
        """
        versions = self._versions()
        if versions == self._used:
            return False
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.chain, self.key)
        except OSError as error:  # SSLError is one
            if versions != self._warned:
                log.warning("the renewed TLS certificate cannot be used; the one before stays: %s", error)
            self._warned = versions
            return False
        self._used = versions
        log.info("the TLS certificate was renewed")
        return True

    async def keep(self, context: ssl.SSLContext, check_s: float = CHECK_S) -> None:
        """Load a renewed certificate into `context`, for new connections. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(check_s)
            if self.renewed():
                context.load_cert_chain(self.chain, self.key)

    def _versions(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(file_version(path) for path in (self.chain, self.key))
