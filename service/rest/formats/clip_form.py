"""One file out of a form, while the form arrives: a clip is too long to hold. Knows nothing of clips.

The other forms are parsed whole, in `multipart`; here at most a boundary and a part's headers are held.
"""

from __future__ import annotations

from service.core.errors import InvalidRequest
from service.rest.formats.multipart import MAX_HEADERS, boundary_of, check_content, part_headers


class FormFile:
    """Strips the form around its only part. Source: RFC 7578.

    Raises InvalidRequest where it is no such form, UnsupportedMedia where the part is coded or holds parts.
    """

    def __init__(self, content_type: str) -> None:
        self._boundary = b"\r\n--" + boundary_of(content_type)
        # As if a line came before: then the first boundary looks like all others.
        self._held = bytearray(b"\r\n")
        self._step = self._preamble
        self.disposition = ""  #: the part's Content-Disposition, once it has come

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return what of it belongs to the file."""
        self._held += data
        return self._step()

    def check_ended(self) -> None:
        """Raise InvalidRequest unless the form's last boundary has come."""
        if self._step != self._epilogue:
            raise InvalidRequest("the form ends before its last boundary, or holds no file", field="body")

    def _preamble(self) -> bytes:
        """Look for the first boundary and the blank line after its headers."""
        start = self._held.find(self._boundary)
        if start >= 0:
            end = self._held.find(b"\r\n\r\n", start + len(self._boundary))
            if end >= 0:
                fields = part_headers(bytes(self._held[start:end]))
                check_content(fields, "body")
                self.disposition = fields.get(b"content-disposition", b"").decode(errors="replace")
                del self._held[: end + 4]
                self._step = self._content
                return self._content()
        if len(self._held) > MAX_HEADERS:
            raise InvalidRequest("the form does not begin with its boundary and short headers", field="body")
        return b""

    def _content(self) -> bytes:
        """Pass on all that cannot be the beginning of a boundary."""
        end = self._held.find(self._boundary)
        length = end if end >= 0 else max(0, len(self._held) - len(self._boundary) + 1)
        content = bytes(self._held[:length])
        del self._held[:length]
        if end >= 0:
            del self._held[: len(self._boundary)]
            self._step = self._closing
            self._closing()
        return content

    def _closing(self) -> bytes:
        """See whether the boundary was the last one."""
        if len(self._held) >= 2:
            if self._held[:2] != b"--":
                raise InvalidRequest(
                    "a form may hold the clip's file and nothing else; options stand in the query", field="body"
                )
            self._step = self._epilogue
        return self._epilogue() if self._step == self._epilogue else b""

    def _epilogue(self) -> bytes:
        self._held.clear()
        return b""
