"""Writes the scores of the model card (model/weights/README.md) from the reports that `scripts/evaluation` keeps.

`python -m model.evaluation.card` rewrites what stands there between `<!-- scores: network -->`, or `heads`, and
`<!-- /scores -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CARD = ROOT / "model" / "weights" / "README.md"

#: What each method of a report is called in the card.
NETWORK = {
    "repeat": "repeating the last frame",
    "farneback": "flow extrapolation, OpenCV Farneback",
    "dis": "flow extrapolation, OpenCV DIS",
    "auto": "these weights, `auto`",
}
HEADS = {
    "flow": "mixing (`flow`)",
    "sharp": "mixing-sharp",
    "live": "mixing-live (`quality=fast`)",
    "live at 1/2": "mixing-live with `scale=0.5`",
}

Report = dict[str, Any]


def network_scores(val: Report) -> str:
    """Return the table of the network and its rivals on the held-out clips, Markdown."""
    rows = ["| | PSNR t+1 | MS-SSIM x100 t+1 | PSNR t+3 | MS-SSIM x100 t+3 |", "| --- | --- | --- | --- | --- |"]
    for method, name in NETWORK.items():
        near, far = _score(val, method, 1), _score(val, method, 3)
        scores = f"{near['psnr']:.2f} | {100 * near['ms_ssim']:.1f} | {far['psnr']:.2f} | {100 * far['ms_ssim']:.1f}"
        rows.append(f"| {name} | {scores} |")
    return "\n".join(rows)


def head_scores(val: Report, unseen: Report) -> str:
    """Return the table of the mixing heads, on the held-out clips and on those that nothing was tuned to, Markdown."""
    rows = [
        "| | over DIS, t+1, t+3 | there | over DIS fast, t+1 | there | worst clip | there | sharpness |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method, name in HEADS.items():
        cells = []
        for report in (val, unseen):
            near, far = (_score(report, method, steps)["psnr"] for steps in (1, 3))
            dis = [near - _score(report, "dis", 1)["psnr"], far - _score(report, "dis", 3)["psnr"]]
            cells.append(", ".join(f"{gain:+.2f}" for gain in dis))
        cells += [f"{_score(r, method, 1)['psnr'] - _score(r, 'dis fast', 1)['psnr']:+.2f}" for r in (val, unseen)]
        cells += [f"{_worst(report, method):+.2f}" for report in (val, unseen)]
        rows.append(f"| {name} | {' | '.join(cells)} | {_score(val, method, 1)['sharpness']:.2f} |")
    return "\n".join(rows)


def written(text: str, val: Report, unseen: Report) -> str:
    """Return a card's text with both tables anew. Raises ValueError where a table's marks are gone."""
    return _filled(_filled(text, "network", network_scores(val)), "heads", head_scores(val, unseen))


def reports() -> tuple[Report, Report]:
    """Read the reports on the held-out clips and on those that nothing was tuned to."""
    val, unseen = (json.loads((ROOT / "docs" / f"evaluation{name}.json").read_text()) for name in ("", "-unseen"))
    return val, unseen


def _filled(text: str, name: str, table: str) -> str:
    table_pattern = re.compile(rf"(<!-- scores: {name} -->\n).*?(<!-- /scores -->)", re.DOTALL)
    text, count = table_pattern.subn(lambda match: f"{match[1]}{table}\n{match[2]}", text)
    if count != 1:
        raise ValueError(f"the card has no place for the scores of the {name}")
    return text


def _score(report: Report, method: str, steps: int) -> dict[str, float]:
    rows = (row for row in report["methods"] if row["method"] == method and row["mean_over_steps_1_to"] == steps)
    score: dict[str, float] = next(rows)
    return score


def _worst(report: Report, method: str) -> float:
    """Return the gain, dB, over the better of DIS and repeating on the clip where that is least."""
    clips = report["psnr_t1_by_clip"].values()
    return float(min(clip[method] - max(clip["dis"], clip["repeat"]) for clip in clips))


if __name__ == "__main__":
    CARD.write_text(written(CARD.read_text(), *reports()))
