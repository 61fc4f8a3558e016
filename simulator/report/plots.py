"""The pictures of the four questions. Needs matplotlib; nothing else here does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]
COLOURS = ("tab:green", "tab:orange", "tab:red", "tab:blue", "tab:purple")
STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))
MARKS = ("o", "s", "^", "D", "v")


def _figure(rows: int, columns: int, width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)


def _save(figure: Any, path: Path, title: str) -> None:
    from matplotlib import pyplot

    figure.suptitle(f"{title} (simulated)", fontsize=12)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _names(data: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in data))


def batches(path: Path, *, data: Rows, budget: float) -> None:
    """Plot median latency and useful device time over load: columns are device and traffic."""
    cells = list(dict.fromkeys((row["device"], row["traffic"]) for row in data))
    figure, axes = _figure(2, len(cells), 3.4 * len(cells), 6.4)
    for column, (device, traffic) in enumerate(cells):
        for number, policy in enumerate(_names(data, "policy")):
            rows = [r for r in data if (r["device"], r["traffic"], r["policy"]) == (device, traffic, policy)]
            look = {"color": COLOURS[number], "linestyle": STYLES[number], "marker": MARKS[number], "markersize": 4}
            loads = [row["load"] for row in rows]
            axes[0, column].plot(loads, [row["p50_ms"] for row in rows], label=policy, **look)
            axes[1, column].plot(loads, [100 * row["useful_share"] for row in rows], **look)
        axes[0, column].set_title(f"{device.split(',')[0].split(':')[0]}\n{traffic}", fontsize=9)
        axes[0, column].set(yscale="log", ylim=(15, 1300 * budget))
        axes[1, column].set(xlabel="load, multiples of the capacity", ylim=(0, 105))
        for axis in axes[:, column]:
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("median latency of answers, ms")
    axes[1, 0].set_ylabel("device time spent on\nanswers in time, %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    _save(figure, path, "Greedy batches against windows and prefixes")


def routes(path: Path, *, data: Rows) -> None:
    """Plot answers in time, and blocks for each, over load."""
    figure, axes = _figure(1, 2, 9.5, 4.2)
    looks = {1: "one size", 2: "two sizes"}
    for number, (name, sizes) in enumerate((n, s) for n in _names(data, "routes") for s in looks):
        rows = [row for row in data if (row["routes"], row["sizes"]) == (name, sizes)]
        loads, look = (
            [row["load"] for row in rows],
            {"color": COLOURS[number], "marker": MARKS[number], "markersize": 4},
        )
        label = f"{name}, {looks[sizes]}"
        axes[0, 0].plot(loads, [100 * row["on_time_share"] for row in rows], label=label, **look)
        axes[0, 1].plot(loads, [row["mean_blocks"] for row in rows], label=label, **look)
    axes[0, 0].set(ylabel="answered in time, % of all requests", ylim=(0, 105))
    axes[0, 1].set(ylabel="blocks of an answer, mean", ylim=(0, 9.5))
    for axis in axes[0]:
        axis.set_xlabel("load, multiples of the capacity with all blocks")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=9, loc="lower left")
    _save(figure, path, "Full routes against adaptive ones")


def lag(path: Path, *, data: Rows, step_at: float, until: float, high: float) -> None:
    """Plot pods, and requests that got no answer, after a step: columns are scalers."""
    import numpy as np

    scalers = _names(data, "scaler")
    figure, axes = _figure(2, len(scalers), 4.8 * len(scalers), 6.4)
    edges = np.arange(0, until + 1, 15.0)
    for column, scaler in enumerate(scalers):
        courses = [row for row in data if (row["scaler"], row["course"]) == (scaler, "step")]
        for number, row in enumerate(courses):
            look = {"color": COLOURS[number], "label": f"at least {row['least']}"}
            whens, pods = [when for when, _ in row["pods"]], [count for _, count in row["pods"]]
            axes[0, column].step([*whens, until], [*pods, pods[-1]], where="post", **look)
            counts, _ = np.histogram(row["lost_at"], edges)
            axes[1, column].plot(edges[:-1], counts / 15, **look)
        axes[0, column].set(title=scaler, yticks=range(0, 21, 4), ylim=(0, 21), xlim=(0, until))
        axes[1, column].set(xlabel="seconds; the load rises at the dotted line", xlim=(0, until))
        for axis in axes[:, column]:
            axis.axvline(step_at, color="black", linestyle=":", linewidth=1)
            axis.grid(alpha=0.3)
        axes[0, column].axhline(high, color="black", linestyle="--", linewidth=1, label=f"load, {high:g} devices'")
    axes[0, 0].set_ylabel("pods asked for")
    axes[1, 0].set_ylabel("refused or expired a second")
    axes[1, 0].legend(fontsize=9)
    _save(figure, path, "A step, and what the autoscaler's lag costs")


def fleet(path: Path, *, data: Rows, load: float) -> None:
    """Plot latency and answers in time over the number of workers."""
    figure, axes = _figure(1, 2, 9.5, 4.2)
    for number, router in enumerate(_names(data, "router")):
        rows = [row for row in data if row["router"] == router]
        workers = [row["workers"] for row in rows]
        look = {"color": COLOURS[number], "marker": MARKS[number], "linestyle": STYLES[number], "label": router}
        axes[0, 0].plot(workers, [row["p99_ms"] for row in rows], **look)
        axes[0, 1].plot(workers, [100 * row["on_time_share"] for row in rows], **look)
    axes[0, 0].set(ylabel="99th percentile of answers, ms", ylim=(0, None))
    axes[0, 1].set(ylabel="answered in time, %", ylim=(0, 105))
    for axis in axes[0]:
        axis.set(xscale="log", xlabel=f"workers, each at load {load:g}")
        axis.set_xticks(ticks := _names(data, "workers"), [f"{count:,}" for count in ticks])
        axis.grid(alpha=0.3)
    axes[0, 1].legend(fontsize=9, loc="lower left")
    _save(figure, path, "One worker to a thousand")
