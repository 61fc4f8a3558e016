from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import InvalidRequest, UnsupportedMedia
from service.rest.formats.clip_form import FormFile

TYPE = "multipart/form-data; boundary=xyz"
HEAD = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'


def _read(body: bytes, size: int) -> bytes:
    form = FormFile(TYPE)
    content = b"".join(form.feed(body[at : at + size]) for at in range(0, len(body), size))
    form.check_ended()
    return content


@given(
    content=st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\r\n--xy", b"\r\n", b"-", b"\r", b"z"])).map(b"".join),
    size=st.integers(1, 300),
)
def test_the_file_comes_out_whole_however_it_arrives(content: bytes, size: int) -> None:
    if b"\r\n--xyz" not in b"\r\n" + content:
        assert _read(HEAD + content + b"\r\n--xyz--\r\n", size) == content


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (HEAD + b"clip", "ends before its last boundary"),
        (HEAD + b"clip\r\n--xyz\r\nContent-Disposition: form-data; name=every\r\n\r\n2\r\n--xyz--", "in the query"),
        (b"no form at all " * 1000, "does not begin with its boundary"),
        (b"--xyz--\r\n", "holds no file"),
    ],
)
@pytest.mark.parametrize("size", [7, 100_000])
def test_another_form_is_refused_with_what_is_wrong(body: bytes, why: str, size: int) -> None:
    with pytest.raises(InvalidRequest, match=why):
        _read(body, size)


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        FormFile("multipart/form-data")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"Content-Transfer-Encoding: base64", "Content-Transfer-Encoding base64; send its bytes as they are"),
        (b"content-transfer-encoding:Quoted-Printable", "Content-Transfer-Encoding Quoted-Printable"),
        (b"Content-Type: multipart/mixed; boundary=abc", "holds parts itself"),
    ],
)
def test_a_clip_that_is_coded_for_its_way_is_refused_by_what_it_is(header: bytes, why: str) -> None:
    """Its text was taken for the clip: no video that can be read, whatever was wrong."""
    with pytest.raises(UnsupportedMedia, match=why) as error:
        _read(HEAD.replace(b"Content-Type: video/mp4", header) + b"clip\r\n--xyz--", 100)
    assert error.value.field == "body"


@pytest.mark.parametrize("coding", [b"binary", b"8bit", b"7BIT"])
def test_a_clip_that_says_it_is_not_coded_is_read(coding: bytes) -> None:
    head = HEAD.replace(b"Content-Type:", b"Content-Transfer-Encoding: " + coding + b"\r\nContent-Type:")
    assert _read(head + b"clip\r\n--xyz--", 100) == b"clip"
