"""Scores with their intervals on the terminal: tables of them, by source, and at home beside elsewhere."""

from pathlib import Path
from typing import Any

from spectraderm.cli.folder_tables import print_table
from spectraderm.core.printable import say
from spectraderm.core.run import Run
from spectraderm.evaluation.home_and_elsewhere import side_by_side, warning


def say_side_by_side(run: Path, evaluation: dict[str, Any]) -> None:
    """At home beside each source elsewhere; or that the latter was never measured, and the command that does."""
    rows = side_by_side(Run(run), evaluation)
    if len(rows) > 1:
        shown = ("group_accuracy", "stated", "coverage", "predicted", "accuracy")
        cells = [[score(row[name]) if row[name] else "" for name in shown] for row in rows]
        names = [f"{row['name']}{f' ({notes})' if (notes := ', '.join(row['notes'])) else ''}" for row in rows]
        heads = ("", "right", "stated", "sets hold it", "predicted", "of these right")
        body = [(name, *own) for name, own in zip(names, cells, strict=True)]
        print_table(heads, body, "At home and elsewhere; in %, each photo group once")
    if text := warning(Run(run), evaluation):
        how = "mends that, by labelled photos of other sources"
        say(text, f"  `spectraderm calibrate {run} --external PHOTOS...` {how}")


def say_by_source(result: dict[str, Any]) -> None:
    """A table of sources, their mean, and the worst by name; nothing where no source is known."""
    parts, means = result.get("by_source", {}), result.get("mean_over_sources", {})
    shown = ("group_accuracy", "stated", "ece", "coverage", "predicted")

    def cells(own: dict[str, Any]) -> list[str]:
        told = [score(own[name]) if own.get(name) else "" for name in shown]
        right = (own.get("predicted") or {}).get("accuracy")
        outside = own.get("out_of_distribution")
        return [*told, score(right) if right else "", score(outside["refused"]) if outside else ""]

    rows = [(name, f"{own['n_groups']} ({own['n_photos']})", *cells(own)) for name, own in parts.items()]
    if means:
        rows.append(("mean of sources", "", *cells(means)))
    if rows:
        heads = ("source", "photos (files)", "right", "stated", "ECE", "sets hold it", "predicted", "right among these")
        print_table((*heads, "of no class: refused"), rows, "By source; in %, 95 % intervals over photo groups")
    if means:
        worst = result["worst_source"]
        say(f"The worst source is {worst}: {score(parts[worst]['group_accuracy'])} right")


def score(metric: dict[str, Any]) -> str:
    """A share in % with its interval: `87.3 (84.9–89.6)`."""
    if metric["value"] is None:
        return "–"
    if metric["low"] is None or metric["low"] == metric["high"]:
        return f"{100 * metric['value']:.1f}"
    return f"{100 * metric['value']:.1f} ({100 * metric['low']:.1f}–{100 * metric['high']:.1f})"
