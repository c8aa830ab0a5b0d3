"""What was measured of photos -> the rows of their manifest, and what speaks against each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spectraderm.data.manifest import Row
from spectraderm.data.measurements import Table
from spectraderm.images import quality
from spectraderm.images.quality import Flaw, Quality

_PLAIN = ("format", "width", "height", "bytes", "jpeg_quality", "ita", "skin_tone")


def flaws(columns: Table) -> list[tuple[Flaw, ...]]:
    """What speaks against each photo."""
    sizes = zip(columns["width"].tolist(), columns["height"].tolist(), strict=True)
    measured = zip(columns["quality"].tolist(), sizes, strict=True)
    return [quality.flaws(Quality(*values), *size) for values, size in measured]


def rows(
    usable: Sequence[tuple[str, str, str]],
    columns: Table,
    against: Sequence[Sequence[Flaw]],
    groups: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    metadata: dict[str, dict[str, str]],
) -> list[Row]:
    """The manifest's rows.

    Args:
        usable: path, label and given split of every photo that can be used.
        columns: what was measured of them, as `measure.table` tells.
        against: what `flaws` gives.
        groups: of copies; and with patients and lesions.
        metadata: what else is known of a path.
    """
    held = {name: columns[name].tolist() for name in _PLAIN}
    copy_groups, photo_groups = (own.tolist() for own in groups)
    return [
        Row(
            path=path,
            label=label,
            given_split=split,
            sha256=bytes(columns["sha256"][i]).hex(),
            format=held["format"][i],
            width=held["width"][i],
            height=held["height"][i],
            bytes=held["bytes"][i],
            photo_group=photo_groups[i],
            metadata=metadata.get(path, {}),
            copy_group=copy_groups[i],
            phash=bytes(columns["hashes"][i, 0]).hex(),
            jpeg_quality=held["jpeg_quality"][i],
            ita=None if np.isnan(held["ita"][i]) else held["ita"][i],
            skin_tone_estimate=held["skin_tone"][i],
            unusable=next((flaw.id for flaw in against[i] if flaw.unusable), ""),
        )
        for i, (path, label, split) in enumerate(usable)
    ]
