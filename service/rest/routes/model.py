"""GET /v1/model: what is served, what it is worth, and what a request may be."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from service.app_state import AppState
from service.core.types import BLOCKS, SCALES, Quality, RoutePolicy
from service.rest.formats import response
from service.rest.formats.params import Maps
from service.rest.formats.schemas import LimitsInfo, ModelInfo, OptionsInfo, ShadowInfo, VersionInfo
from service.rest.transport.known_query import KNOWN_QUERY
from service.serving.oip.served_versions import ServedVersions

NAME = "dmvfn"
#: What the codec reads.
INPUTS = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/x-portable-pixmap", "image/x-portable-graymap"]
OUTPUTS = [format.media_type for format in response.PICTURES] + [
    "application/octet-stream",
    response.MIXED,
    response.JSON,
]


def router(state: AppState) -> APIRouter:
    """Build the route of the model."""
    routes = APIRouter(tags=["model"], dependencies=[KNOWN_QUERY])
    settings = state.settings

    @routes.get("/v1/model", operation_id="getModel", summary="The model, its worth, limits and options")
    async def model() -> ModelInfo:
        info = state.engine.model()
        return ModelInfo(
            name=NAME,
            version=info.version,
            versions=[
                VersionInfo(
                    version=status.name,
                    state=status.state,
                    default=status.is_default,
                    share=status.share,
                    reason=status.reason,
                    shadow=ShadowInfo(**asdict(status.shadow)) if status.shadow is not None else None,
                )
                for status in ServedVersions.of(state).statuses
            ],
            device=info.device,
            dtype=info.dtype,
            parameters=info.parameters,
            colour_order=info.colour_order,
            training_data=info.training_data,
            sha256=info.sha256,
            scores=info.scores,
            warning=info.warning,
            inputs=INPUTS,
            outputs=OUTPUTS,
            default_method=info.default_method,
            head=info.head or None,
            limits=LimitsInfo(
                max_body_bytes=settings.max_body_bytes,
                max_pixels=settings.max_pixels,
                min_side=settings.min_side,
                max_side=settings.max_side,
                max_aspect=settings.max_aspect,
                max_steps=settings.max_steps,
                default_deadline_ms=settings.default_deadline_ms,
                max_deadline_ms=settings.max_deadline_ms,
            ),
            options=OptionsInfo(
                method=list(info.methods),
                # An explicit route is written as its bits, never as the word.
                route=[policy for policy in RoutePolicy if policy is not RoutePolicy.EXPLICIT] + ["[01]{9}"],
                blocks=list(range(1, BLOCKS + 1)),
                scale=list(SCALES),
                quality=list(Quality),
                maps=list(Maps),
            ),
        )

    return routes
