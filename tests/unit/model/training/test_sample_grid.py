"""The sample sheet and the colours of flow."""

from __future__ import annotations

import torch

from model.training.sample_grid import flow_colours, sheet


def test_a_sheet_has_a_row_a_sample_and_six_columns() -> None:
    frames = torch.rand(3, 3, 16, 24)
    picture = sheet(frames, frames, frames, frames, torch.zeros(3, 4, 16, 24), rows=2)
    assert picture.size == (6 * 24, 2 * 16)


def test_no_motion_is_white_and_directions_differ() -> None:
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 0, 0, 1], flow[0, 0, 0, 2] = 5.0, -5.0
    still, right, left = flow_colours(flow)[0, :, 0].unbind(1)
    assert torch.equal(still, torch.ones(3))
    assert float((right - left).abs().max()) > 0.5
