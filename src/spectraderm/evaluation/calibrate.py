"""Which held-out photos a model's settings are found on, and proof out of fold that the settings hold.

Nothing is ever set on the photos it is then scored on. With k folds by photo each fold's test photos are judged by
settings found on the test photos of the other folds, and the exported model gets those found on all of them. With one
fold they come from its calibration photos, or, where the folders as they came have none, from its validation photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError
from spectraderm.evaluation import outputs
from spectraderm.evaluation.fitting import NOVELTY_KEPT, PROMISE_FAILS_AT, Settings, fit
from spectraderm.evaluation.outputs import Outputs
from spectraderm.inference.calibration import Calibration, Judgement

__all__ = ["Held", "Settings", "calibrate", "crossing", "held_out", "judge", "settings_of"]

_CALIBRATE_FIRST = "Run `spectraderm calibrate RUN` first"


def calibrate(run: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Find the final model's settings and write `calibration.json` and `novelty.npy`.

    Raises:
        RunFolderError: the run is not trained to the end.
    """
    config = artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    settings = settings or Settings()
    folds = outputs.read(run, config)
    held = held_out(crossing(config["protocol"], folds))
    final = folds[0]
    known = outputs.features(run, final.fold)[outputs.references(final.splits, final.groups)]
    result = {
        **fit(held.photos, settings).to_dict(),
        "per_class": settings.per_class,
        "fitted_on": held.source,
        "n_photos": len(held.photos),
        "n_groups": len(np.unique(held.photos.groups)),
        "novelty_method": "knn",
        "novelty_kept": NOVELTY_KEPT,
        "promise_fails_at": PROMISE_FAILS_AT,
    }
    artifacts.write_array(run / artifacts.NOVELTY, known)
    artifacts.write_json(run / artifacts.CALIBRATION, result)
    return result


def settings_of(run: Path) -> Settings:
    """What was asked when a run was calibrated. Raises `RunFolderError` where it was not."""
    path = run / artifacts.CALIBRATION
    asked = artifacts.read_json(path, _CALIBRATE_FIRST)
    names = ("coverage", "set_method", "per_class", "promised_accuracy")
    try:
        Calibration.from_dict(asked)
        return Settings(**{name: asked[name] for name in names})
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error!r})", _CALIBRATE_FIRST) from error


@dataclass(frozen=True)
class Held:
    """Photos that no model was trained on that judges them here; `source` says which they are."""

    source: str
    photos: Outputs


def held_out(crossed: Sequence[Outputs]) -> Held:
    """What the final model's settings are found on. Raises `RunFolderError` where there are no such photos.

    Of folds that `crossing` gives: all tests of several, or of a single one what it held out beside its test.
    """
    if len(crossed) > 1:
        return Held("out_of_fold", outputs.pool([fold.of("test") for fold in crossed]))
    for source in ("calibration", "val"):
        photos = crossed[0].of(source)
        if len(photos):
            return Held(source, photos)
    raise RunFolderError(f"fold {crossed[0].fold} has no calibration or validation photos", "Split again")


def crossing(protocol: str, folds: Sequence[Outputs]) -> list[Outputs]:
    """The folds whose test photos are the score: the k folds by photo, or else the final one alone."""
    measuring = [fold for fold in folds[1:] if fold.fold != artifacts.ORIGINAL]
    return measuring if protocol == "grouped" and measuring else list(folds[:1])


def judge(crossed: Sequence[Outputs], settings: Settings) -> Judgement:
    """Judge the pooled test photos of folds, each by settings that were found without them."""
    tests = [fold.of("test") for fold in crossed]
    if len(tests) == 1:
        found = [fit(held_out(crossed).photos, settings)]
    else:
        found = [fit(outputs.pool([other for other in tests if other is not own]), settings) for own in tests]
    parts = [own.judge(test.logits, test.novelty) for own, test in zip(found, tests, strict=True)]
    return Judgement(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.sets for part in parts]),
        np.concatenate([part.verdicts for part in parts]),
    )
