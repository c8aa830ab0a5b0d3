"""Other image models than ResNets, small and random, in each layout: maps, tokens with and without a class token."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tinynet import agree, export_one, hub_logits, noise, photos_of, prepare, train_one
from torch import nn

import spectraderm
from spectraderm import pipeline
from spectraderm.core.errors import BackboneError, RecipeError
from spectraderm.core.files import read_json, write_folder, write_json
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.training import recipe as config
from spectraderm.training.backbones import load_backbone
from spectraderm.training.frozen_backbone import freeze
from spectraderm.training.hub_layout import hub_files
from spectraderm.training.image_network import SkinImageNetwork
from spectraderm.training.network import build, load_matching
from spectraderm.training.onnx_graph import halved, rounded, to_onnx

BLOCKS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 64,
    "patch_size": 16,
}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
LEVIT: dict[str, Any] = {
    "image_size": 64,
    "hidden_sizes": [16, 16, 16],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}
SWIN: dict[str, Any] = {"embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 64}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "vit": ("ViT", BLOCKS | {"image_size": 32}, 1),  # position embeddings are interpolated
    "deit": ("DeiT", BLOCKS, 2),
    "dinov2": ("Dinov2", BLOCKS | {"patch_size": 8, "image_size": 56}, 1),
    "registers": ("Dinov2WithRegisters", BLOCKS | {"num_register_tokens": 4}, 5),
    "siglip": ("SiglipVision", BLOCKS, 0),
    "swin": ("Swin", SWIN, 0),
    "convnext": ("ConvNextV2", STAGES, 0),
    "mobilenet": ("MobileNetV2", {"depth_multiplier": 0.25}, 0),
}
"""By name the class of transformers, its settings, and how many tokens come before those of patches."""
WHOLE, GRAPHS = ("dinov2", "convnext"), ("vit", "registers", "swin", "mobilenet")
"""Which go all the way from photos to a model folder; and of which the graph alone is compared with torch."""
LABELS = ["a", "b", "c"]


def write_model(folder: Path, kind: str, settings: dict[str, Any], **preprocessor: Any) -> Path:  # noqa: ANN401
    """A random model in Hub layout, with norms that have seen some noise."""
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**settings))
    if any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()):
        for _ in range(20):
            model(torch.randn(8, 3, 64, 64))
    model.save_pretrained(folder)
    colours = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]} | preprocessor
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models, each in a folder; don't write into them."""
    root = tmp_path_factory.mktemp("models")
    return {name: write_model(root / name, kind, settings) for name, (kind, settings, _) in MODELS.items()}


def network(folder: Path, **changes: Any) -> SkinImageNetwork:  # noqa: ANN401
    torch.manual_seed(0)
    built = build(load_backbone(str(folder)), config.load("discriminant", {"image_size": 64} | changes), LABELS)
    assert isinstance(built, SkinImageNetwork)
    built.train(False)
    nn.init.uniform_(list(built.classifier.parameters())[-1], -1, 1)
    return built


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_features_are_those_of_transformers_own_layers(name: str, folders: dict[str, Path]) -> None:
    before, shown = MODELS[name][2], photos_of(noise(2))
    plain = transformers.AutoModel.from_pretrained(folders[name]).eval()
    hidden = plain(shown, **({"interpolate_pos_encoding": True} if name == "vit" else {})).last_hidden_state.numpy()
    places = hidden.reshape(2, hidden.shape[1], -1) if hidden.ndim == 4 else hidden[:, before:].transpose(0, 2, 1)
    means = np.concatenate([places.mean(2), hidden[:, 0]] if before else [places.mean(2)], 1)
    expected = np.concatenate([means, places.std(2)], 1)
    both, alone = network(folders[name]), network(folders[name], pooling="mean")
    np.testing.assert_allclose(both.features(shown), expected, rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(both.features(shown)[:, both.last_means], means, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(alone.features(shown), means, rtol=1e-3, atol=1e-5)
    frozen = freeze(both)
    one_by_one = torch.cat([frozen.pooled(both, shown[number : number + 1]) for number in range(2)])
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_maps_lie_as_the_photo_does_and_evidence_adds_up_to_the_logits(name: str, folders: dict[str, Path]) -> None:
    net, shown = network(folders[name]), photos_of(noise(2))
    maps = net.feature_maps(shown)
    evidence, bias = net.evidence(maps), list(net.classifier.parameters())[-1]
    assert evidence.shape == (2, 3, *maps.shape[2:])
    torch.testing.assert_close(evidence.mean((2, 3)) + bias, net.classifier(net.pooled(maps)), atol=2e-3, rtol=1e-3)
    if name == "mobilenet":
        return  # random, and each place sees the whole photo
    changed = shown.clone()
    changed[:, :, 48:, :16] *= -1  # at the lower left
    patches = slice(None, maps.shape[1] - net.constant)
    moved = (net.feature_maps(changed) - maps)[:, patches].abs().sum(1).mean(0).numpy()
    half = len(moved) // 2
    quarters = [part.mean() for rows in (moved[:half], moved[half:]) for part in (rows[:, :half], rows[:, half:])]
    assert np.argmax(quarters) == 2


@pytest.mark.parametrize("name", MODELS)
def test_transformers_gives_the_same_logits(name: str, folders: dict[str, Path], tmp_path: Path, trusted: None) -> None:
    changes = {"head": "mlp", "pooling": "mean"} if name in ("vit", "convnext") else {}
    net, shown = network(folders[name], **changes), photos_of(noise(2))
    write_folder(tmp_path / "model", hub_files(net, Preprocessing(64)))
    with torch.inference_mode():
        ours = net.classifier(net.features(shown))
    torch.testing.assert_close(hub_logits(tmp_path / "model", shown), ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_gives_what_torch_gives(name: str, folders: dict[str, Path]) -> None:
    net = network(folders[name], head="mlp" if name == "vit" else "discriminant")
    graph, preprocessing = to_onnx(net, 64), Preprocessing(64)
    with torch.inference_mode():
        stored = rounded(net).classifier(rounded(net).features(photos_of(noise(3))))
    np.testing.assert_allclose(Engine(halved(graph), preprocessing)(noise(3)).logits, stored, atol=1e-4)
    engine = Engine(graph, preprocessing)
    for count in (1, 3):
        agree(engine, net, photos_of(noise(count)), noise(count))


@pytest.mark.parametrize("name", WHOLE)
def test_photos_become_a_model_folder_that_answers(
    name: str, folders: dict[str, Path], photos: Path, tmp_path: Path, quick_report: None
) -> None:
    trained = train_one(prepare(tmp_path / "trained", photos), "discriminant", folders[name])
    exported = export_one(trained, tmp_path / "run", folders[name])
    facts = model_folder.read_model_folder(exported.folder).facts
    assert facts["parity"]["changed_top1"] == 0
    assert facts["parity"]["max_logit_difference"] < 1e-2
    paths = sorted((photos / "test").rglob("*.jpg"))
    answers = spectraderm.load_model(exported.folder).predict(paths)
    with torch.inference_mode():
        maps = exported.network.feature_maps(exported.normalise(torch.from_numpy(noise(1))))
    assert {np.shape(answer.heatmap) for answer in answers} == {tuple(maps.shape[2:])}
    assert sum(answer.label == path.parent.name for path, answer in zip(paths, answers, strict=True)) > 5
    about = read_json(exported.folder / "config.json", "")
    assert about["architectures"] == ["SpectraDermForImageClassification"]
    assert about["id2label"] == {"0": "A- a", "1": "b", "2": "c"}
    again, first = (load_backbone(str(folder)) for folder in (exported.folder, folders[name]))
    assert again.model.state_dict().keys() == first.model.state_dict().keys()
    for key, value in again.model.state_dict().items():  # as 16 bits hold it
        torch.testing.assert_close(value, first.model.state_dict()[key], atol=1e-5, rtol=1e-3)
    with pytest.raises(BackboneError, match=r"only ResNets .*--int8"):
        pipeline.export(exported.run, int8=True)


def test_layers_are_not_trained(folders: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match=r"finetune trains the layers of ResNets only.*--recipe discriminant"):
        load_matching("finetune", {"image_size": 64}, str(folders["vit"]))


@pytest.mark.parametrize(
    ("kind", "settings", "size", "problem"),
    [
        ("Bert", {**BLOCKS, "vocab_size": 30}, 64, "a bert reads input_ids, not photos alone"),
        ("ViTMAE", BLOCKS, 64, "gives something else for the same photo each time"),
        ("Yolos", BLOCKS | {"image_size": [64, 64]}, 64, "117 tokens, which are no grid"),
        ("VideoMAE", BLOCKS | {"num_frames": 2}, 64, "does not take photos of 64 pixels alone"),
        ("ViT", BLOCKS, 72, "reads patches of 16 pixels, and photos have 72.*Set image_size = 64 in a recipe"),
        ("Levit", LEVIT, 96, "does not take photos of 96 pixels alone.*Set image_size = 64 in a recipe"),
    ],
)
def test_what_gives_no_maps_of_a_photo_is_refused_before_anything_is_written(
    kind: str, settings: dict[str, Any], size: int, problem: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "net", kind, settings)
    with pytest.raises(BackboneError, match=problem) as caught:
        load_matching("discriminant", {"image_size": size}, str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("preprocessor", "problem"),
    [
        ({"image_mean": None}, "not a whole vit"),
        ({"do_flip_channel_order": True}, "more than a mean and a deviation"),
        ({"rescale_factor": 1 / 127.5}, "does not scale pixels to 0..1"),
    ],
)
def test_colours_that_are_not_understood_are_refused(preprocessor: Any, problem: str, tmp_path: Path) -> None:  # noqa: ANN401
    with pytest.raises(BackboneError, match=problem):
        load_backbone(str(write_model(tmp_path, "ViT", BLOCKS, **preprocessor)))


def test_a_model_that_brings_code_is_refused_and_its_code_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "net", "ViT", BLOCKS)
    about = read_json(folder / "config.json", "") | {"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}
    write_json(folder / "config.json", about | {"auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.Model"}})
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(BackboneError, match="not an image model"):
        load_backbone(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_pooler_without_weights_is_left_out_and_another_lack_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "net", "ViT", BLOCKS)
    weights = load_file(folder / "model.safetensors")
    stored = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(stored) < len(weights)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    assert len({freeze(network(folder)).digest for _ in range(2)}) == 1
    del stored["layernorm.weight"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"not a whole vit.*layernorm.weight is missing"):
        load_backbone(str(folder))


def test_the_digest_tells_what_the_weights_do_not(folders: dict[str, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(folders["vit"], tmp_path / "net"))
    about = read_json(other / "config.json", "")
    write_json(other / "config.json", about | {"num_attention_heads": 4})
    first, again, heads = (freeze(network(folder)).digest for folder in (folders["vit"], folders["vit"], other))
    assert first == again != heads


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Net\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("# Net\nlicense: mit\n", "see its model card"),
        (None, "see its model card"),
    ],
)
def test_the_licence_is_what_the_model_card_says(card: str | None, named: str, tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "net"))
    if card:
        (folder / "README.md").write_text(card)
    assert load_backbone(str(folder)).license == named
