"""How large a calibration error looks by chance alone: the yardstick beside the measured one."""

from collections.abc import Mapping

import numpy as np

from spectraderm.evaluation.bootstrap import weights
from spectraderm.evaluation.calibration_metrics import BINS
from spectraderm.evaluation.scored import Scored

_DRAWS = 400
_AT_ONCE = 2**21  # outcomes


def error_by_chance(scored: Scored, seed: int = 0) -> Mapping[str, float]:
    """The expected calibration error that a perfectly calibrated model would show on these photos.

    Each photo's guess is let come true with exactly the probability that was claimed for it, copies of one photo
    together, 400 times ("consistency resampling", Bröcker & Smith 2007), every photo group counting once.

    Returns:
        `mean` and `high`, its 95 % quantile.
    """
    claimed, own = scored.confidence, next(weights(scored.groups, by_group=True))[0]
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], claimed, side="left")
    in_bin = (place[:, None] == np.arange(BINS)) * (own / own.sum())[:, None]
    _, group = np.unique(scored.groups, return_inverse=True)
    random, errors = np.random.default_rng(seed), np.empty(_DRAWS)
    step = max(1, _AT_ONCE // max(len(scored), 1))
    for first in range(0, _DRAWS, step):
        luck = random.random((min(step, _DRAWS - first), int(group.max()) + 1))[:, group]
        errors[first : first + step] = np.abs(((luck < claimed) - claimed) @ in_bin).sum(1)
    return {"mean": float(errors.mean()), "high": float(np.percentile(errors, 95))}
