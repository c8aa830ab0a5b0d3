import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score
from tinynet import CLOSED, RECIPES, prepare, train_one, write_tiny

from spectraderm.core.errors import BackboneError, RunFolderError
from spectraderm.core.files import read_csv, read_json
from spectraderm.core.run import Run
from spectraderm.data import manifest
from spectraderm.data.split import Fold
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.engine import OnnxRuntime
from spectraderm.training import dataset, lda, loop, train
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import augmented
from spectraderm.training.backbones import load_backbone
from spectraderm.training.network import Normalise, build

LOGITS = "folds/final/logits.csv"


def read_logits(run: Path, fold: str = "final") -> list[dict[str, str]]:
    with (Run(run).fold(fold).folder / "logits.csv").open() as file:
        return list(csv.DictReader(file))


def values(row: dict[str, str]) -> list[float]:
    return [float(row[name]) for name in ("logit:A- a", "logit:b", "logit:c")]


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_photos_that_can_be_told_apart_are(recipe: str, runs: dict[str, Path]) -> None:
    run = runs[recipe]
    rows = read_logits(run)
    labels = ["A- a", "b", "c"]
    right: dict[str, list[bool]] = {side: [] for side in ("train", "val", "test")}
    for row in rows:
        right[row["split"]].append(labels[int(np.argmax(values(row)))] == row["label"])
    assert sum(right["train"]) >= 20  # of 21; the tiny network's weights are those that torch draws
    assert {side: len(each) for side, each in right.items()} == {"train": 21, "val": 6, "test": 9}
    assert sum(right["test"]) > 6
    splits = read_csv(run / "split.csv", ["path", "split"], "")
    assert [(row["path"], row["split"]) for row in rows] == [(row["path"], row["split"]) for row in splits]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_seed_gives_the_same_bytes_and_another_does_not(
    recipe: str, photos: Path, tiny: Path, tmp_path: Path, runs: dict[str, Path]
) -> None:
    first = runs[recipe]
    again = train_one(prepare(tmp_path / "again", photos), recipe, tiny)
    assert (again / LOGITS).read_bytes() == (first / LOGITS).read_bytes()
    other = train_one(prepare(tmp_path / "other", photos, seed=1), recipe, tiny)
    assert not any(values(a) == values(b) for a, b in zip(read_logits(first), read_logits(other), strict=True))


def test_a_trained_folder_is_not_trained_in_again(runs: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs["notebook"], tmp_path / "run"))
    before = content(run)
    with pytest.raises(RunFolderError, match=r"was trained in before.*--resume"):
        train_one(run, "notebook", tiny)
    with pytest.raises(RunFolderError, match=r"with another recipe.*--out"):
        train_one(run, "notebook", tiny, {"epochs": 21}, resume=True)
    with pytest.raises(RunFolderError, match="with another backbone, backbone_name"):
        train_one(run, "notebook", write_tiny(tmp_path / "other", 1), resume=True)
    assert content(run) == before
    train_one(run, "notebook", tiny, resume=True)
    assert {name: data for name, data in content(run).items() if name != "environment.json"} == {
        name: data for name, data in before.items() if name != "environment.json"
    }


def test_a_frozen_backbone_sees_every_photo_once(
    photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = OnnxRuntime.__call__

    def counted(self: OnnxRuntime, photos: Any) -> Any:  # noqa: ANN401
        seen.append(len(photos))
        return plain(self, photos)

    monkeypatch.setattr(OnnxRuntime, "__call__", counted)
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))
    run = train_one(prepare(tmp_path / "run", photos, folds=3), "notebook", tiny)
    folds = sorted(path.name for path in (run / "folds").iterdir())
    assert folds == ["final", "fold-1", "fold-2", "fold-3", "original"]
    shown = [np.load(run / "folds" / fold / "heatmaps.npz", allow_pickle=False)["rows"] for fold in folds]
    named = 1  # a random photo, whose features tell what computes them
    assert sum(seen) == named + len(read_logits(run)) + sum(map(len, shown))  # again for the heatmaps of errors
    assert len(read_logits(run)) == 36
    tested = [row["path"] for n in (1, 2, 3) for row in read_logits(run, f"fold-{n}") if row["split"] == "test"]
    assert sorted(tested) == sorted(row["path"] for row in read_logits(run))


def test_a_frozen_backbone_stays_and_only_the_head_is_kept(runs: dict[str, Path], tiny: Path) -> None:
    kept = load_file(runs["notebook"] / "folds/final/checkpoint.safetensors")
    assert sorted(kept) == ["1.bias", "1.weight", "3.bias", "3.weight"]
    assert sorted(load_file(runs["discriminant"] / "folds/final/checkpoint.safetensors")) == ["1.bias", "1.weight"]
    network, _ = train.restore(Run(runs["notebook"]), load_backbone(str(tiny)))
    stored = load_file(tiny / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in network.resnet.state_dict().items())


def unmoved(run: Path, tiny: Path) -> set[str]:
    """Which weights of the backbone are still what they were, by name, without the norms' statistics."""
    network, _ = train.restore(Run(run), load_backbone(str(tiny)))
    stored = load_file(tiny / "model.safetensors")
    same = {name for name, value in network.resnet.state_dict().items() if torch.equal(value, stored[name])}
    statistics = {name for name in stored if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert same >= statistics
    return same - statistics


PARTS = ("embedder.", *(f"encoder.stages.{stage}." for stage in range(4)))


def test_fine_tuning_moves_all_but_the_frozen_parts_and_no_norms_statistics(runs: dict[str, Path], tiny: Path) -> None:
    kept = unmoved(runs["finetune"], tiny)
    assert kept == {name for name, _ in load_backbone(str(tiny)).model.named_parameters() if name.startswith(PARTS[:2])}
    assert kept


@pytest.mark.parametrize("frozen", [0, 4])
def test_as_many_parts_are_frozen_as_the_recipe_says(frozen: int, photos: Path, tiny: Path, tmp_path: Path) -> None:
    changes = {"frozen_stages": frozen, "epochs": 1, "head_epochs": 0, "warmup_epochs": 0, "augment": 0.0}
    run = train_one(prepare(tmp_path / "run", photos), "finetune", tiny, changes)
    names = [name for name, _ in load_backbone(str(tiny)).model.named_parameters()]
    assert unmoved(run, tiny) == {name for name in names if name.startswith(PARTS[:frozen])}


def test_a_head_fitted_at_once_has_one_line_of_history(runs: dict[str, Path]) -> None:
    run = runs["discriminant"]
    (line,) = read_csv(run / "folds/final/history.csv", [*loop.HISTORY_COLUMNS], "")
    labels, rows = ["A- a", "b", "c"], read_logits(run)
    for side in ("train", "val"):
        own = [row for row in rows if row["split"] == side]
        logits, truth = torch.tensor([values(row) for row in own]), [labels.index(row["label"]) for row in own]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(truth)).item()
        assert float(line[f"{side}_loss"]) == pytest.approx(loss, rel=1e-4, abs=1e-6)
        right = (logits.argmax(1) == torch.tensor(truth)).double().mean().item()
        assert float(line[f"{side}_accuracy"]) == pytest.approx(right)
        if side == "val":
            balanced = balanced_accuracy_score(truth, logits.argmax(1))
            assert float(line["val_balanced_accuracy"]) == pytest.approx(balanced)
    assert line["epoch"] == "1"
    assert len(read_csv(runs["finetune"] / "folds/final/history.csv", ["epoch"], "")) == 5


@pytest.mark.parametrize("recipe", CLOSED)
def test_features_are_kept_where_they_are_read(recipe: str, runs: dict[str, Path], tiny: Path) -> None:
    run = runs[recipe]
    network, preprocessing = train.restore(Run(run), load_backbone(str(tiny)))
    root = Path(read_json(run / "audit.json", "")["root"])
    pixels = [preprocessing(manifest.open_photo(root, row)) for row in manifest.read(run / "manifest.csv")]
    with torch.inference_mode():
        expected = network.features(Normalise(preprocessing)(torch.from_numpy(np.stack(pixels))))
    kept = np.load(run / ("features.npy" if recipe == "discriminant" else "folds/final/features.npy"))
    assert kept.shape == (36, 112)
    assert np.allclose(kept, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_restored_network_gives_the_stored_logits(
    recipe: str, photos: Path, tiny: Path, runs: dict[str, Path]
) -> None:
    run = runs[recipe]
    network, preprocessing = train.restore(Run(run), load_backbone(str(tiny)))
    rows = manifest.read(run / "manifest.csv")
    pixels = np.stack([preprocessing(manifest.open_photo(photos, row)) for row in rows])
    with torch.inference_mode():
        logits = network.classifier(network.features(Normalise(preprocessing)(torch.from_numpy(pixels))))
    assert np.allclose(logits, [values(row) for row in read_logits(run)], atol=1e-4)


def test_a_run_folder_says_how_it_was_made_and_keeps_no_state(runs: dict[str, Path], tiny: Path) -> None:
    files = {name for name in content(runs["finetune"]) if not name.startswith("cache/")}
    kept = ("checkpoint.safetensors", "features.npy", "heatmaps.npz", "history.csv", "logits.csv")
    audit = "audit.json copies.csv gallery.html manifest.csv measurements.npz split.csv checksums.txt"
    audited = set(audit.split())
    assert files == {f"folds/final/{name}" for name in kept} | audited | {"config.json", "environment.json"}
    said = Run(runs["finetune"]).config
    assert said["recipe"] == config.load("finetune", RECIPES["finetune"]).model_dump(mode="json")
    assert said["labels"] == ["A- a", "b", "c"]
    assert said["display_names"]["A- a"] == "A a"
    assert said["protocol"] == "original"
    assert said["backbone"].startswith("tiny-resnet@")
    assert said["backbone_name"] == str(tiny)


def test_what_is_not_trained_or_not_whole_can_not_be_restored(
    runs: dict[str, Path], tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match="spectraderm train"):
        train.restore(Run(tmp_path / "run"), load_backbone(str(tiny)))
    run = Path(shutil.copytree(runs["notebook"], tmp_path / "run"))
    with pytest.raises(BackboneError):
        train_one(run, "notebook", tmp_path / "no-backbone")
    (run / "folds/final/checkpoint.safetensors").unlink()
    with pytest.raises(RunFolderError, match=r"checkpoint\.safetensors can't be loaded.*Train again"):
        train.restore(Run(run), load_backbone(str(tiny)))


GROUPS = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
KEPT = 8  # photos that train, of six groups


@pytest.mark.parametrize("frozen", [True, False])
def test_an_lda_head_is_fitted_on_each_augmentation_of_one_training_photo_of_every_group(
    frozen: bool, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = manifest.read(prepare(tmp_path / "audited", photos) / "manifest.csv")[::3]
    rows = [replace(row, photo_group=group) for row, group in zip(rows, GROUPS.tolist(), strict=True)]
    changes = {"image_size": 64, "train_backbone": not frozen, "epochs": 1, "learning_rate": 1e-60}
    recipe, backbone = config.load("discriminant", changes), load_backbone(str(tiny))
    fitted: list[tuple[Any, ...]] = []
    plain = lda.fit

    def noted(*given: Any) -> Any:  # noqa: ANN401
        fitted.append(given)
        return plain(*given)

    monkeypatch.setattr(lda, "fit", noted)
    run, accelerator = tmp_path / "run", Accelerator(cpu=True)
    trainer = train.Trainer(Run(run), recipe, backbone, rows, photos, tmp_path / "features", accelerator)
    sides = dict(zip((row.path for row in rows), [*["train"] * KEPT, "val", "val", "val", "test"], strict=True))
    trainer.train(Fold("final", 0, sides))

    ((features, targets, groups, classes, shrinkage, invariance),) = fitted
    assert (classes, shrinkage, invariance) == (3, recipe.shrinkage, recipe.invariance)
    network = build(backbone, recipe, ["A- a", "b", "c"])
    network.train(False)
    pixels = [Preprocessing(64)(manifest.open_photo(photos, row)) for row in rows[:KEPT]]
    normalise = Normalise(recipe.preprocessing(backbone.mean, backbone.std))
    labels, chosen = ["A- a", "b", "c"], set()
    for number, own in enumerate(features.reshape(12, 5, 112)):
        versions = np.stack([augmented(photo, *train.KINDS[number]) for photo in pixels])
        expected = dataset.in_batches(versions, lambda batch: network.pooled(network.feature_maps(normalise(batch))))
        distances = np.abs(own[:, None] - expected).max(2)
        found = distances.argmin(1)
        assert distances.min(1).max() < 1e-3
        assert sorted(GROUPS[found]) == sorted(set(GROUPS[:KEPT]))
        assert groups.reshape(12, 5)[number].tolist() == GROUPS[found].tolist()
        assert targets.reshape(12, 5)[number].tolist() == [labels.index(rows[row].label) for row in found]
        chosen |= set(found.tolist())
    assert chosen == set(range(KEPT))  # another photo of a group has its turn in another augmentation
    head = load_file(run / "folds/final/checkpoint.safetensors")
    for name, values in zip(("1.weight", "1.bias"), plain(*fitted[0]), strict=True):
        assert np.array_equal(head[name if frozen else f"classifier.{name}"], values.astype(np.float32))
