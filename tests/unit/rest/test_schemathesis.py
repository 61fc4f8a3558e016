"""Requests made up from the OpenAPI document, honest and not: no 5xx, nothing the document does not announce."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from service.rest.transport.bounded_protocol import BoundedProtocol
from tests.unit.rest.wired import wired

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The small service on a real port, in a thread of its own."""
    started = threading.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        found["stop"] = asyncio.Event()
        found["loop"] = asyncio.get_running_loop()
        async with wired(protocol=BoundedProtocol) as service:
            found["port"] = service.port
            started.set()
            await found["stop"].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    yield f"http://127.0.0.1:{found['port']}"
    found["loop"].call_soon_threadsafe(found["stop"].set)
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_made_up_requests_get_announced_answers(base_url: str, mode: GenerationMode) -> None:
    tried = set()
    document = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    for operation in (found.ok() for found in document.get_all_operations() if isinstance(found, Ok)):
        # Not `parametrize` of schemathesis: its plugin does not know this pytest.
        @settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, timeout=60)
            tried.add(case.operation.label)

        with contextlib.suppress(Unsatisfiable):  # nothing about a health check can be wrong
            call()
    assert "POST /v1/predict" in tried
