"""The JSON bodies of our own routes, for the OpenAPI document and for writing them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Where this kind of error is explained.", examples=["/problems/invalid_frame"])
    title: str = Field(examples=["Invalid frame"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["previous is truncated"])
    code: str = Field(description="Stable; what programs should look at.", examples=["invalid_frame"])
    reason: str | None = Field(None, description="Finer than the code where it helps, such as `unmeetable`.")
    field: str | None = Field(None, description="The input at fault.", examples=["previous"])
    request_id: str = Field(examples=["4f1c0f7e8a274d0c9a1b5a0f0c3d2e1f"])
    retry_after_ms: int | None = Field(None, description="When trying again can help.")
    error: str = Field(description="The detail once more, for clients of the Open Inference Protocol.")


class LimitsInfo(BaseModel):
    """What a request may be."""

    max_body_bytes: int
    max_pixels: int
    min_side: int
    max_side: int
    max_aspect: float
    max_steps: int
    default_deadline_ms: int
    max_deadline_ms: int


class OptionsInfo(BaseModel):
    """What a request may choose."""

    method: list[str] = Field(description="What can predict here.")
    route: list[str]
    blocks: list[int]
    scale: list[float]
    quality: list[str]
    maps: list[str]


class ShadowInfo(BaseModel):
    """How a version compares with the default on requests that both answered. Its answers are sent to nobody."""

    share: float = Field(description="Its part of the live requests that name no version; 0 once it was ended.")
    compared: int
    agreement_db: float | None = Field(description="Median PSNR between its answers and the default's.")
    time_ratio: float | None = Field(description="Its median time a pixel on the device, divided by the default's.")
    reason: str = Field(description="Why it was ended.")


class VersionInfo(BaseModel):
    """A loaded version of the weights."""

    version: str
    state: str = Field(examples=["READY"])
    default: bool = Field(description="Whether it answers where no version is named.")
    share: float = Field(description="Its part of the live requests that name none, 0 to 1, beside the default.")
    reason: str = Field(description="Why it gets no share any more.")
    shadow: ShadowInfo | None = Field(description="Set while it answers again what the default answered.")


class ModelInfo(BaseModel):
    """What is served and what it is worth."""

    name: str = Field(examples=["dmvfn"])
    version: str
    versions: list[VersionInfo] = Field(description="What is loaded, the default first.")
    device: str
    dtype: str
    parameters: int = Field(examples=[3559930])
    colour_order: str = Field(description="Of the weights; frames travel as RGB always.")
    training_data: str
    sha256: str
    scores: dict[str, float] = Field(description="Measured on the validation clips; PSNR in dB.")
    warning: str | None = Field(description="Set where these weights are not known to beat repeating the last frame.")
    inputs: list[str] = Field(description="Media types of frames that are read.")
    outputs: list[str] = Field(description="Media types of answers.")
    default_method: str = Field(description="What predicts where a request names neither a method nor a route.")
    head: str | None = Field(description="Version of the head by which methods flow and mix weigh.")
    limits: LimitsInfo
    options: OptionsInfo


class Health(BaseModel):
    """Whether the service lives, or takes work."""

    status: str = Field(examples=["ready"])
    reason: str | None = Field(None, description="starting, draining, device_lost, queue_lost or pulse_lost.")
    refusing_seconds: float = Field(
        0.0, description="For how long an idle device has refused all by prediction alone and answered nothing."
    )
    warnings: list[str] = Field([], description="What an operator should mend, such as a Redis that may lose jobs.")
