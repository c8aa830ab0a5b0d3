"""Curves, settings and final scores of a training for TensorBoard, MLflow or Weights & Biases, kept in the run folder.

Nothing leaves the machine, unless MLFLOW_TRACKING_URI or WANDB_MODE, which are the user's own, say so.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any, get_args

from spectraderm.core import Log
from spectraderm.core.errors import MissingExtra, RecipeError

FOLDER = "log"
"""Below the run folder."""
_PROJECT = "spectraderm"


Settings = Mapping[str, str | float]


class Tracker:
    """What is told of a training, and here kept by nobody. `settings` are not nested: `recipe.epochs`.

    Curves are named by their fold, as `final/val_loss`; scores `scores/final/...`.
    """

    def __init__(self, run: Path, settings: Settings) -> None:
        pass

    def epoch(self, fold: str, row: Mapping[str, float]) -> None:
        """Keep a line of a fold's history; its `epoch` is the place on the curve."""

    def scores(self, values: Mapping[str, float]) -> None:
        """Keep final scores."""

    def close(self, *, failed: bool) -> None:
        """Write what is left."""


NOTHING = Tracker(Path(), {})


def check_log(log: str | None) -> None:
    """Make sure, before anything takes long, that there is such a log.

    Raises:
        RecipeError: there is none of that name.
        MissingExtra: it is not installed.
    """
    if log is None:
        return
    if log not in get_args(Log):
        raise RecipeError(f"there is no log {log!r}", f"Give one of: {', '.join(get_args(Log))}")
    spec = util.find_spec(log)
    if spec is None or spec.origin is None:  # a folder of that name here is none
        raise MissingExtra(f"the log {log}", log)


@contextmanager
def tracking(log: str | None, run: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    """Log a training in the run folder; nothing where `log` is None. Raises as `check_log`.

    `settings` are those of the training, nested as `config.json` has them.
    """
    check_log(log)
    kinds = {None: Tracker, "tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _WandB}
    tracker = kinds[log](run, _flat(settings))
    try:
        yield tracker
    except BaseException:
        tracker.close(failed=True)
        raise
    tracker.close(failed=False)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | float]:
    """Settings without nesting: `recipe.epochs`. Numbers stay numbers, all else is text."""
    flat: dict[str, str | float] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, int | float) else str(value)
    return flat


class _TensorBoard(Tracker):
    """Event files: curves as scalars; settings as a text, and beside the final scores among its hyperparameters."""

    def __init__(self, run: Path, settings: Settings) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        self._settings, self._scores = settings, dict[str, float]()
        self._writer: Any = SummaryWriter(str(run / FOLDER))
        self._writer.add_text("settings", "\n".join(f"- {name}: {value}" for name, value in settings.items()))

    def epoch(self, fold: str, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(f"{fold}/{name}", value, int(row["epoch"]))
        self._writer.flush()

    def scores(self, values: Mapping[str, float]) -> None:
        self._scores |= values

    def close(self, *, failed: bool) -> None:
        if not failed:
            self._writer.add_hparams(self._settings, self._scores, run_name=".")
        self._writer.close()


class _MLflow(Tracker):
    """A run in a store of files in the run folder, or in the user's own."""

    def __init__(self, run: Path, settings: Settings) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        address = os.environ.get("MLFLOW_TRACKING_URI") or (run / FOLDER / "mlruns").resolve().as_uri()
        self._client: Any = MlflowClient(address)
        known = self._client.get_experiment_by_name(_PROJECT)
        experiment = known.experiment_id if known else self._client.create_experiment(_PROJECT)
        self._run = self._client.create_run(experiment, run_name=run.resolve().name).info.run_id
        for name, value in settings.items():
            self._client.log_param(self._run, name, value)

    def epoch(self, fold: str, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._client.log_metric(self._run, f"{fold}/{name}", value, step=int(row["epoch"]))

    def scores(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value)

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


class _WandB(Tracker):
    """A run that `wandb sync` can send on; every fold has epochs of its own."""

    def __init__(self, run: Path, settings: Settings) -> None:
        import wandb  # noqa: PLC0415

        self._folds: set[str] = set()
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        mode, folder = os.environ.get("WANDB_MODE", "offline"), run / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=_PROJECT, name=run.resolve().name, dir=folder, mode=mode, config=dict(settings), settings=quiet
        )

    def epoch(self, fold: str, row: Mapping[str, float]) -> None:
        if fold not in self._folds:
            self._folds.add(fold)
            self._run.define_metric(f"{fold}/*", step_metric=f"{fold}/epoch")
        self._run.log({f"{fold}/{name}": value for name, value in row.items() if math.isfinite(value)})

    def scores(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
