"""`calibrate --external`, and what a person sees of it."""

from typing import Any

from spectraderm.cli.folder_tables import say_folders
from spectraderm.core.printable import say


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
