"""The model card's scores are those of the last evaluation."""

from __future__ import annotations

import pytest

from model.evaluation import card


def test_the_card_has_the_scores_of_the_reports() -> None:
    text = card.CARD.read_text()
    assert card.written(text, *card.reports()) == text, "run `python -m model.evaluation.card`"


def test_gains_and_the_worst_clip_are_those_of_the_reports() -> None:
    methods = [
        ("dis", 30.0, 28.0),
        ("dis fast", 29.5, 27.0),
        ("repeat", 25.0, 24.0),
        *((name, 30.5, 28.25) for name in card.HEADS),
    ]
    report = {
        "methods": [
            {"method": name, "mean_over_steps_1_to": steps, "psnr": psnr, "ms_ssim": 0.9, "sharpness": 0.6}
            for name, *scores in methods
            for steps, psnr in zip((1, 3), scores, strict=True)
        ],
        "psnr_t1_by_clip": {
            "a": {"dis": 31.0, "repeat": 20.0, **dict.fromkeys(card.HEADS, 32.0)},
            "b": {"dis": 29.0, "repeat": 30.0, **dict.fromkeys(card.HEADS, 29.0)},
        },
    }
    last = card.head_scores(report, report).splitlines()[-1]
    assert last.split(" | ")[1:] == ["+0.50, +0.25", "+0.50, +0.25", "+1.00", "+1.00", "-1.00", "-1.00", "0.60 |"]


def test_a_card_without_a_place_for_them_is_refused() -> None:
    with pytest.raises(ValueError, match="scores of the network"):
        card.written("no marks", *card.reports())
