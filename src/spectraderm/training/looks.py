"""Ways to look at a photo, as a network's input: the views that it averages over, and the copies of a head."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import cast

import numpy as np
import PIL
import torch
from torch import Tensor

from spectraderm.core.artifacts import sha256
from spectraderm.images.preprocessing import Pixels
from spectraderm.training.augmentation import Augmentation, Transform, augmented, transformed
from spectraderm.training.network import Normalise

_PLAIN = ("whole", "mirrored")
"""Views and copies that are the same to the bit."""
_SOURCES = (
    "images/headers.py",
    "images/rgb.py",
    "images/preprocessing.py",
    "training/augmentation.py",
    "training/network.py",
)


@dataclass(frozen=True)
class Look:
    """`inputs`: pixels of some photos `uint8[n, s, s, 3]` -> what a network sees, `float[n, 3, s, s]`.

    Looks of one name give the same.
    """

    name: str
    inputs: Callable[[Pixels], Tensor]


def view(kind: Transform, normalise: Normalise) -> Look:
    """One of the views that a network averages over."""

    def inputs(pixels: Pixels) -> Tensor:
        return transformed(normalise(torch.from_numpy(np.array(pixels))), [kind])

    return Look(kind if kind in _PLAIN else f"view {kind}", inputs)


def copied(kind: Augmentation, coarse: bool, normalise: Normalise) -> Look:
    """One of the copies that a head learns to see through."""

    def inputs(pixels: Pixels) -> Tensor:
        copies = [augmented(photo, kind, coarse) for photo in pixels]
        return cast("Tensor", normalise(torch.from_numpy(np.stack(copies))))

    return Look(kind if kind in _PLAIN and not coarse else f"{'coarse ' if coarse else ''}copy {kind}", inputs)


def made_by() -> tuple[str, ...]:
    """What the bits of a look depend on besides the photo: our own lines, and the libraries that they call."""
    package = resources.files("spectraderm")
    lines = sha256(b"".join(package.joinpath(*name.split("/")).read_bytes() for name in _SOURCES))
    return lines, f"pillow {PIL.__version__}", f"torch {torch.__version__}"
