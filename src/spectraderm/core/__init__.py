"""What everything else stands on: errors, files, locks, the run folder, progress. Knows nothing of photos."""

from collections.abc import Sequence

DEFAULT_RECIPE = "discriminant"
DEFAULT_BACKBONE = "microsoft/resnet-50"
"""On the Hugging Face Hub: the ResNet-50 that the mission asks for."""
OFFLINE_BACKBONE = "open-nsfw-thin"
"""A half-width ResNet-50 out of a package, where the Hub can't be reached."""
OTHER = "other"
"""The class of photos that show none of the others: fitted as one, scored as a refusal, never shown as a disease."""


def other_of(labels: Sequence[str]) -> int | None:
    """The number of the class `other` among a model's; None where it has none."""
    return list(labels).index(OTHER) if OTHER in labels else None
