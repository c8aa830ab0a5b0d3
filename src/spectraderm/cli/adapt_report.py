"""What `adapt` says of before and after."""

from pathlib import Path
from typing import Any

from spectraderm.cli.folder_tables import say_folders
from spectraderm.core.printable import say


def say_adapted(result: dict[str, Any], out: Path) -> None:
    """What was measured, what is promised, and what was written."""
    say_measured(result)
    calibration = result["calibration"]
    promise = f"never: {calibration['why']}"
    if calibration["confidence_threshold"] <= 1:
        promise = (
            f"from a probability of {100 * calibration['confidence_threshold']:.1f} %; promised "
            f"{100 * calibration['promised_accuracy']:g} % right, on photos like yours"
        )
    say(f"`predicted` {promise}")
    say(f"Model   {out} ({result['adapted_model_id']})", f"Next    spectraderm predict PHOTO --model {out}")


def say_measured(result: dict[str, Any]) -> None:
    """Before and after, of photos that were held out of the fit."""
    unusable = [text for text in result["left_out"] if text not in result["unreadable"]]
    for kind, lines in (("left out", unusable), ("learned from already", result["in_training"])):
        if lines:
            say(f"{len(lines)} photos {kind}; first: {lines[0]}")
    say_folders(result)
    counts = f"{result['n_photos']} photos, {result['n_groups']} photo groups"
    say(f"{counts}, each held out of the fit that it is counted for")
    width = max(len(own["label"]) for own in result["per_class"])
    for own in result["per_class"]:
        before, after = ("–" if own[side] is None else f"{100 * own[side]:.0f} %" for side in ("before", "after"))
        few = ", too few to say much" if own["label"] in result["few"] else ""
        say(f"  {own['label']:{width}}  {before:>5} -> {after:>5}  of {own['groups']}{few}")
    before, after, difference = (result[name] for name in ("before", "after", "difference"))
    if difference["value"] is not None:
        low, high = (f"{100 * difference[side]:+.1f}" for side in ("low", "high"))
        chance = "; it may be chance" if difference["low"] <= 0 < difference["value"] else ""
        say(
            f"Right {100 * before['value']:.1f} % -> {100 * after['value']:.1f} % ({100 * difference['value']:+.1f} "
            f"points, 95 % interval {low} to {high}{chance}), other left out"
        )
    verdicts = {name: "–" if share is None else f"{100 * share:.0f} %" for name, share in result["verdicts"].items()}
    said = f"Held-out verdicts: predicted {verdicts['predicted']}, right in {verdicts['predicted_right']} of these"
    say(f"{said}; of `other` {verdicts['others_predicted']}" if verdicts["others_predicted"] != "–" else said)
