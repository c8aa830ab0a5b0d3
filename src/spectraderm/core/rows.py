"""Arrays of the same photos, row by row: what dataclasses of such are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Rows:
    """n photos: each array of a subclass has a row for each of them; what is no array is of all."""

    @property
    def arrays(self) -> dict[str, Any]:
        """What there is of every photo."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """The same for some rows only, `bool[n]` or row numbers."""
        return replace(self, **{name: values[rows] for name, values in self.arrays.items()})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The photos of several as one, with all else of the first."""
        arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        return replace(parts[0], **arrays)
