"""Health, metrics, the model, and the queues."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.core.interfaces import Readiness
from service.rest.app import build
from service.settings import Settings
from tests.unit.rest.small import MODEL, ShiftEngine, Small


async def test_the_process_lives(small: Small) -> None:
    small.engine.state = Readiness(False, "starting")
    answer = await small.http.get("/healthz/live")
    assert (answer.status_code, answer.json()["status"]) == (200, "live")


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [(Readiness(True), 200, None), (Readiness(False, "starting"), 503, "starting")],
)
async def test_readiness_tells_its_reason(small: Small, state: Readiness, status: int, reason: str | None) -> None:
    small.engine.state = state
    answer = await small.http.get("/healthz/ready")
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


async def test_metrics_are_text_by_default(small: Small) -> None:
    answer = await small.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE dmvfn_requests_total counter" in answer.text


async def test_openmetrics_is_given_where_asked_for(small: Small) -> None:
    answer = await small.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
    assert {"dmvfn_requests", "dmvfn_stage_duration_seconds"} <= names


async def test_the_model_says_what_it_is_worth_and_what_it_takes(small: Small) -> None:
    body = (await small.http.get("/v1/model")).json()
    assert (body["name"], body["version"], body["parameters"]) == ("dmvfn", MODEL.version, 3_559_930)
    assert body["scores"] == {"psnr_t1": 26.2}
    assert body["warning"] == "The quality of these weights has not been measured."
    assert body["limits"]["max_pixels"] == Settings().max_pixels
    assert body["options"]["scale"] == [1.0, 0.5, 0.25]
    assert "image/webp" in body["inputs"]


class Talkative(ShiftEngine):
    """An engine that shows its queues."""

    def debug(self) -> dict[str, object]:
        return {"queues": []}


async def test_an_engine_with_queues_shows_them(small: Small) -> None:
    from dataclasses import replace

    app = build(replace(small.parts, engine=Talkative()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        assert (await http.get("/debug/batcher")).json() == {"queues": []}
