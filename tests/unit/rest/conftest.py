"""The small service, and two frames for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.imaging.pictures import Pixels, noise
from tests.unit.rest.small import Small, running


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with running() as made:
        yield made


@pytest.fixture(scope="session")
def previous() -> Pixels:
    return noise(32, 48, 1)


@pytest.fixture(scope="session")
def current() -> Pixels:
    return noise(32, 48, 2)
