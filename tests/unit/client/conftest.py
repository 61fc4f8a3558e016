"""One service for all tests of the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.settings import Settings
from tests.unit.client.serving import Serving, serving


@pytest.fixture(scope="session")
def running() -> Iterator[Serving]:
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def guarded() -> Iterator[Serving]:
    with serving(Settings(api_keys=(("ann", "correct-horse"),))) as found:
        yield found
