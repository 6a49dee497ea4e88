"""The figure of docs/what-suits-the-student.md: what signals cost and what they are worth.

    python scripts/plot_signals.py

The figures are those of the tables in docs/what-suits-the-student.md (first world) and
docs/results/tasks.md (second world), by hand: change them together.
"""

from __future__ import annotations

from pathlib import Path

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "what-suits-the-student.svg"
# Seconds to score 384 candidates, and how often the better of two is found, in percent.
WORLDS: dict[str, dict[str, tuple[float, float]]] = {
    "one style is best": {
        "in-context exam": (30.7, 75.7),
        "student's loss": (1.6, 73.8),
        "gradients": (126.4, 72.1),
        "influence": (27.5, 66.1),
        "rank and surprisal": (1.7, 25.7),
    },
    "it depends on the task": {
        "in-context exam": (58, 88),
        "student's loss": (3, 72),
        "gradients": (177, 66),
        "influence": (82, 71),
        "rank and surprisal": (3, 32),
    },
}
COLOURS = {
    "in-context exam": "#1b6ca8",
    "student's loss": "#d1495b",
    "gradients": "#66a182",
    "influence": "#8d6cab",
    "rank and surprisal": "#7a7a7a",
}


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "signals"  # the same file every time
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    axes.axhline(50, color="#999999", linewidth=1, linestyle=":")
    axes.text(300, 51, "chance", ha="right", color="#666666", fontsize=8)
    for (world, signals), marker in zip(WORLDS.items(), "os", strict=True):
        for name, (seconds, share) in signals.items():
            axes.plot(seconds, share, marker, color=COLOURS[name], markersize=8)
        axes.plot([], [], marker, color="#444444", label=world)
    for name, colour in COLOURS.items():
        points = [signals[name] for signals in WORLDS.values()]
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, alpha=0.5)
        above = name == "gradients"
        axes.annotate(
            name,
            points[0],
            (-4, 8 if above else -14),
            textcoords="offset points",
            color=colour,
            ha="left" if name == "rank and surprisal" else "center",
        )
    axes.set(xscale="log", xlim=(1, 320), ylim=(15, 95))
    axes.set_xlabel("seconds to score 384 candidates (one core, tiny student)")
    axes.set_ylabel("finds the better of two, %")
    axes.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", title="world")
    figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
