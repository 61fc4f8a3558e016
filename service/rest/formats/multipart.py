"""multipart/form-data apart, multipart/mixed together. Knows nothing of what the parts mean.

Parsed from a body that is already in memory: parts are views of it, nothing is copied and no file is written.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence

from python_multipart.multipart import parse_options_header

from service.core.errors import InvalidRequest, UnsupportedMedia

MAX_PARTS = 32
#: Bytes of one part's headers, and their lines.
MAX_HEADERS, MAX_LINES = 8192, 32
#: Parameters of one header; a name in quotes may hold as many semicolons.
MAX_PARAMETERS = 64
#: Content-Transfer-Encodings whose bytes are the content itself (RFC 2045, 6.2).
_UNCODED = (b"7bit", b"8bit", b"binary")


def parse(body: bytes, content_type: str, limit: int = MAX_PARTS) -> list[tuple[str, memoryview]]:
    """Return a form's parts in order, as (name, bytes); InvalidRequest if it is malformed. Sources: RFC 7578, 2046.

    Streaming parsers look at every byte in Python; with the whole body at hand, the boundary is found at memory speed.
    """
    try:
        boundary = boundary_of(content_type)
        view = memoryview(body)
        parts: list[tuple[str, memoryview]] = []
        for start, end in _between(body, boundary):
            if len(parts) == limit:
                raise InvalidRequest(f"a form may have at most {limit} parts", field="body")
            blank = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEADERS))
            if blank < 0:
                raise InvalidRequest("a part of the form has no end to its headers", field="body")
            parts.append((_name(body[start:blank]), view[blank + 4 : end]))
        return parts
    # LookupError: a parameter in a character set that does not exist.
    except (ValueError, LookupError) as error:
        raise InvalidRequest("the multipart body is not well-formed", field="body") from error


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a form. Raises InvalidRequest where there is none of 1 to 70 characters."""
    _, parameters = header_parameters(content_type, "Content-Type")
    boundary = parameters.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise InvalidRequest("multipart needs a boundary of 1 to 70 characters", field="Content-Type")
    return boundary


def header_parameters(value: str, field: str) -> tuple[bytes, dict[bytes, bytes]]:
    """Return a header's value in lower case, and its parameters. Raises InvalidRequest for too many of them.

    The end of each is looked for in all that follows: a few thousand take seconds.
    """
    if value.count(";") > MAX_PARAMETERS:
        raise InvalidRequest(f"a header of a form may have at most {MAX_PARAMETERS} parameters", field=field)
    return parse_options_header(value)


def _between(body: bytes, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each part, with its headers, starts and ends."""
    mark = b"--" + boundary
    if body.startswith(mark):
        at = len(mark)
    else:
        at = body.find(b"\r\n" + mark) + 2 + len(mark)  # after a preamble, which says nothing
        if at < 2 + len(mark):
            raise InvalidRequest("the body does not hold the boundary that Content-Type names", field="body")
    while not body.startswith(b"--", at):
        line = body.find(b"\r\n", at, at + 256)
        if line < 0 or body[at:line].strip(b" \t"):
            raise InvalidRequest("a boundary of the multipart body does not end its line", field="body")
        # From its line break on: a part without headers begins with the blank line.
        end = body.find(b"\r\n" + mark, line)
        if end < 0:
            raise InvalidRequest("the multipart body ends before its last boundary", field="body")
        yield line + 2, end
        at = end + 2 + len(mark)


def _name(headers: bytes) -> str:
    if headers.count(b"\r\n") > MAX_LINES:
        raise InvalidRequest(f"a part of the form may have at most {MAX_LINES} headers", field="body")
    fields = part_headers(headers)
    kind, parameters = header_parameters(fields.get(b"content-disposition", b"").decode("latin-1"), "body")
    if kind != b"form-data" or not parameters.get(b"name"):
        raise InvalidRequest("every part needs Content-Disposition: form-data with a name", field="body")
    name = parameters[b"name"].decode("utf-8", "replace")
    check_content(fields, name[:40])
    return name


def part_headers(headers: bytes) -> dict[bytes, bytes]:
    """Return a part's headers, names in lower case; of two with one name the first."""
    pairs = (line.partition(b":") for line in reversed(headers.split(b"\r\n")))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def check_content(fields: Mapping[bytes, bytes], field: str) -> None:
    """Raise UnsupportedMedia, naming `field`, for a part that is coded for its way, or holds parts itself.

    Forms over HTTP do neither any more (RFC 7578, 4.3 and 4.7); what is coded would be taken for the content.
    """
    coding = fields.get(b"content-transfer-encoding", b"binary")
    if coding.lower() not in _UNCODED:
        name = coding[:40].decode("ascii", "backslashreplace")
        why = f"{field} has the Content-Transfer-Encoding {name}; send its bytes as they are"
        raise UnsupportedMedia(why, field=field)
    if fields.get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise UnsupportedMedia(f"{field} holds parts itself; send each file as a part of the form", field=field)


def new_boundary() -> str:
    """Draw a boundary for a multipart/mixed body."""
    return secrets.token_hex(16)


def mixed_type(boundary: str) -> str:
    """Return the content type of parts told apart by `boundary`."""
    return f"multipart/mixed; boundary={boundary}"


def piece(boundary: str, headers: Mapping[str, str], data: bytes) -> bytes:
    """Return one part with its headers, and the line break after it. Source: RFC 2046, 5.1."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"".join((f"--{boundary}\r\n{lines}\r\n".encode("latin-1"), data, b"\r\n"))


def last(boundary: str) -> bytes:
    """Return the line that ends the body."""
    return f"--{boundary}--\r\n".encode("latin-1")


def mixed(parts: Sequence[tuple[Mapping[str, str], bytes]]) -> tuple[str, bytes]:
    """Join parts with their headers; return (content type, body)."""
    boundary = new_boundary()
    return mixed_type(boundary), b"".join([*(piece(boundary, *part) for part in parts), last(boundary)])
