"""Says where a job is to who asks for it at the paths of the other kind: frames and clips have paths of their own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from fastapi import Depends
from starlette.requests import Request

from service.core.errors import NotFound, ServiceError
from service.rest.transport import context


class Lookup(Protocol):
    """The part of `ClipJobs` and `Jobs` that finds one by its id."""

    async def get(self, ident: str, client: str, /) -> object: ...


def hint_at_clips(clips: Lookup | None) -> Any:
    """Build the dependency of routes of jobs of frames: NotFound of a clip's id then says where that is.

    `clips` None: there are none.
    """
    return _hint(clips, "a clip", "/v1/video")


def hint_at_jobs(jobs: Lookup | None) -> Any:
    """Build the dependency of routes of clips: NotFound of the id of a job of frames then says where that is."""
    return _hint(jobs, "a job of frames", "/v1/jobs")


def _hint(others: Lookup | None, name: str, path: str) -> Any:
    async def hint(request: Request) -> AsyncGenerator[None]:
        try:
            yield
        except NotFound:
            ident = request.path_params.get("job")
            if others is None or ident is None or not await _has(others, ident, context.of(request).client):
                raise
            where = f"{context.of(request).prefix}{path}/{ident}"
            raise NotFound(f"this is {name}: it is at {where}", field="job") from None

    return Depends(hint)


async def _has(others: Lookup, ident: str, client: str) -> bool:
    with contextlib.suppress(ServiceError):
        await others.get(ident, client)
        return True
    return False
