"""The model folder: whole, proven equal to training, or not written at all."""

import dataclasses
import inspect
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from tinynet import Exported, agree, noise, prepare
from transformers import ResNetForImageClassification

import spectraderm
from spectraderm import pipeline
from spectraderm.core.errors import DatasetError, ParityError, RunFolderError, SpectraDermError
from spectraderm.core.files import read_csv, read_json, sha256, write_json
from spectraderm.core.run import Run
from spectraderm.core.stages import CHECKSUMS
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.evaluation.robustness import measure_robustness, to_markdown
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.training import export, train
from spectraderm.training import recipe as config
from spectraderm.training.backbones import load_backbone
from spectraderm.training.network import Normalise, build
from spectraderm.training.onnx_graph import halved, to_onnx
from spectraderm.training.photo_augmentation import Transform
from spectraderm.training.pooling import SkinNetwork

FILES = {
    *("NOTICE", "README.md", "config.json", "model.safetensors", "onnx/model.onnx", "preprocessor_config.json"),
    *(
        "novelty.npy",
        "training_photos.npy",
        "confusion_matrix.png",
        "reliability.png",
        "roc.png",
        "examples/1-ring.jpg",
    ),
}
ALL = pytest.mark.parametrize("recipe", ["notebook", "discriminant", "finetune"])


@pytest.fixture
def quick(exports: dict[str, Exported], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an evaluated run folder, not exported yet, whose graph need not be made again."""

    def copy(recipe: str) -> Path:
        graph = exports[recipe].graph
        monkeypatch.setattr(export, "to_onnx", lambda *_: graph)
        run = Path(shutil.copytree(exports[recipe].run, tmp_path / recipe))
        shutil.rmtree(run / "model")
        return run

    return copy


def flat(*greys: int) -> Pixels:
    """Photos of one colour: features have no deviation but at the edges."""
    return np.stack([np.full((64, 64, 3), grey, np.uint8) for grey in greys])


def agree_on_any(engine: Engine, network: SkinNetwork, normalise: Normalise) -> None:
    """For any number of photos."""
    for pixels in (flat(0, 128, 255), noise(1), noise(3, seed=2), noise(17, seed=5)):
        agree(engine, network, normalise(torch.from_numpy(pixels)), pixels, 1e-3)


@ALL
def test_all_that_the_graph_gives_is_what_torch_gives(recipe: str, exports: dict[str, Exported]) -> None:
    agree_on_any(exports[recipe].engine(), exports[recipe].network, exports[recipe].normalise)


def test_a_graph_averages_over_transforms_and_its_maps_are_those_of_the_whole_photo(tiny: Path) -> None:
    changes = {"head": "mlp", "pooling": "statistics", "test_transforms": get_args(Transform)}
    network = build(load_backbone(str(tiny)), config.load("notebook", changes), ["a", "b", "c"])
    network.train(False)
    preprocessing = Preprocessing(64)
    agree_on_any(Engine(to_onnx(network, 64), preprocessing), network, Normalise(preprocessing))


@ALL
def test_the_graph_has_the_input_and_outputs_that_the_hubs_tools_expect(
    recipe: str, exports: dict[str, Exported]
) -> None:
    graph = onnx.load_from_string(exports[recipe].graph).graph
    (photos,) = graph.input
    assert photos.name == "pixel_values"
    assert photos.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [side.dim_value for side in photos.type.tensor_type.shape.dim] == [0, 3, 64, 64]
    assert photos.type.tensor_type.shape.dim[0].dim_param
    assert [output.name for output in graph.output] == ["logits", "features", "maps"]


def test_torch_writes_a_network_the_same_again(exports: dict[str, Exported], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", inspect.unwrap(torch.onnx.export))
    assert to_onnx(exports["discriminant"].network, 64) == exports["discriminant"].graph


def test_halved_weights_guess_alike(exports: dict[str, Exported]) -> None:
    whole, half = exports["finetune"].graph, halved(exports["finetune"].graph)
    stored = {
        tensor.data_type for tensor in onnx.load_from_string(half).graph.initializer if np.prod(tensor.dims) > 1024
    }
    assert stored == {onnx.TensorProto.FLOAT16}
    assert halved(half) == half
    theirs, ours = (exports["finetune"].engine(graph)(noise(24)).logits for graph in (whole, half))
    assert 0 < np.abs(ours - theirs).max() < export.PARITY_HALF


def test_where_half_the_digits_change_a_guess_all_are_kept(
    quick: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quick("notebook")
    datasets = [{"name": "ddi", "redistributable_training": False}]
    write_json(run / "audit.json", Run(run).audit | {"datasets": datasets})
    (run / CHECKSUMS).unlink(missing_ok=True)
    monkeypatch.setattr(export, "PARITY_HALF", 0.0)
    parity = pipeline.export(run)["parity"]
    folder = model_folder.read_model_folder(run / "model")
    assert folder.facts["precision"] == "float32"
    assert folder.facts["parity"] == parity
    assert folder.facts["datasets"] == datasets
    assert (parity["bound"], parity["changed_top1"]) == (export.PARITY, 0)
    assert parity["max_logit_difference"] < 1e-4


@ALL
def test_the_model_folder_is_whole(recipe: str, exports: dict[str, Exported]) -> None:
    exported = exports[recipe]
    folder = model_folder.read_model_folder(exported.folder)
    on_disk = {str(file.relative_to(exported.folder)) for file in exported.folder.rglob("*") if file.is_file()}
    kept = {"head_statistics.npz", "learning_curve.png"} if recipe == "discriminant" else set()
    kept |= {"modeling_spectraderm.py"}
    assert set(folder.files) == FILES | {"spectraderm.json"} | kept == on_disk
    facts, said = folder.facts, Run(exported.run).config
    assert facts["labels"] == ["A- a", "b", "c"]
    assert facts["recipe"] == said["recipe"]
    assert facts["backbone"] == said["backbone"]
    assert facts["protocol"] == "original"
    assert facts["model_id"] == f"spectraderm-{recipe}-{sha256(folder.network)[:8]}"
    assert facts["audit_sha256"] == sha256((exported.run / "audit.json").read_bytes())
    assert {"spectraderm", "display_names", "sha256"} <= facts.keys()
    assert facts["calibration"] == read_json(exported.run / "calibration.json", "")
    assert folder.files["novelty.npy"] == (exported.run / "novelty.npy").read_bytes()
    parity = facts["parity"]
    assert (parity["photos"], parity["changed_top1"], parity["bound"]) == (36, 0, export.PARITY_HALF)
    assert 0 <= parity["max_logit_difference"] < 1e-2
    assert facts["precision"] == "float16"
    assert folder.labels == ["A- a", "b", "c"]
    assert folder.preprocessing.size == 64


@ALL
def test_no_file_says_where_on_this_machine_it_was_made(
    recipe: str, exports: dict[str, Exported], photos: Path, tiny: Path, tmp_path: Path
) -> None:
    places = {tmp_path.parent, photos.parent, tiny, Path.home(), Path(sys.prefix), Path(spectraderm.__path__[0])}
    for file in exports[recipe].folder.rglob("*.*"):
        told = {photos, tiny} if file.name == "README.md" else places  # the card repeats the command as it was typed
        assert not [place for place in told if str(place).encode() in file.read_bytes()], file


@ALL
def test_the_exported_model_knows_what_it_learned_from_and_nothing_else(
    recipe: str, exports: dict[str, Exported], photos: Path
) -> None:
    run, model = exports[recipe].run, spectraderm.load_model(exports[recipe].folder)
    said = read_csv(run / "folds/final/logits.csv", ["path", "split"], "")
    assert {row["split"] for row in said} == {"train", "val", "test"}
    for row in said:
        prediction = model.predict(photos / row["path"])
        assert prediction.in_training == (row["split"] != "test")
        if row["split"] == "train" and prediction.novelty is not None:
            assert prediction.novelty < 1e-3


def test_calibration_photos_are_not_learned_from(photos: Path, tmp_path: Path) -> None:
    run = prepare(tmp_path / "run", photos)
    pipeline.split(run, "grouped", 1, 0)
    rows = manifest.read(run / "manifest.csv")
    final = splits.read(run / "split.csv", rows).folds[0].splits
    assert set(final.values()) == {"train", "val", "calibration", "test"}
    hashes = {bytes(one).hex() for one in export.training_hashes(Run(run))}
    assert hashes == {row.phash for row in rows if final[row.path] in ("train", "val")}


def spoiled(run: Path, name: str) -> None:
    """Change one file of a run as `name` says."""
    calibration, audit = run / "calibration.json", run / "audit.json"
    change = {"damaged calibration": {"temperature": None}, "calibration of another run": {"thresholds": [0.5]}}
    if name in change:
        write_json(calibration, {"home": read_json(calibration, "")["home"] | change[name]})
    elif name == "no hashes":
        rows = manifest.read(run / "manifest.csv")
        manifest.write(run / "manifest.csv", [dataclasses.replace(row, phash="") for row in rows])
    elif name == "photos that moved":
        audit.write_text(audit.read_text().replace("/photos", "/moved"))
    elif name in ("README.md", "calibration.json", "novelty.npy"):
        (run / name).unlink()
    else:
        path = run / "folds/final/logits.csv"
        lines = path.read_text().splitlines()
        *rest, last = lines[7].split(",")
        lines[7] = ",".join([*rest, str(float(last) + float(name))])
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ("damaged calibration", RunFolderError, "calibration.json is damaged.*spectraderm calibrate"),
        ("calibration of another run", RunFolderError, "calibration.json is of another.*spectraderm calibrate"),
        ("calibration.json", RunFolderError, "spectraderm calibrate"),
        ("novelty.npy", RunFolderError, "spectraderm calibrate"),
        ("README.md", RunFolderError, "spectraderm evaluate"),
        ("no hashes", RunFolderError, "no hashes"),
        ("photos that moved", DatasetError, r"\.jpg can't be read any more"),
        ("0.5", ParityError, r"differs from training by .*nothing was exported"),
        ("nan", RunFolderError, "logits that are no numbers"),
    ],
)
def test_what_is_not_ready_or_does_not_fit_is_not_exported(
    change: str, error: type[SpectraDermError], match: str, quick: Callable[[str], Path]
) -> None:
    run = quick("notebook")
    (run / "checksums.txt").unlink()
    spoiled(run, change)
    before = sorted(run.rglob("*"))
    with pytest.raises(error, match=match):
        pipeline.export(run)
    assert set(run.rglob("*")) - set(before) <= {run / "checksums.txt"}


def test_plain_transformers_refuses_what_it_would_misread(exports: dict[str, Exported]) -> None:
    with pytest.raises(RuntimeError, match="mismatched"):
        ResNetForImageClassification.from_pretrained(exports["finetune"].folder)


def test_a_changed_first_guess_is_no_parity_however_near(exports: dict[str, Exported], tmp_path: Path) -> None:
    exported = exports["finetune"]
    run, engine = Path(shutil.copytree(exported.run, tmp_path / "run")), exported.engine()
    preprocessing = train.restore(Run(run), load_backbone(Run(run).config["backbone_name"]))[1]
    assert export.measure_parity(Run(run), engine, preprocessing, 1e9)["changed_top1"] == 0
    path = run / "folds/final/logits.csv"
    header, *lines = path.read_text().splitlines()
    turned = [",".join([*line.split(",")[:4], *reversed(line.split(",")[4:])]) for line in lines]
    path.write_text("\n".join([header, *turned]) + "\n")
    with pytest.raises(ParityError, match=r"in [1-9]\d* first guesses"):
        export.measure_parity(Run(run), engine, preprocessing, 1e9)


def test_the_same_is_exported_again_and_elsewhere_without_weights(
    quick: Callable[[str], Path], exports: dict[str, Exported], tiny: Path, tmp_path: Path
) -> None:
    run = quick("finetune")
    (tmp_path / "notes.md").write_text("## Measured elsewhere\n")
    pipeline.export(run, tmp_path / "light", onnx_only=True, notes=tmp_path / "notes.md")
    light = model_folder.read_model_folder(tmp_path / "light")
    assert set(light.files) == {*FILES, "spectraderm.json"} - {"model.safetensors"}
    card = light.files["README.md"]
    assert card.startswith((run / "README.md").read_bytes() + b"\n## Does the camera matter?\n")
    assert card.endswith(b" |\n\n## Measured elsewhere\n")
    for _ in range(2):
        pipeline.export(run)
        ours, theirs = (model_folder.read_model_folder(each) for each in (run / "model", exports["finetune"].folder))
        assert ours.files == theirs.files


def test_an_export_tells_it_in_the_model_folder_and_in_its_card(exports: dict[str, Exported]) -> None:
    exported = exports["notebook"]
    folder = model_folder.read_model_folder(exported.folder)
    preprocessing = folder.preprocessing
    found = measure_robustness(Run(exported.run), lambda _: exported.engine(), preprocessing)
    assert folder.facts["robustness"] == found
    assert found["photos"] == 9
    card = folder.files["README.md"]
    assert card == (exported.run / "README.md").read_bytes() + b"\n" + to_markdown(found).encode()
