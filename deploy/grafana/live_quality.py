"""How good live streams look: predictions against the frames that came."""

from __future__ import annotations

from deploy.grafana.query import Panel, Query, Row, quantiles, rate

LABELS = "method, version"
NEXT = ',ahead="1"'
LEGEND = "{{method}} {{version}}"


def _mean(metric: str) -> str:
    return f"{rate(f'{metric}_sum', LABELS, NEXT)} / {rate(f'{metric}_count', LABELS, NEXT)}"


ROWS = (
    Row(
        "How good live predictions are",
        (
            Panel(
                "Next frame against the one that came",
                "dB",
                "Mean PSNR, on samples. Scenes that move more have less.",
                (Query(_mean("dmvfn_stream_psnr_db"), LEGEND),),
            ),
            Panel(
                "Better than showing the last frame again",
                "dB",
                "A step down alone is a worse version; with all others, other scenes. Below 0 predictions do harm.",
                (Query(f"({_mean('dmvfn_stream_psnr_db')}) - ({_mean('dmvfn_stream_repeated_psnr_db')})", LEGEND),),
            ),
            Panel(
                "Frames after they were to be seen",
                "s",
                "Of streams that say when (show_at, display_fps), by their clients' receipts. 0: in time.",
                quantiles("dmvfn_stream_show_late_seconds", 0.5, 0.99),
            ),
            Panel(
                "Freezes of streams with losses",
                "ops",
                "A second, as WebRTC counts them: shown, and as repeating frames would have had them.",
                (Query(rate("dmvfn_stream_freezes_total", "kind"), "{{kind}}"),),
            ),
            Panel(
                "What their ticks showed",
                "ops",
                "predicted and repeated: the frame was not there.",
                (Query(rate("dmvfn_stream_ticks_total", "source"), "{{source}}"),),
                stacked=True,
            ),
        ),
    ),
)
