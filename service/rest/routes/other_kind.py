"""Says of an id that is asked for among the jobs of one kind that it is one of the other kind: frames, or a clip."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from fastapi import Depends
from starlette.requests import Request

from service.core.errors import NotFound, ServiceError
from service.rest.transport import context


class Lookup(Protocol):
    """What both kinds have: `ClipJobs` and `Jobs`."""

    async def get(self, ident: str, client: str, /) -> object: ...


def told_of_clips(clips: Lookup | None) -> Any:
    """Return the dependency of routes that know jobs of frames; None: there are no clips."""
    return _told(clips, "a clip", "/v1/video")


def told_of_jobs(jobs: Lookup | None) -> Any:
    """Return the dependency of routes that know clips; None: there are no jobs of frames."""
    return _told(jobs, "a job of frames", "/v1/jobs")


def _told(others: Lookup | None, name: str, path: str) -> Any:
    async def told(request: Request) -> AsyncGenerator[None]:
        try:
            yield
        except NotFound:
            ident = request.path_params.get("job")
            if others is None or ident is None or not await _has(others, ident, context.of(request).client):
                raise
            where = f"{context.of(request).prefix}{path}/{ident}"
            raise NotFound(f"this is {name}: it is at {where}", field="job") from None

    return Depends(told)


async def _has(others: Lookup, ident: str, client: str) -> bool:
    with contextlib.suppress(ServiceError):
        await others.get(ident, client)
        return True
    return False
