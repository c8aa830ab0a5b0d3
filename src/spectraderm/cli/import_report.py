"""What a person sees of `spectraderm import`."""

from typing import Any

from spectraderm.core.printable import say

_MOST = 10
"""How many labels without a line are named."""


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
