"""The options of a training, as the commands name them; and which options make no sense together."""

from typing import Any

from spectraderm.api.given import AnyPath
from spectraderm.core import Protocol
from spectraderm.core.errors import SpectraDermError
from spectraderm.training.options import Options

_OF_THE_RECIPE = {"epochs": "epochs", "batch_size": "batch_size", "lr": "learning_rate", "patience": "patience"}


def options_of(
    *,
    recipe: AnyPath,
    backbone: AnyPath,
    split: Protocol = "grouped",
    **more: Any,  # noqa: ANN401
) -> Options:
    """The settings of a run, by the names that the commands have for them."""
    given = {setting: more.pop(name, None) for name, setting in _OF_THE_RECIPE.items()}
    changes = {setting: value for setting, value in given.items() if value is not None}
    return Options(str(recipe), str(backbone), split, changes=changes, **more)


def check_calibrate(photos: bool, external: bool, with_external: bool, without: bool) -> None:
    """Raise `SpectraDermError` where options of `calibrate` are given together that make no sense so."""
    if external and not photos:
        raise SpectraDermError("--external needs photos", "Give RUN|MODEL --external PHOTOS...")
    if external and without:
        raise SpectraDermError("prediction sets elsewhere are made as those at home", "Leave their options out")
    if not external and (photos or with_external):
        raise SpectraDermError("PHOTOS, --other, --out and --label-map go with --external", "Add --external")


def check_evaluate(model: bool, photos: bool, with_photos: bool) -> None:
    """The same of `evaluate`."""
    if model and not photos:
        raise SpectraDermError("a model is evaluated on folders of photos", "Give MODEL PHOTOS")
    if not model and (photos or with_photos):
        given = "PHOTOS, --label-map, --out, --other, --chosen-on and --calibration"
        raise SpectraDermError(f"{given} go with MODEL PHOTOS", "Leave them out for run folders")
