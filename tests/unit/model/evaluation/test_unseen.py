"""Gains on clips that nothing was tuned to: computed from two reports, clips unnamed, and the documents hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.evaluation import unseen

DOCS = Path(__file__).parents[4] / "docs"


def figures(gain: float) -> dict[str, Any]:
    def row(method: str, upto: int, psnr: float) -> dict[str, Any]:
        return {
            "method": method,
            "mean_over_steps_1_to": upto,
            "psnr": psnr,
            "ms_ssim": psnr / 100,
            "sharpness": 0.5,
        }

    rows = [row("dis", k, 30.0 - k) for k in (1, 3)] + [row("flow", k, 30.0 - k + gain * k) for k in (1, 3)]
    by_clip = {
        "secret.mp4": {"repeat": 20.0, "dis": 28.0, "flow": 28.0 + 2 * gain},
        "other.mp4": {"repeat": 31.0, "dis": 30.0, "flow": 30.0},
    }
    return {"windows": 2, "command": "evaluate secret", "methods": rows, "psnr_t1_by_clip": by_clip}


def test_gains_are_means_over_clips_with_their_error_and_the_worst_of_them() -> None:
    measured = unseen.gains(figures(0.5), "flow")
    assert measured == pytest.approx((0.5, 0.5, 1, 2, 1.5, 0.5, -1.0, 0.5))


def test_both_reports_stand_beside_each_other_and_the_difference_is_judged() -> None:
    text = unseen.section(figures(0.5), unseen.unnamed(figures(0.6)))
    assert "| flow | +0.50 (0.50) | +0.60 (0.60) | +0.10 | 1 of 2 | +1.50 | +1.80 |" in text
    assert "`flow` at t+1: +0.10 dB, within the 0.15 dB that were the goal.\n" in text
    assert text.endswith("`flow` at t+3: +0.30 dB, **not within** the 0.15 dB that were the goal.\n")
    assert "live" not in text


def test_an_unnamed_report_has_the_same_figures_and_no_names() -> None:
    named = figures(0.5)
    hidden = unseen.unnamed(named)
    assert list(hidden["psnr_t1_by_clip"].values()) == list(named["psnr_t1_by_clip"].values())
    assert "secret" not in json.dumps(hidden)


def test_the_documents_hold_what_the_two_reports_come_to() -> None:
    chosen, others = (json.loads((DOCS / name).read_text()) for name in ("evaluation.json", "evaluation-unseen.json"))
    assert (DOCS / "evaluation.md").read_text().endswith("\n\n" + unseen.section(chosen, others))
    assert all(name.startswith("clip ") for name in others["psnr_t1_by_clip"])
