"""A head means one thing, and a body is what it says it is."""

from __future__ import annotations

import pytest

from service.core.errors import ServiceError
from service.rest.transport.middleware import check_fields
from service.settings import Settings
from tests.unit.rest.small import Small
from tests.unit.rest.wired import wired


@pytest.mark.parametrize(
    "name", ["Content-Type", "X-Frame-Shape", "X-Request-Timeout-Ms", "Idempotency-Key", "Authorization", "Host"]
)
async def test_a_field_that_is_given_twice_is_refused_by_name(name: str, small: Small) -> None:
    """The first counted, while a proxy may go by the last."""
    answer = await small.http.post("/v1/predict", headers=[("Host", "localhost"), (name, "a"), (name, "b")])
    assert (answer.status_code, answer.json()["field"]) == (400, name)
    assert answer.json()["detail"] == f"{name} is given twice"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"deflate", b"identity"])
def test_a_body_that_is_coded_on_its_way_is_not_taken_for_its_content(coding: bytes) -> None:
    with pytest.raises(ServiceError) as error:
        check_fields([(b"host", b"localhost"), (b"transfer-encoding", coding)])
    assert (error.value.code, error.value.field) == ("unsupported", "Transfer-Encoding")


def test_fields_with_several_values_and_those_that_are_not_read_may_come_twice() -> None:
    names = (b"accept", b"x-forwarded-for", b"prefer", b"cookie", b"x-request-id")
    check_fields([(b"transfer-encoding", b"Chunked"), *((name, value) for name in names for value in (b"a", b"b"))])


@pytest.mark.parametrize(
    ("version", "head", "status"),
    [("1.1", "", 400), ("1.1", "Host: localhost\r\n", 200), ("1.1", "Host:\r\n", 200), ("1.0", "", 200)],
)
async def test_http_1_1_without_a_host_is_refused(version: str, head: str, status: int) -> None:
    """RFC 9112, 3.2. HTTP/1.0 needs none; an empty one is that of an address without a name."""
    async with wired(Settings(allowed_hosts=("*",))) as service, service.connect() as wire:
        await wire.send(f"GET /v1/model HTTP/{version}\r\n{head}\r\n".encode())
        answer = await wire.answer()
    assert answer.status == status
    assert status == 200 or answer.json()["field"] == "Host"
