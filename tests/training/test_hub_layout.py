"""What the Hub's own tools open: transformers gives our logits, and the graph has the names that others look for."""

import io
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
import transformers
from conftest import paint
from huggingface_hub import ModelCard
from PIL import Image
from tinynet import Exported, hub_logits, noise, photos_of, write_tiny

import spectraderm
from spectraderm.core.files import read_json, write_folder
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference import model_folder
from spectraderm.inference.calibration import softmax
from spectraderm.training import recipe as config
from spectraderm.training.backbones import load_backbone
from spectraderm.training.hub_layout import hub_files
from spectraderm.training.network import build
from spectraderm.training.photo_augmentation import Transform

ALL = pytest.mark.parametrize("recipe", ["notebook", "discriminant", "finetune"])
HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers": {"head": "mlp"},
    "statistics": {"pooling": "statistics"},
    "mirrored": {"test_transforms": ("whole", "mirrored")},
    "everything": {"head": "mlp", "pooling": "statistics", "test_transforms": get_args(Transform)},
}


@pytest.mark.parametrize("pool_padding", ["both", "end"])
@pytest.mark.parametrize("kind", HEADS)
def test_transformers_gives_the_same_logits_of_every_head(
    kind: str, pool_padding: str, tmp_path: Path, trusted: None
) -> None:
    backbone = load_backbone(str(write_tiny(tmp_path / "tiny", pool_padding=pool_padding)))
    settings = {"image_size": 64, "head": "linear", "pooling": "mean", **HEADS[kind]}
    network = build(backbone, config.load("notebook", settings), ["a", "b", "c"])
    network.train(False)
    write_folder(tmp_path / "model", files := hub_files(network, Preprocessing(64)))
    photos = photos_of(noise(3))
    with torch.inference_mode():
        ours = network.classifier(network.features(photos))
    torch.testing.assert_close(hub_logits(tmp_path / "model", photos), ours, atol=1e-4, rtol=0)
    plain = (kind, pool_padding) == ("plain", "both")
    assert (model_folder.MODELING in files) != plain
    assert ("auto_map" in json.loads(files["config.json"])) != plain
    assert not {model_folder.MODELING, "model.safetensors"} & set(hub_files(network, Preprocessing(64), weights=False))


@ALL
def test_transformers_says_what_the_exported_network_says(
    recipe: str, exports: dict[str, Exported], trusted: None
) -> None:
    folder, photo, pixels = exports[recipe].folder, paint(3, (200, 160)), noise(5)
    pipeline = transformers.pipeline("image-classification", model=str(folder), trust_remote_code=True)
    said = {entry["label"]: entry["score"] for entry in pipeline(photo, top_k=None)}
    model = spectraderm.load_model(folder)
    assert model.folder.facts["precision"] == "float16"
    logits = hub_logits(folder, torch.from_numpy(model.preprocessing.normalised(pixels)))
    np.testing.assert_allclose(logits, model.engine(pixels).logits, atol=1e-4)
    expected = softmax(model.engine(model.pixels(photo)[None]).logits)[0]
    np.testing.assert_allclose([said[label] for label in model.labels], expected, atol=1e-4)


@ALL
def test_the_folder_has_the_keys_that_the_hubs_tools_read(recipe: str, exports: dict[str, Exported]) -> None:
    folder = exports[recipe].folder
    settings, processor = read_json(folder / "config.json", ""), read_json(folder / "preprocessor_config.json", "")
    assert settings["model_type"] == "resnet"
    assert settings["id2label"] == {"0": "A- a", "1": "b", "2": "c"}
    assert settings["label2id"] == {"A- a": 0, "b": 1, "c": 2}
    assert settings["auto_map"] == {
        "AutoModelForImageClassification": "modeling_spectraderm.SpectraDermForImageClassification"
    }
    assert processor["image_processor_type"] == "ViTImageProcessor"
    assert processor["size"] == {"height": 64, "width": 64}
    assert processor["rescale_factor"] == 1 / 255
    assert {"do_resize", "do_rescale", "do_normalize", "resample", "image_mean", "image_std"} <= processor.keys()


@ALL
def test_the_graph_says_who_wrote_it_and_what_it_is(recipe: str, exports: dict[str, Exported]) -> None:
    folder = model_folder.read_model_folder(exports[recipe].folder)
    graph = onnx.load_from_string(folder.network)
    assert (graph.producer_name, graph.producer_version) == ("spectraderm", metadata.version("spectraderm"))
    said = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(said["labels"]) == folder.labels
    assert said["recipe"] == recipe
    assert said["backbone"] == folder.facts["backbone"]
    assert said["license"].startswith("Apache-2.0; backbone: ")
    assert not [part for part in (*graph.graph.node, *graph.graph.input) if part.metadata_props or part.doc_string]


@ALL
def test_what_the_card_shows_is_in_the_folder_and_small(recipe: str, exports: dict[str, Exported]) -> None:
    folder = model_folder.read_model_folder(exports[recipe].folder)
    shown = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", folder.card)
    last = ["learning_curve.png"] if recipe == "discriminant" else []
    assert [name for _, name in shown] == ["confusion_matrix.png", "roc.png", "reliability.png", *last]
    for _, name in shown:
        with Image.open(io.BytesIO(folder.files[name])) as picture:
            assert (picture.format, set(picture.info)) == ("PNG", {"dpi"})
        assert len(folder.files[name]) < 200_000
    front: Any = ModelCard(folder.card).data
    (example,) = front.to_dict()["widget"]
    assert spectraderm.load_model(folder.path).predict(folder.files[example["src"]]).model_id == folder.model_id
    assert [name for name in folder.files if name.endswith(".jpg")] == [example["src"]]


def test_code_in_a_folder_is_compared_and_never_run_here(exports: dict[str, Exported], tmp_path: Path) -> None:
    read = model_folder.read_model_folder(exports["discriminant"].folder)
    code = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()".encode()
    files = {name: data for name, data in read.files.items() if name != model_folder.FACTS}
    model_folder.write_model_folder(tmp_path / "model", {**files, model_folder.MODELING: code}, read.facts)
    assert spectraderm.load_model(tmp_path / "model").predict(paint(3, (200, 160))).model_id == read.model_id
    assert not (tmp_path / "ran").exists()
    (tmp_path / "model" / model_folder.MODELING).write_bytes(code + b"\n")
    with pytest.raises(spectraderm.SpectraDermError, match=r"modeling_spectraderm\.py was altered"):
        spectraderm.load_model(tmp_path / "model")
