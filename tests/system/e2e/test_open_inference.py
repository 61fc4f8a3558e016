"""The protocol group's own client, unmodified: it writes every number as a double and parses strictly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from service.core.types import Frame, Options, PredictRequest, RouteChoice
from tests.system.e2e.joined import joined
from tests.system.e2e.v2_tools import tools
from tests.unit.rpc.small import picture

SESSION = Path(__file__).parent / "open_inference_session.py"


async def test_the_groups_client_gets_what_the_engine_answers(tmp_path: Path) -> None:
    clients = tools()
    older, newer = picture(0, 32, 48), picture(1, 32, 48)
    np.save(tmp_path / "frames.npy", np.stack([older, newer])[None])
    async with joined() as service:
        options = Options(route=RouteChoice.parse("budget", blocks=3))
        result = await service.parts.engine.predict(PredictRequest("x", Frame(older), Frame(newer), options))
        report = json.loads(
            await clients.run(clients.python, SESSION, service.http, tmp_path / "frames.npy", seconds=60)
        )
    assert (report["server"], report["model"], report["shape"]) == ("dmvfn", "dmvfn", [1, 1, 32, 48, 3])
    assert report["pred"] == result.steps[0].frame.pixels.ravel().tolist()
