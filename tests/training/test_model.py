import json
import shutil
from pathlib import Path
from typing import get_args

import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import paint
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tinynet import write_tiny
from torch import nn
from transformers import ResNetForImageClassification, ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from spectraderm.core.errors import BackboneError
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import Augment, Transform, _Coarsen, transformed
from spectraderm.training.backbones import DEFAULT_BACKBONE, load_backbone
from spectraderm.training.network import Normalise, SkinResNet, build, feature_width
from spectraderm.training.recipe import Recipe

LABELS = ["A- a", "b", "c"]
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)


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


def test_a_local_folder_is_loaded_with_its_weights_and_colours(tiny: Path) -> None:
    backbone = load_backbone(str(tiny))
    assert backbone.mean == (0.5, 0.4, 0.3)
    assert backbone.std == (0.2, 0.25, 0.3)
    stored = load_file(tiny / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in backbone.model.state_dict().items())


def test_the_source_of_a_local_folder_says_its_weights_and_not_where_it_lies(tmp_path: Path) -> None:
    sources = [
        load_backbone(str(write_tiny(tmp_path / str(number) / "net", seed))).source
        for number, seed in enumerate((0, 0, 1))
    ]
    assert sources[0] == sources[1] != sources[2]
    assert all(source.startswith("net@") for source in sources)


def test_a_pickle_is_never_loaded(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(copied)


def test_another_architecture_is_refused(copied: Path, tmp_path: Path) -> None:
    change_json(copied / "config.json", model_type="vit")
    assert "vit" in refusal(copied)
    small = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32)
    ViTModel(small).save_pretrained(tmp_path / "other")
    shutil.copy(copied / "preprocessor_config.json", tmp_path / "other")
    assert "vit" in refusal(tmp_path / "other")


def test_a_folder_that_lacks_a_weight_is_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    lacking = sorted(name for name in weights if name.endswith("convolution.weight"))[5]
    del weights[lacking]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert lacking in refusal(copied)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_folder_is_refused(name: str, damage: str, copied: Path) -> None:
    data = (copied / name).read_bytes()
    (copied / name).unlink()
    if damage != "gone":
        (copied / name).write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    refusal(copied)


def test_weights_of_another_size_are_refused(copied: Path) -> None:
    change_json(copied / "config.json", hidden_sizes=[8, 16, 24, 48])
    refusal(copied)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path / "none")
    assert "config.json" in refusal("./none/of/these")


def test_a_hub_that_does_not_answer_is_said_to_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Cannot reach the Hub\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    problem = refusal(DEFAULT_BACKBONE)
    assert "can't be had from the Hugging Face Hub (Cannot reach the Hub)" in problem


def asking(head: str, pooling: str = "mean", transforms: tuple[Transform, ...] = ("whole",)) -> Recipe:
    return config.load("notebook", {"head": head, "pooling": pooling, "test_transforms": transforms})


def built(tiny: Path, recipe: Recipe) -> SkinResNet:
    network = build(load_backbone(str(tiny)), recipe, LABELS)
    network.train(False)
    return network


@pytest.mark.parametrize(
    ("head", "pooling", "shapes"),
    [
        ("linear", "mean", [(3, 32)]),
        ("mlp", "mean", [(512, 32), (3, 512)]),
        ("discriminant", "mean", [(3, 32)]),
        ("discriminant", "statistics", [(3, 112)]),
        ("mlp", "statistics", [(512, 112), (3, 512)]),
    ],
)
def test_a_head_has_its_layers_and_depends_on_the_seed_alone(
    head: str, pooling: str, shapes: list[tuple[int, int]], tiny: Path
) -> None:
    backbone = load_backbone(str(tiny))
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = build(backbone, asking(head, pooling), LABELS)
        assert feature_width(network.config) == shapes[0][1]
        heads.append([layer.weight for layer in network.classifier if isinstance(layer, nn.Linear)])
        assert network.config.id2label == dict(enumerate(LABELS))
        assert network.classifier(network.features(torch.zeros(2, 3, 64, 64))).shape == (2, 3)
    assert [tuple(weight.shape) for weight in heads[0]] == shapes
    assert torch.equal(heads[0][0], heads[1][0])
    assert not torch.equal(heads[0][0], heads[2][0])


def test_the_linear_head_is_plain_transformers(tiny: Path) -> None:
    network = built(tiny, asking("linear"))
    plain = ResNetForImageClassification(network.config)
    plain.load_state_dict(network.state_dict())
    batch = torch.randn(3, 3, 96, 64)
    with torch.inference_mode():
        nn.Module.train(plain, False)
        ours = network.classifier(network.features(batch))
        assert torch.allclose(ours, plain(batch).logits, atol=1e-5)


def test_pooling_at_the_end_differs_and_keeps_the_shape(tiny: Path, tmp_path: Path) -> None:
    folders = (tiny, write_tiny(tmp_path / "end", pool_padding="end"))
    networks = [build(load_backbone(str(folder)), asking("linear"), LABELS) for folder in folders]
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        both, end = (network.feature_maps(batch) for network in networks)
    assert both.shape == end.shape == (2, 32, 2, 2)
    assert not torch.allclose(both, end, atol=1e-3)


def test_statistics_are_means_and_deviations_of_the_last_two_stages(tiny: Path) -> None:
    network, photos = built(tiny, asking("linear", "statistics")), torch.randn(3, 3, 64, 64)
    plain = load_backbone(str(tiny)).model
    nn.Module.train(plain, False)
    with torch.inference_mode():
        got = network.features(photos).numpy()
        *_, before, last = (maps.numpy() for maps in plain(photos, output_hidden_states=True).hidden_states)
        assert network.feature_maps(photos).shape == (3, 56, 4, 4)
    means, deviations = ([getattr(maps, name)((2, 3)) for maps in (before, last)] for name in ("mean", "std"))
    assert np.allclose(got, np.concatenate([*means, *deviations], 1), atol=1e-3)
    assert (got.shape, before.shape, last.shape) == ((3, 112), (3, 24, 4, 4), (3, 32, 2, 2))


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
@pytest.mark.parametrize("transforms", [TRANSFORMS, ("zoomed", "whole")])
def test_features_are_averaged_over_transforms(pooling: str, transforms: tuple[Transform, ...], tiny: Path) -> None:
    network, photos = built(tiny, asking("linear", pooling, transforms)), torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        own = [network.pooled(network.feature_maps(transformed(photos, [view]))) for view in transforms]
        got = network.features(photos)
    assert torch.allclose(got, torch.stack(own).mean(0), atol=1e-5)
    assert all((got - one).abs().max() > 1e-3 for one in own)


def test_a_network_is_the_same_in_hub_layout(tiny: Path, tmp_path: Path) -> None:
    network, photos = built(tiny, asking("mlp", "statistics", TRANSFORMS)), torch.randn(2, 3, 64, 64)
    network.save_pretrained(tmp_path / "saved")
    again = SkinResNet.from_pretrained(tmp_path / "saved")
    assert again.test_transforms == TRANSFORMS
    with torch.inference_mode():
        ours, theirs = (each.classifier(each.features(photos)) for each in (network, again))
    assert torch.equal(ours, theirs)


def test_normalising_is_that_of_the_hubs_own_processor() -> None:
    preprocessing = Preprocessing(size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    photos = [paint(seed, (80, 70)) for seed in range(3)]
    theirs = ViTImageProcessorPil(**preprocessing.to_hub())(photos, return_tensors="pt")["pixel_values"]
    pixels = torch.from_numpy(np.stack([preprocessing(photo) for photo in photos]))
    assert torch.allclose(Normalise(preprocessing)(pixels), theirs, atol=1e-5)
    assert torch.allclose(Normalise(preprocessing)(pixels.float()), theirs, atol=1e-5)


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_augmenting_keeps_the_range_and_follows_the_seed(strength: float) -> None:
    pixels = torch.from_numpy(np.stack([np.asarray(paint(seed, (64, 64))) for seed in range(16)]))
    change = Augment(strength, 48)
    torch.manual_seed(0)
    first, second = change(pixels), change(pixels)
    assert first.shape == (16, 48, 48, 3)
    assert 0 <= first.min() <= first.max() <= 255.01
    assert first.max() > 128
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(Augment(strength, 48)(pixels), first)


def test_augmenting_treats_every_photo_in_its_own_way() -> None:
    same = torch.tensor(np.asarray(paint(1, (64, 64)))).expand(4, 64, 64, 3)
    torch.manual_seed(0)
    changed = Augment(0.5, 64)(same)
    assert not any(torch.allclose(changed[0], changed[number], atol=1) for number in (1, 2, 3))


def test_coarsening_takes_detail_from_a_share_of_the_photos_and_leaves_the_others() -> None:
    board = (torch.arange(48)[:, None] + torch.arange(48)) % 2
    photos = board.float().expand(200, 3, 48, 48)
    torch.manual_seed(0)
    assert torch.equal(_Coarsen(0)(photos), photos)
    for _ in range(5):
        changed = _Coarsen(0.3)(photos)
        assert changed.shape == photos.shape
        same = (changed == photos).flatten(1).all(1)
        assert 0.15 < 1 - same.float().mean() < 0.45
        assert changed[~same].std((1, 2, 3)).max() < 0.9 * photos[0].std()
        assert torch.allclose(changed.mean((1, 2, 3)), photos.mean((1, 2, 3)), atol=0.02)


def test_augmenting_coarsens_and_at_no_strength_it_does_not() -> None:
    shares = [part.share for strength in (0, 1) for part in Augment(strength, 48).change if hasattr(part, "share")]
    assert shares == [0, pytest.approx(0.6)]
