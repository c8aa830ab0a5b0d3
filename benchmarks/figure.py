"""Draws the table of `peers.py`: how many times better each row of ours is, from its lowest round to its highest.

python benchmarks/figure.py docs/performance.md docs/performance.png
"""

import re
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

RATIO = re.compile(r"\*\*([\d.]+) \(([\d.]+)-([\d.]+)\)\*\*")
WORSE, BETTER = "#b5502a", "#1d6b61"


def main() -> None:
    """Draw it."""
    page, target = map(Path, sys.argv[1:])
    cells = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in page.read_text().splitlines()]
    rows = [(row[0], row[1], row[3], RATIO.match(row[5])) for row in cells if len(row) == 6]
    found = [
        (f"{what} · {ours} / {peer}", [float(part) for part in ratio.groups()])
        for what, peer, ours, ratio in rows
        if ratio
    ]
    found.reverse()
    figure, axes = plt.subplots(figsize=(9, 0.22 * len(found) + 1), layout="constrained")
    for place, (_, (middle, low, high)) in enumerate(found):
        colour = BETTER if middle >= 1 else WORSE
        axes.barh(place, middle - 1, left=1, color=colour)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
    axes.set(xscale="log", yticks=range(len(found)), yticklabels=[name for name, _ in found])
    axes.set_xlabel("times as fast, or as small (left of 1: the peer is better)")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=7)
    axes.margins(y=0.01)
    figure.savefig(target, dpi=75)


if __name__ == "__main__":
    main()
