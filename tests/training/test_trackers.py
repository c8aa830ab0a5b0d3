"""What each log keeps of a training, read back by the log's own tools; and what is said of those that are not there."""

import json
import struct
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from tinynet import prepare, train_one

from spectraderm import pipeline
from spectraderm.core.errors import MissingExtra, RecipeError
from spectraderm.core.files import read_csv
from spectraderm.core.run import Run
from spectraderm.training import trackers
from spectraderm.training.loop import HISTORY_COLUMNS
from spectraderm.training.options import Options

CURVES = {f"final/{name}" for name in HISTORY_COLUMNS}
SCORES = {f"scores/final/{side}_{name}" for side in ("train", "val", "test") for name in ("loss", "accuracy")}


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    return Path(prepare(tmp_path / "run", photos))


def needs(log: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not util.find_spec(log), reason=f"{log} is not installed: its log is NOT tested")


def test_a_log_that_there_is_not_is_named() -> None:
    with pytest.raises(RecipeError, match=r"no log 'nonsense'.*tensorboard, mlflow, wandb"):
        trackers.check_log("nonsense")


def test_a_log_that_is_not_installed_is_told_before_anything_else(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"the log wandb.*\[wandb\]"):
        pipeline.run(photos, tmp_path / "out", Options(log="wandb"))
    assert not (tmp_path / "out").exists()


def test_tensorboard_has_curves_settings_and_scores(run: Path, tiny: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_one(run, "notebook", tiny, {"epochs": 3}, log="tensorboard")
    events = EventAccumulator(str(run / "log")).Reload()
    assert set(events.Tags()["scalars"]) >= CURVES | SCORES
    drawn = [(event.step, event.value) for event in events.Scalars("final/val_loss")]
    assert_as_in_history(drawn, run)
    (text,) = events.Tensors("settings/text_summary")
    assert b"recipe.learning_rate: 0.02" in text.tensor_proto.string_val[0]
    shown = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"recipe.learning_rate" in shown


@needs("mlflow")
def test_mlflow_has_curves_settings_and_scores(run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train_one(run, "notebook", tiny, {"epochs": 3}, log="mlflow")
    client: Any = MlflowClient((run / "log" / "mlruns").as_uri())
    (kept,) = client.search_runs([client.get_experiment_by_name("spectraderm").experiment_id])
    assert (kept.info.status, kept.data.params["recipe.epochs"]) == ("FINISHED", "3")
    assert set(kept.data.metrics) >= CURVES | SCORES
    curve = client.get_metric_history(kept.info.run_id, "final/val_loss")
    assert_as_in_history([(one.step, one.value) for one in curve], run)


@needs("wandb")
def test_wandb_has_curves_settings_and_scores(run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_MODE", raising=False)
    train_one(run, "notebook", tiny, {"epochs": 3}, log="wandb")
    (file,) = (run / "log" / "wandb").glob("offline-run-*/run-*.wandb")
    rows: list[dict[str, float]] = []
    summary: dict[str, str] = {}
    config: dict[str, str] = {}
    for data in records_of(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            rows.append(
                {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            )
        for part, target in ((record.summary.update, summary), (record.run.config.update, config)):
            target.update({one.key or "/".join(one.nested_key): one.value_json for one in part})
    assert set(summary) >= SCORES
    assert json.loads(config["recipe.epochs"]) == 3
    assert_as_in_history([(int(row["final/epoch"]), row["final/val_loss"]) for row in rows], run)


def records_of(log: bytes) -> Iterator[bytes]:
    """The records of a file of Weights & Biases: a head of 7 bytes, then LevelDB's log format."""
    place, block, whole = 7, 1 << 15, b""
    while place + 7 <= len(log):
        _, size, kind = struct.unpack("<IHB", log[place : place + 7])
        whole += log[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # all of it, or its last part
            yield whole
            whole = b""
        if block - place % block < 7:
            place += block - place % block


def assert_as_in_history(curve: list[tuple[int, float]], run: Path) -> None:
    written = read_csv(Run(run).fold("final").history, HISTORY_COLUMNS, "")
    assert [epoch for epoch, _ in curve] == [int(row["epoch"]) for row in written]
    assert [loss for _, loss in curve] == pytest.approx([float(row["val_loss"]) for row in written], rel=1e-6)
    assert len(curve) == 3
