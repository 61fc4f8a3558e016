"""Forms apart and answers together."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import InvalidRequest, ServiceError, UnsupportedMedia
from service.rest.formats import clip_name
from service.rest.formats.clip_form import FormFile
from service.rest.formats.multipart import MAX_PARTS, mixed, parse

TYPE = "multipart/form-data; boundary=XX"


def form(*parts: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    pieces = [
        b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in parts
    ]
    return b"".join(pieces) + end


def test_parts_come_in_order_without_being_copied() -> None:
    body = form(("previous", b"one\r\n--X\r\n"), ("current", b""), ("steps", b"2"))
    parts = parse(body, TYPE)
    assert [(name, bytes(data)) for name, data in parts] == [
        ("previous", b"one\r\n--X\r\n"),
        ("current", b""),
        ("steps", b"2"),
    ]
    assert parts[0][1].obj is body


@pytest.mark.parametrize("content_type", ['multipart/form-data; boundary="XX"', "Multipart/Form-Data;boundary=XX;a=b"])
def test_the_boundary_may_be_quoted(content_type: str) -> None:
    assert len(parse(form(("a", b"b")), content_type)) == 1


def test_preamble_epilogue_and_padding_say_nothing() -> None:
    body = b"hello\r\n" + form(("a", b"b")).replace(b"--XX\r\n", b"--XX \t\r\n", 1) + b"goodbye"
    assert [(name, bytes(data)) for name, data in parse(body, TYPE)] == [("a", b"b")]


def test_headers_that_would_take_seconds_to_be_read_are_refused_before() -> None:
    """Two megabytes of semicolons held up every other caller for seconds."""
    many, head = ";" * 1000, b"Content-Disposition: form-data; name=a"
    for body in (b"--XX\r\n%b%b\r\n\r\nb\r\n--XX--" % (head, many.encode()), b"--XX\r\n%b" % (b"a:\r\n" * 100 + head)):
        with pytest.raises(InvalidRequest, match="at most") as error:
            parse(body + b"\r\n\r\nb\r\n--XX--\r\n", TYPE)
        assert error.value.field == "body"
    for read in (lambda: parse(form(), TYPE + many), lambda: FormFile(TYPE + many)):
        with pytest.raises(InvalidRequest, match="at most 64 parameters") as error:
            read()
        assert error.value.field == "Content-Type"
    with pytest.raises(InvalidRequest, match="at most 64 parameters"):
        clip_name.stem("attachment" + many)
    assert clip_name.stem('attachment; filename="%s.mp4"' % ("a;" * 20)) == "a_" * 19 + "a"


def test_a_form_without_parts_is_empty() -> None:
    assert parse(b"--XX--\r\n", TYPE) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", TYPE),
        (form(("a", b"b")), "multipart/form-data"),
        (form(("a", b"b")), "multipart/form-data; boundary="),
        (form(("a", b"b")), "multipart/form-data; boundary=" + "X" * 71),
        (form(("a", b"b")), "multipart/form-data; boundary=YY"),
        (form(("a", b"b"), end=b""), TYPE),
        (form(("a", b"b"), end=b"--XX"), TYPE),
        (form(("a", b"b"))[:20], TYPE),
        (form(*[("a", b"b")] * (MAX_PARTS + 1)), TYPE),
        (b"--XXY\r\n\r\n\r\n--XX--", TYPE),
        (b"--XX\r\n\r\nno name\r\n--XX--", TYPE),
        (b"--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nb\r\n--XX--", TYPE),
        (b"--XX\r\nContent-Disposition: form-data; name=" + b"a" * 9000 + b"\r\n\r\nb\r\n--XX--", TYPE),
    ],
)
def test_a_malformed_form_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse(body, content_type)
    assert error.value.field in ("body", "Content-Type")


def test_invalid_utf8_in_a_name_gives_an_unknown_name() -> None:
    body = form(("NAME", b"b")).replace(b"NAME", b"\xff\xfe")
    assert parse(body, TYPE)[0][0] == "\ufffd\ufffd"


@given(st.binary(max_size=200), st.text(max_size=60))
def test_any_bytes_give_parts_or_a_service_error(body: bytes, content_type: str) -> None:
    for text in (TYPE, content_type, "multipart/form-data; boundary=" + content_type):
        disposition = b"--XX\r\nContent-Disposition: form-data; " + body
        for data in (body, b"--XX\r\n" + body, form(("a", body)), disposition + b"\r\n\r\nb\r\n--XX--"):
            try:
                parts = parse(data, text)
            except ServiceError:
                continue
            assert len(parts) <= MAX_PARTS


def test_mixed_parts_are_read_back_by_an_independent_parser() -> None:
    content_type, body = mixed([({"Content-Type": "image/png", "X-Dmvfn-Step": "1"}, b"\x89PNG\r\n--"), ({}, b"two")])
    message = email.message_from_bytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    first, second = message.iter_parts()
    assert first["X-Dmvfn-Step"] == "1"
    assert first.get_payload(decode=True) == b"\x89PNG\r\n--"
    assert second.get_payload(decode=True) == b"two"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"Content-Transfer-Encoding: base64", "previous has the Content-Transfer-Encoding base64; send its bytes"),
        (b"CONTENT-TRANSFER-ENCODING:quoted-printable", "quoted-printable"),
        (b"Content-Type: Multipart/Mixed; boundary=abc", "previous holds parts itself"),
    ],
)
def test_a_part_that_is_coded_for_its_way_is_refused_by_name(header: bytes, why: str) -> None:
    """An option of "=31" is no 1, and base64 no picture."""
    body = b'--XX\r\nContent-Disposition: form-data; name="previous"\r\n%s\r\n\r\nMQ==\r\n--XX--\r\n' % header
    with pytest.raises(UnsupportedMedia, match=why) as error:
        parse(body, TYPE)
    assert error.value.field == "previous"


@pytest.mark.parametrize("coding", [b"binary", b"8bit", b"7BIT"])
def test_a_part_that_says_it_is_not_coded_is_read(coding: bytes) -> None:
    head = b"Content-Transfer-Encoding: %s\r\nContent-Disposition: form-data; name=a" % coding
    assert [(name, bytes(data)) for name, data in parse(b"--XX\r\n%s\r\n\r\nb\r\n--XX--" % head, TYPE)] == [("a", b"b")]
