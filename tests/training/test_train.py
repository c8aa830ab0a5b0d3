import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import contents
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score
from tinynet import RECIPES, prepare, train_one, write_tiny

from spectraderm.core.errors import BackboneError, RunFolderError
from spectraderm.core.files import read_csv
from spectraderm.core.run import Run
from spectraderm.data import manifest
from spectraderm.data.split import Fold
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.engine import OnnxRuntime
from spectraderm.training import dataset, lda, loop, train
from spectraderm.training import recipe as config
from spectraderm.training.backbones import load_backbone
from spectraderm.training.network import Normalise, build
from spectraderm.training.photo_augmentation import KINDS, augmented

LABELS = ["A- a", "b", "c"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_photos_that_can_be_told_apart_are(recipe: str, runs: dict[str, Path]) -> None:
    logits = Run(runs[recipe]).logits("final")
    right = logits.values.argmax(1) == logits.targets
    counts = {side: int((logits.splits == side).sum()) for side in ("train", "val", "test")}
    assert counts == {"train": 21, "val": 6, "test": 9}
    assert right[logits.splits == "train"].sum() >= 20  # the tiny network's weights are those that torch draws
    assert right[logits.splits == "test"].sum() > 6
    splits = read_csv(runs[recipe] / "split.csv", ["path", "split"], "")
    assert [(row["path"], row["split"]) for row in splits] == list(zip(logits.paths, logits.splits, strict=True))


def test_a_trained_folder_is_not_trained_in_again(runs: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs["notebook"], tmp_path / "run"))
    before = contents(run)
    with pytest.raises(RunFolderError, match=r"was trained in before.*--resume"):
        train_one(run, "notebook", tiny)
    with pytest.raises(RunFolderError, match=r"with another recipe.*--out"):
        train_one(run, "notebook", tiny, {"epochs": 21}, resume=True)
    with pytest.raises(RunFolderError, match="with another backbone, backbone_name"):
        train_one(run, "notebook", write_tiny(tmp_path / "other", 1), resume=True)
    assert contents(run) == before
    train_one(run, "notebook", tiny, resume=True)
    assert {name: data for name, data in contents(run).items() if name != "environment.json"} == {
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
    run = Run(train_one(prepare(tmp_path / "run", photos, folds=2), "notebook", tiny, {"epochs": 1}))
    folds = {name: run.logits(name) for name in ("final", "fold-1", "fold-2", "original")}
    assert sorted(path.name for path in (run.folder / "folds").iterdir()) == list(folds)
    shown = [np.load(run.fold(name).heatmaps, allow_pickle=False)["rows"] for name in folds]
    named = 1  # a random photo, whose features tell what computes them
    assert sum(seen) == named + 36 + sum(map(len, shown))  # again for the heatmaps of errors
    tested = [path for name in ("fold-1", "fold-2") for path in folds[name].paths[folds[name].splits == "test"]]
    assert sorted(tested) == sorted(folds["final"].paths)


def test_a_frozen_backbone_stays_and_only_the_head_is_kept(runs: dict[str, Path], tiny: Path) -> None:
    kept = load_file(runs["notebook"] / "folds/final/checkpoint.safetensors")
    assert sorted(kept) == ["1.bias", "1.weight", "3.bias", "3.weight"]
    assert sorted(load_file(runs["discriminant"] / "folds/final/checkpoint.safetensors")) == ["1.bias", "1.weight"]
    network, _ = train.restore(Run(runs["notebook"]), load_backbone(str(tiny)))
    stored = load_file(tiny / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in network.layers.state_dict().items())


def unmoved(run: Path, tiny: Path) -> set[str]:
    """Which weights of the backbone are still what they were, by name, without the norms' statistics."""
    network, _ = train.restore(Run(run), load_backbone(str(tiny)))
    stored = load_file(tiny / "model.safetensors")
    same = {name for name, value in network.layers.state_dict().items() if torch.equal(value, stored[name])}
    statistics = {name for name in stored if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert same >= statistics
    return same - statistics


PARTS = ("embedder.", *(f"encoder.stages.{stage}." for stage in range(4)))


def test_fine_tuning_moves_all_but_the_frozen_parts_and_no_norms_statistics(runs: dict[str, Path], tiny: Path) -> None:
    kept = unmoved(runs["finetune"], tiny)
    assert kept == {name for name, _ in load_backbone(str(tiny)).model.named_parameters() if name.startswith(PARTS[:2])}
    assert kept


def test_as_many_parts_are_frozen_as_the_recipe_says(photos: Path, tiny: Path, tmp_path: Path) -> None:
    changes = {"frozen_stages": 4, "epochs": 1, "head_epochs": 0, "warmup_epochs": 0, "augment": 0.0}
    run = train_one(prepare(tmp_path / "run", photos), "finetune", tiny, changes)
    names = [name for name, _ in load_backbone(str(tiny)).model.named_parameters()]
    assert unmoved(run, tiny) == {name for name in names if name.startswith(PARTS[:4])}


def test_a_head_fitted_at_once_has_one_line_of_history(runs: dict[str, Path]) -> None:
    (line,) = read_csv(Run(runs["discriminant"]).fold("final").history, [*loop.HISTORY_COLUMNS], "")
    stored = Run(runs["discriminant"]).logits("final")
    for side in ("train", "val"):
        logits, truth = stored.values[stored.splits == side], stored.targets[stored.splits == side]
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth)).item()
        assert float(line[f"{side}_loss"]) == pytest.approx(loss, rel=1e-4, abs=1e-6)
        assert float(line[f"{side}_accuracy"]) == pytest.approx((logits.argmax(1) == truth).mean())
    assert float(line["val_balanced_accuracy"]) == pytest.approx(balanced_accuracy_score(truth, logits.argmax(1)))
    assert line["epoch"] == "1"
    assert len(read_csv(Run(runs["finetune"]).fold("final").history, ["epoch"], "")) == 5


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_restored_network_gives_the_stored_features_and_logits(
    recipe: str, photos: Path, tiny: Path, runs: dict[str, Path]
) -> None:
    run = Run(runs[recipe])
    network, preprocessing = train.restore(run, load_backbone(str(tiny)))
    pixels = [preprocessing(manifest.open_photo(photos, row)) for row in manifest.read(run.path("manifest.csv"))]
    with torch.inference_mode():
        features = network.features(Normalise(preprocessing)(torch.from_numpy(np.stack(pixels))))
        logits = network.classifier(features)
    assert np.allclose(logits, run.logits("final").values, atol=1e-4)
    kept = run.features("final")
    assert kept.shape == (36, 32 if recipe == "notebook" else 112)
    assert np.allclose(kept, features, rtol=2e-3, atol=1e-3)


def test_a_run_folder_says_how_it_was_made_and_keeps_no_state(runs: dict[str, Path], tiny: Path) -> None:
    files = {name for name in contents(runs["finetune"]) if not name.startswith("cache/")}
    kept = ("checkpoint.safetensors", "features.npy", "heatmaps.npz", "history.csv", "logits.csv")
    audit = "audit.json copies.csv gallery.html manifest.csv measurements.npz split.csv checksums.txt"
    audited = set(audit.split())
    assert files == {f"folds/final/{name}" for name in kept} | audited | {"config.json", "environment.json"}
    said = Run(runs["finetune"]).config
    assert said["recipe"] == config.load("finetune", RECIPES["finetune"]).model_dump(mode="json")
    assert said["labels"] == LABELS
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
    run, accelerator = Run(prepare(tmp_path / "run", photos)), Accelerator(cpu=True)
    rows = manifest.read(run.path("manifest.csv"))[::3]
    rows = [replace(row, photo_group=group) for row, group in zip(rows, GROUPS.tolist(), strict=True)]
    changes = {"image_size": 64, "train_backbone": not frozen, "epochs": 1, "learning_rate": 1e-60}
    recipe, backbone = config.load("discriminant", changes), load_backbone(str(tiny))
    fitted: list[tuple[Any, ...]] = []
    plain = lda.collect

    def noted(*given: Any) -> Any:  # noqa: ANN401
        fitted.append(given)
        return plain(*given)

    monkeypatch.setattr(lda, "collect", noted)
    trainer = train.Trainer(run, recipe, backbone, rows, tmp_path / "features", accelerator)
    sides = dict(zip((row.path for row in rows), [*["train"] * KEPT, "val", "val", "val", "test"], strict=True))
    trainer.train(Fold("final", 0, sides))

    features, targets, groups, classes, invariance = fitted[0]  # then its learning curve
    assert (classes, invariance) == (3, recipe.invariance)
    assert run.fold("final").statistics.is_file() == frozen
    network = build(backbone, recipe, LABELS)
    network.train(False)
    pixels = [Preprocessing(64)(manifest.open_photo(photos, row)) for row in rows[:KEPT]]
    normalise = Normalise(recipe.preprocessing(backbone.mean, backbone.std))
    chosen = set()
    for number, own in enumerate(features.reshape(12, 5, 112)):
        versions = np.stack([augmented(photo, *KINDS[number]) for photo in pixels])
        expected = dataset.in_batches(versions, lambda batch: network.pooled(network.feature_maps(normalise(batch))))
        distances = np.abs(own[:, None] - expected).max(2)
        found = distances.argmin(1)
        assert distances.min(1).max() < 1e-3
        assert sorted(GROUPS[found]) == sorted(set(GROUPS[:KEPT]))
        assert groups.reshape(12, 5)[number].tolist() == GROUPS[found].tolist()
        assert targets.reshape(12, 5)[number].tolist() == [LABELS.index(rows[row].label) for row in found]
        chosen |= set(found.tolist())
    assert chosen == set(range(KEPT))  # another photo of a group has its turn in another augmentation
    head = load_file(run.fold("final").checkpoint)
    for name, values in zip(
        ("1.weight", "1.bias"), plain(*fitted[0]).solve(recipe.shrinkage, recipe.normalisation), strict=True
    ):
        assert np.array_equal(head[name if frozen else f"classifier.{name}"], values.astype(np.float32))


def test_a_final_head_in_closed_form_learns_from_its_validation_photos_where_other_folds_measure(
    photos: Path, tiny: Path, tmp_path: Path
) -> None:
    run, accelerator = Run(prepare(tmp_path / "run", photos)), Accelerator(cpu=True)
    rows = manifest.read(run.path("manifest.csv"))[::3]
    recipe, backbone = config.load("discriminant", {"image_size": 64}), load_backbone(str(tiny))
    sides = dict(
        zip((row.path for row in rows), ["val" if at % 4 == 0 else "train" for at in range(len(rows))], strict=True)
    )
    stored = {}
    none: tuple[str, ...] = ()
    for measured in (none, ("fold-1",)):
        trainer = train.Trainer(run, recipe, backbone, rows, tmp_path / "features", accelerator, measured=measured)
        trainer.train(Fold("final", 0, sides))
        logits = (run.fold("final").logits).read_text().splitlines()[1:]
        stored[bool(measured)] = (
            load_file(run.fold("final").checkpoint)["1.weight"],
            {line.split(",")[2] for line in logits},
        )
    assert stored[False][1] == {"train", "val"}
    assert stored[True][1] == {"train"}  # so that novelty, too, is measured against them
    assert not np.array_equal(stored[False][0], stored[True][0])
    assert float(run.fold("final").history.read_text().splitlines()[1].split(",")[3]) != 0
