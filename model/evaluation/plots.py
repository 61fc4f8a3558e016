"""Quality against cost as a picture."""

from __future__ import annotations

from pathlib import Path

from model.evaluation.summary import SummaryRow


def quality_against_cost(lines: list[SummaryRow], path: Path) -> None:
    """Plot PSNR at t+1 of route policies against multiply-adds, the baselines as level lines. Needs matplotlib."""
    # Only the report draws: training and serving must not need a plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    first = [line for line in lines if line.upto == 1]
    budgets = [line for line in first if line.method.startswith("budget")]
    axes.plot(
        [line.macs_per_frame / 1e9 for line in budgets],
        [line.values["psnr"] for line in budgets],
        "o-",
        color="tab:blue",
        label="block budget 1..9",
    )
    for line in budgets:
        place = (line.macs_per_frame / 1e9, line.values["psnr"])
        axes.annotate(line.method.removeprefix("budget "), place, (0, 6), textcoords="offset points", ha="center")
    for name, marker, colour in (("auto", "*", "tab:red"), ("full", "s", "tab:green")):
        line = next(line for line in first if line.method == name)
        axes.plot(line.macs_per_frame / 1e9, line.values["psnr"], marker, color=colour, markersize=11, label=name)
    styles = (("repeat", ":"), ("farneback", "-."), ("dis", "--"))
    for name, style in styles:
        line = next(line for line in first if line.method == name)
        axes.axhline(line.values["psnr"], linestyle=style, color="grey", label=name)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.08 * (high - low))  # room for the numbers over the points
    axes.set_xlabel("G multiply-adds per frame (routing included, but for full)")
    axes.set_ylabel("PSNR at t+1, dB")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def quality_against_time(lines: list[SummaryRow], milliseconds: dict[str, float], path: Path) -> bool:
    """Plot PSNR at t+1 of every timed method over its milliseconds; return False, without a picture, where none is."""
    if not milliseconds:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    for line in lines:
        if line.upto != 1 or line.method not in milliseconds or line.method == "repeat":
            continue
        ours = not line.method.startswith(("dis", "farneback"))
        place = (milliseconds[line.method], line.values["psnr"])
        axes.plot(*place, "*" if ours else "o", color="tab:red" if ours else "tab:grey", markersize=11 if ours else 6)
        axes.annotate(line.method, place, (6, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks([2, 3, 5, 10, 20, 30, 50, 100], labels=["2", "3", "5", "10", "20", "30", "50", "100"])
    axes.minorticks_off()
    axes.set_xlabel("milliseconds of one thread for a frame of 256 x 448 (stars: ours)")
    axes.set_ylabel("PSNR at t+1, dB")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True
