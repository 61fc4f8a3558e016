"""An HTML page to look at: side-by-side strips with error maps, the flow and the route taken, one file."""

from __future__ import annotations

import base64
import html
import io

from PIL import Image
from torch import Tensor

from model.evaluation.measure import Measurement, ShownWindow
from model.evaluation.report import EvaluationRun, figures
from model.inference import pixels
from model.training.sample_grid import ERROR_GAIN, flow_colours

#: Pictures are reduced to this height: a page of a few megabytes.
HEIGHT = 180
_STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:1500px}figure{display:inline-block;margin:4px}"
    "figcaption{font-size:12px}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:3px 8px}"
)


def page(evaluation: EvaluationRun, measurement: Measurement) -> str:
    """Write the whole page, pictures inside."""
    rows = figures(evaluation, measurement)["methods"]
    columns = list(rows[0])
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{'-' if row[column] is None else row[column]}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    strips = "".join(_strip(window) for window in measurement.shown)
    title = f"DMVFN {html.escape(evaluation.weights)}: {html.escape(evaluation.protocol)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p><code>{html.escape(evaluation.command)}</code></p>"
        f"<table><tr>{head}</tr>{body}</table>{strips}</html>\n"
    )


def _strip(window: ShownWindow) -> str:
    pictures = [("previous", window.previous), ("current", window.current), ("true next", window.target)]
    for method in ("auto", "full", "dis", "repeat"):
        frame = window.predictions[method]
        pictures.append((method, frame))
        pictures.append((f"{method}: error x{ERROR_GAIN:.0f}", (frame - window.target).abs() * ERROR_GAIN))
    pictures.append(("flow of auto to the current frame", flow_colours(window.flow[None])[0]))
    figures_ = "".join(
        f'<figure><img alt="{html.escape(name)}" src="{_embedded(frame)}"><figcaption>{html.escape(name)}</figcaption>'
        "</figure>"
        for name, frame in pictures
    )
    return f"<h2>{html.escape(window.clip)}, window {window.window}, route {window.route}</h2>{figures_}"


def _embedded(frame: Tensor) -> str:
    image = Image.fromarray(pixels.to_pictures(frame.detach()).numpy())
    image.thumbnail((10 * HEIGHT, HEIGHT))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
