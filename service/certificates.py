"""TLS files that are replaced while the service runs.

A certificate, as cert-manager and certbot renew it before it ends, and the authorities that sign callers' certificates.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path

from service.files import file_version

log = logging.getLogger("service")

#: Seconds between looks at the files.
CHECK_S = 10.0


class CertificateFiles:
    """A PEM chain, its private key and, where callers must show a certificate, the authorities that sign those.

    `renewed` is for one reader.
    """

    def __init__(self, chain: Path, key: Path, authorities: Path | None = None) -> None:
        self.chain, self.key, self.authorities = chain, key, authorities
        self._used = self._warned = self._versions()
        self._believed_since = 0.0  #: seconds since the epoch: when other authorities came into force, if any did

    def context(self) -> ssl.SSLContext:
        """Make a server's context of what the files hold now. Raises OSError, as SSLError is, if it cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A key under a passphrase is refused, by an empty one: OpenSSL would else wait for one at the terminal.
        context.load_cert_chain(self.chain, self.key, password=bytes)
        if self.authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authorities)
        return context

    def renewed(self) -> bool:
        """Tell whether the files hold something else than at the last call that said so.

        Files that do not fit each other, half of them written perhaps, change nothing: what is in use stays.
        """
        versions = self._versions()
        if versions == self._used:
            return False
        try:
            self.context()
        except OSError as error:
            if versions != self._warned:
                log.warning("the renewed TLS files cannot be used; those before stay in force: %s", error)
            self._warned = versions
            return False
        if self.authorities is not None and versions[-1] != self._used[-1]:
            self._believed_since = time.time()
        self._used = versions
        log.info("the TLS certificate was renewed")
        return True

    async def keep(self, context: ssl.SSLContext, check_s: float = CHECK_S) -> None:
        """Make new connections of `context` use what is renewed. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(check_s)
            if self.renewed():
                self._put_into(context)

    def _put_into(self, context: ssl.SSLContext) -> None:
        """Give each handshake that begins with `context` a fresh one: an authority can be added to one, never taken."""
        fresh, believed_since = self.context(), self._believed_since
        fresh.set_ciphers(":".join(cipher["name"] for cipher in context.get_ciphers()))

        def begin(
            connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
        ) -> ssl.AlertDescription | None:
            connection.context = fresh
            # Asked for its session, a connection that resumes none raises.
            session = connection.session if believed_since and connection.session_reused else None
            # The caller's certificate was looked at when the session began, by authorities that may be gone.
            is_older = session is not None and session.time < believed_since
            return ssl.AlertDescription.ALERT_DESCRIPTION_ACCESS_DENIED if is_older else None

        context.sni_callback = begin  # called without a name, too

    def _versions(self) -> tuple[tuple[int, int, int] | None, ...]:
        paths = (self.chain, self.key, self.authorities)
        return tuple(file_version(path) for path in paths if path is not None)
