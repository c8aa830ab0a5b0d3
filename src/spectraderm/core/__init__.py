"""What everything else stands on: errors, files, locks, the run folder, progress. Knows nothing of photos."""

from collections.abc import Sequence
from typing import Literal

DEFAULT_RECIPE = "discriminant"
DEFAULT_BACKBONE = "microsoft/resnet-50"
"""On the Hugging Face Hub: the ResNet-50 that the mission asks for."""
REVISIONS = {DEFAULT_BACKBONE: "34c2154c194f829b11125337b98c8f5f9965ff19"}
"""The commit that is asked for where a name says none."""
OFFLINE_BACKBONE = "open-nsfw-thin"
"""A half-width ResNet-50 out of a package, where the Hub can't be reached."""
OTHER = "other"
"""The class of photos that show none of the others: fitted as one, scored as a refusal, never shown as a disease."""

Protocol = Literal["grouped", "original", "deduplicated", "by-source"]
Conformal = Literal["lac", "raps"]
Device = Literal["auto", "cpu"]
Log = Literal["tensorboard", "mlflow", "wandb"]
Choice = Literal["auto", "home", "elsewhere"]
"""What may be chosen, for every door: the protocol of a split, how prediction sets are made, where and with which log
is trained, and by which settings is judged."""


def of_hub(name: str) -> tuple[str, str]:
    """What `OWNER/NAME@REVISION` asks of the Hugging Face Hub: a repository, and a commit, tag or branch of it.

    Without one it is the commit of `REVISIONS`, or else `main`, which whoever owns the repository may change.
    """
    repository, _, revision = name.partition("@")
    return repository, revision or REVISIONS.get(repository, "main")


def other_of(labels: Sequence[str]) -> int | None:
    """The number of the class `other` among a model's; None where it has none."""
    return list(labels).index(OTHER) if OTHER in labels else None
