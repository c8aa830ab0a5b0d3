"""Photos with what they are and what a model made of them. Knows nothing of files."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """n photos in c classes: true class numbers, probabilities (calibrated or not), and which are copies of one.

    `labels` is `int64[n]`, `probabilities` `float64[n, c]`, `groups` `int64[n]`: equal for copies of one photo.
    """

    labels: Integers
    probabilities: Reals
    groups: Integers

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Integers | Booleans) -> "Scored":
        """The same for some rows only."""
        return Scored(self.labels[rows], self.probabilities[rows], self.groups[rows])

    @property
    def classes(self) -> int:
        """How many classes there are, c."""
        return int(self.probabilities.shape[1])

    @property
    def guesses(self) -> Integers:
        """The likeliest class of each photo, `int64[n]`; of equally likely ones the first."""
        result: Integers = self.probabilities.argmax(1)
        return result

    @property
    def confidence(self) -> Reals:
        """The probability of the guess, `float64[n]`."""
        result: Reals = self.probabilities.max(1)
        return result

    @property
    def right(self) -> Booleans:
        """Whether the guess is the true class, `bool[n]`."""
        result: Booleans = self.guesses == self.labels
        return result
