"""What a person sees of `adapt`, of `calibrate --external` and of `import`."""

from pathlib import Path
from typing import Any

from spectraderm.cli.folder_tables import say_folders
from spectraderm.core.printable import say

_MOST = 10
"""How many labels without a line are named."""


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


def say_elsewhere(found: dict[str, Any]) -> None:
    """The settings elsewhere, what is promised or why not, and what to expect of the next source."""
    elsewhere = found["elsewhere"]
    if found["in_training"]:
        say(f"{found['in_training']} photos, or copies of them, are in training: left out")
    say_folders(found)
    sources = elsewhere["sources"]
    say(
        f"Temperature {elsewhere['temperature']:.2f}, found on {elsewhere['n_photos']} photos of "
        f"{elsewhere['n_groups']} photo groups from {len(sources)} source{'s' if len(sources) != 1 else ''}"
    )
    if elsewhere["promised_accuracy"] is None:
        say(f"`predicted` never: {elsewhere['why']}")
    else:
        say(
            f"`predicted` from a probability of {100 * elsewhere['confidence_threshold']:.1f} %: "
            f"{100 * elsewhere['promised_accuracy']:g} % right is promised; {100 * elsewhere['answered']:.0f} % get it"
        )
    if elsewhere["answered_others"] is None:
        say("How often photos of other conditions get an answer was not measured: give such with --other")
    expected = elsewhere["expected"]
    if expected is None:
        say("What to expect of the next source can't be said from one: give photos of two at least")
    else:
        say("Expected of the next source, each left out in turn (in %, 95 % intervals):")
        for name, own in [*expected["by_source"].items(), ("all, each alike", expected["pooled"])]:
            say(f"  {name}: {'; '.join(_parts(own))}")
    say(f"Model   {found['model']}", f"Next    spectraderm predict PHOTO --model {found['model']}")


def _parts(own: dict[str, Any]) -> list[str]:
    parts = []
    if own.get("group_accuracy"):
        size = own["mean_set_size"]["value"]
        parts = [
            f"right {_share(own['group_accuracy'])}",
            f"says {_share(own['stated'])} on average",
            f"sets of {size:.1f} classes hold it in {_share(own['coverage'])}",
            f"predicted {_share(own['predicted'])}",
        ]
        if own["predicted"]["accuracy"]:
            parts.append(f"right among these {_share(own['predicted']['accuracy'])}")
    if own.get("others"):
        parts.append(f"of other conditions predicted {_share(own['others'])}")
    return parts


def _share(metric: dict[str, Any]) -> str:
    value, low, high = (100 * metric[name] for name in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def say_imported(facts: dict[str, Any]) -> None:
    """How many photos of each class, what was left out and why, and what the licence says."""
    say(f"{facts['title']}: {facts['photos']} photos")
    for label, count in facts["classes"].items():
        say(f"{count:7} {label}")
    for why, count in facts["left_out"].items():
        say(f"{count:7} left out: {why}")
    if facts["missing"]:
        say(f"MISSING {facts['left_out']['missing']} photos that the table names, first {facts['missing'][0]}")
    unknown = [own for own in facts["labels"] if not own["listed"]]
    if unknown:
        named = ", ".join(f"{own['original']} ({own['photos']})" for own in unknown[:_MOST])
        more = f" and {len(unknown) - _MOST} more, all in dataset.json" if len(unknown) > _MOST else ""
        become = "are left out" if unknown[0]["label"] is None else f"became {unknown[0]['label'] or 'nothing'}"
        say(f"LABELS  without a line of their own {become}; --label-map says otherwise: {named}{more}")
    say(f"Licence {facts['licence']}. {facts['terms']}", f"Cite    {facts['citation']}")
    if not facts["redistributable_training"]:
        say("        A model that learned from these photos may not be passed on without their owner's leave")
