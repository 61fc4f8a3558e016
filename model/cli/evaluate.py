"""`python -m model evaluate`: weights and baselines on a folder of clips or a benchmark, with a report."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from model import checkpoint
from model.cli import values
from model.cli.values import refuse, whole
from model.evaluation import mixtures, page, plots, protocols, report, timing, unseen
from model.evaluation.baselines import BASELINES
from model.evaluation.lpips import LPIPS
from model.evaluation.measure import Measurement, measure
from model.inference import pixels
from model.mixing import weights as heads
from model.training.clips import LayoutError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("data", type=Path, help="a folder of clips, or the root of a benchmark")
    parser.add_argument("--protocol", choices=protocols.NAMES, default="clips", help="default: clips")
    parser.add_argument("--weights", type=Path, default=checkpoint.DEFAULT, help="default: the shipped weights")
    parser.add_argument("--head", type=Path, default=heads.DEFAULT, help="a mixing head (default: the shipped one)")
    parser.add_argument("--live-head", type=Path, default=heads.LIVE, help="another, for live streams")
    parser.add_argument("--colour-order", choices=("RGB", "BGR"), help="of weights that do not say it")
    parser.add_argument("--out", type=Path, default=Path("run/evaluation"), help="folder of the report")
    parser.add_argument("--per-clip", type=whole(1), default=5, help="windows of each clip (protocol clips; default 5)")
    parser.add_argument("--steps", type=whole(1), default=3, help="frames ahead (protocol clips; default 3)")
    parser.add_argument("--limit", type=whole(1), help="stop after so many windows")
    parser.add_argument("--device", type=values.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=whole(1), help="CPU threads")
    parser.add_argument("--lpips-alexnet", type=Path, help="torchvision's AlexNet; with --lpips-lines adds LPIPS")
    parser.add_argument("--lpips-lines", type=Path, help="the lin layers of the lpips package (alex, v0.1)")
    parser.add_argument("--sharp-head", type=Path, default=heads.SHARP, help="another, for sharper frames")
    parser.add_argument("--times", type=Path, help="take milliseconds from this report.json instead of measuring them")
    parser.add_argument("--unnamed", action="store_true", help="call clips by numbers in report.json")
    parser.add_argument("--check", type=Path, help="a report.json of clips that nothing was tuned to, to show beside")
    parser.add_argument("--name", help="how the report calls the weights (default: their version)")


def main(arguments: argparse.Namespace) -> int:
    """Measure and write the report's files (see `write`); return the exit code."""
    try:
        return _evaluate(arguments)
    except (LayoutError, ValueError, OSError) as error:
        return refuse(error)


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    network = checkpoint.load(arguments.weights, arguments.colour_order).to(device)
    lpips = None
    if (arguments.lpips_alexnet is None) != (arguments.lpips_lines is None):
        raise ValueError("LPIPS takes both --lpips-alexnet and --lpips-lines")
    if arguments.lpips_alexnet:
        lpips = LPIPS.load(arguments.lpips_alexnet, arguments.lpips_lines).to(device)
    earlier = _milliseconds(arguments.times) if arguments.times else {}
    others = _report(arguments.check, "psnr_t1_by_clip") if arguments.check else None
    began = time.monotonic()

    def progress(count: int) -> None:
        print(f"{count} windows, {count / (time.monotonic() - began):.2f} a second", flush=True)

    windows = protocols.windows(arguments.protocol, arguments.data, arguments.per_clip, arguments.steps)
    selection = (window for number, window in enumerate(windows) if arguments.limit is None or number < arguments.limit)
    methods = mixtures.methods(network, arguments.head, arguments.live_head, arguments.sharp_head)
    measurement = measure(network, selection, device, lpips, progress=progress, mixtures=methods)
    if not measurement.scores:
        raise ValueError(f"{arguments.data}: no clip is long enough")
    if arguments.times:
        measurement.milliseconds.update(earlier)
    elif device.type == "cpu":
        shown = measurement.shown[0]
        pair = [pixels.to_pictures(frame).cpu().numpy() for frame in (shown.previous, shown.current)]
        measurement.milliseconds.update(timing.milliseconds(network, {**BASELINES, **methods}, pair[0], pair[1]))
    evaluation = report.EvaluationRun(
        weights=arguments.name or checkpoint.metadata(network).version,
        protocol=arguments.protocol,
        steps=protocols.reported(arguments.protocol, arguments.steps),
        windows=len({score.window for score in measurement.scores}),
        command=_command(arguments),
    )
    write(arguments.out, evaluation, measurement)
    if arguments.unnamed:
        report_json = arguments.out / "report.json"
        hidden = unseen.unnamed(json.loads(report_json.read_text()))
        report_json.write_text(json.dumps(hidden, indent=1) + "\n")
    if others is not None:
        with (arguments.out / "report.md").open("a") as file:
            file.write("\n" + unseen.section(report.figures(evaluation, measurement), others))
    print(report.markdown(evaluation, measurement))
    return 0


def _milliseconds(times: Path) -> dict[str, float]:
    """Read what each method took from an earlier report.json. ValueError where the file holds no such times."""
    earlier = _report(times, "milliseconds")["milliseconds"]
    try:
        return {name: float(value) for name, value in earlier.items() if value is not None}
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{times}: milliseconds are no numbers by method") from error


def _report(path: Path, key: str) -> dict[str, Any]:
    """Read a report.json that holds `key`. ValueError where the file is none."""
    try:
        report_json = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(report_json, dict) or key not in report_json:
        raise ValueError(f"{path}: no report.json with {key}")
    return report_json


def write(out: Path, evaluation: report.EvaluationRun, measurement: Measurement) -> None:
    """Write report.md, report.json, scores.json, index.html, quality.png and, where timed, time.png into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    plots.quality_against_cost(report.budget_lines(measurement), out / "quality.png")
    has_times = plots.quality_against_time(
        report.timed_lines(evaluation, measurement), measurement.milliseconds, out / "time.png"
    )
    (out / "report.md").write_text(
        report.markdown(evaluation, measurement, "quality.png", "time.png" if has_times else None)
    )
    (out / "report.json").write_text(report.as_json(evaluation, measurement))
    (out / "scores.json").write_text(json.dumps(report.checkpoint_scores(evaluation, measurement), indent=1) + "\n")
    (out / "index.html").write_text(page.page(evaluation, measurement))


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that repeats this evaluation, without paths of this machine."""
    parts = [f"python -m model evaluate {arguments.data.name or '.'} --protocol {arguments.protocol}"]
    if arguments.protocol == "clips":
        parts.append(f"--per-clip {arguments.per_clip} --steps {arguments.steps}")
    return " ".join(parts)
