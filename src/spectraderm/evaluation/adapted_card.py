"""The card of an adapted model: plain text around what the card before it said."""

import re
from collections.abc import Mapping
from typing import Any

from spectraderm.core.printable import markdown

ORIGIN = "## The model before"
"""Heading of the part that tells of the model that was trained first; what stands above it is of an adaptation."""


def card(before: str, measured: Mapping[str, Any], calibration: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The card of an adapted model, from the card `before`, what `adapt` measured, and names of classes for people."""
    front, body = _parts(before)
    classes = [own for own in measured["per_class"] if own["photos"]]
    known = ", ".join(markdown(name.lower()) for name in names.values())
    lines = [
        front,
        f"# Skin-photo classifier, adapted: {known}",
        "",
        "**Not a medical device.** For research and teaching. What it says is no diagnosis; with a skin complaint, see "
        "a\nclinician, and soon if redness spreads with fever or if a rash nears the eye.",
        "",
        f"Adapted from {markdown(measured['model_id'])}, with {measured['n_photos']} photos ({measured['n_groups']} "
        f"different ones) of {len(classes)} classes.",
        "",
        "## How good it is on photos like those it was adapted with",
        "Each photo was held out of the fit that it is counted for, and counted once with its copies.",
        "",
        "| class | different photos | right before | right after |",
        "| --- | --- | --- | --- |",
        *(_row(own, names) for own in classes),
        f"| all but `other` | | {_share(measured['before'])} | {_share(measured['after'])} |",
        "",
        f"The difference is {_points(measured['difference'])} points.",
        *_promise(measured, calibration),
        "All of this was measured on your own photos only: believe it for photos of the same places and cameras.",
        "",
        ORIGIN,
        "What follows is of the model before it was adapted, and of the photos that it was trained on.",
        "",
        re.sub(r"^#", "##", body, flags=re.MULTILINE) if ORIGIN not in before else body,
    ]
    return "\n".join(line for line in lines if line is not None).rstrip() + "\n"


def _parts(before: str) -> tuple[str, str]:
    """A card's front matter without what was measured, and the text of the model that was trained first."""
    match = re.match(r"---\n(.*?\n)---\n", before, re.DOTALL)
    front = match[1] if match else "library_name: spectraderm\npipeline_tag: image-classification\n"
    front = re.sub(r"^(model-index|metrics):.*\n(?:[ -].*\n)*", "", front, flags=re.MULTILINE)
    body = before[match.end() :] if match else before
    if ORIGIN in body:
        body = body.split(ORIGIN, 1)[1].split("\n\n", 1)[-1]
    return f"---\n{front}---", body


def _row(own: Mapping[str, Any], names: Mapping[str, str]) -> str:
    shares = ("–" if own[side] is None else f"{100 * own[side]:.0f} %" for side in ("before", "after"))
    return f"| {markdown(names.get(own['label'], own['label']))} | {own['groups']} | {' | '.join(shares)} |"


def _share(own: Mapping[str, Any]) -> str:
    if own["value"] is None:
        return "–"
    return f"{100 * own['value']:.1f} % ({100 * own['low']:.1f}–{100 * own['high']:.1f})"


def _points(own: Mapping[str, Any]) -> str:
    if own["value"] is None:
        return "?"
    return f"{100 * own['value']:+.1f} ({100 * own['low']:+.1f} to {100 * own['high']:+.1f})".replace("-", "−")


def _promise(measured: Mapping[str, Any], calibration: Mapping[str, Any]) -> list[str]:
    """What `predicted` means, and of which classes there are too few photos to say much."""
    lines = [f"Too few photos to say much of: {', '.join(map(markdown, measured['few']))}."] if measured["few"] else []
    if calibration["confidence_threshold"] > 1:
        return [*lines, "It never says `predicted`: the photos were too few, or it was too often wrong, to promise it."]
    verdicts = measured["verdicts"]
    share, right = (f"{100 * (verdicts[name] or 0):.0f}" for name in ("predicted", "predicted_right"))
    return [
        *lines,
        f"Of answers called `predicted`, {100 * calibration['promised_accuracy']:g} of 100 are promised to be right; "
        f"it said so of {share} % of the held-out photos, and was right in {right} % of these.",
    ]
