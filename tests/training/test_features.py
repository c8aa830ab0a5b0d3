"""Features of frozen layers: what was computed once is not computed again, and nothing else comes of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from tinynet import RECIPES, noise, prepare, train_one, write_tiny

from spectraderm.core.files import sha256
from spectraderm.core.progress import no_track
from spectraderm.core.run import Run
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.training import features, frozen_backbone, train
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import transformed
from spectraderm.training.backbones import Backbone, load_backbone
from spectraderm.training.dataset import Floats
from spectraderm.training.features import Features, of_backbone
from spectraderm.training.frozen_backbone import Frozen
from spectraderm.training.network import Normalise, SkinResNet, build
from spectraderm.training.photo_augmentation import Transform

KEPT = ("folds/final/logits.csv", "folds/final/checkpoint.safetensors", "folds/final/heatmaps.npz", "features.npy")
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)
Make = Callable[..., Features]
Prepared = Callable[..., Path]
PIXELS = noise(9)
PIXELS[7] = PIXELS[2]
ROWS = [np.array(own) for own in ([0, 1, 2], [3, 4], [8, 7])]
SOME: list[tuple[Any, bool]] = [("whole", False), ("turned", False), ("zoomed", True)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is kept."""
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/features"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many photos, or variants of them, features are computed at a time."""
    counts: list[int] = []
    plain = features._Part.add

    def counted(self: features._Part, photos: list[str], values: Floats) -> None:
        counts.append(len(photos))
        plain(self, photos, values)

    monkeypatch.setattr(features._Part, "add", counted)
    return counts


@pytest.fixture(scope="module")
def backbone(tiny: Path) -> Backbone:
    return load_backbone(str(tiny))


@pytest.fixture(scope="module")
def prepared(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A run folder that can be trained in, of so many folds."""
    root = tmp_path_factory.mktemp("prepared")
    made = {folds: prepare(root / str(folds), photos, folds) for folds in (1, 2)}
    return lambda run, folds=1: Path(shutil.copytree(made[folds], run))


@pytest.fixture
def make(backbone: Backbone, tmp_path: Path) -> Make:
    def make(
        recipe: str = "discriminant", size: int = 64, pixels: Pixels = PIXELS, net: Backbone = backbone
    ) -> Features:
        preprocessing = Preprocessing(size)
        photos = [sha256(photo.tobytes()) for photo in pixels]
        about = config.load(recipe, {"image_size": size})
        normalise = Normalise(preprocessing)
        return of_backbone(net, about, pixels, photos, preprocessing, normalise, tmp_path / "kept", no_track)

    return make


@pytest.mark.parametrize(("recipe", "size"), [("discriminant", 64), ("notebook", 64), ("notebook", 80)])
def test_features_are_those_of_the_network(recipe: str, size: int, make: Make, backbone: Backbone) -> None:
    pixels = noise(9, size)
    about = config.load(
        recipe, {"image_size": size, "test_transforms": TRANSFORMS if recipe == "discriminant" else ("whole",)}
    )
    network = build(backbone, about, ["a", "b"])
    network.train(False)
    photos = Normalise(Preprocessing(size))(torch.from_numpy(pixels))
    with torch.inference_mode():
        expected = network.features(photos)
        whole = network.pooled(network.feature_maps(transformed(photos, ["whole"])))
    for _ in range(2):  # computed, and read
        own = make(recipe, size, pixels)
        assert np.allclose(own.averaged(about.test_transforms), expected, rtol=1e-4, atol=1e-5)
        assert np.allclose(own.averaged(("whole",)), whole, rtol=1e-4, atol=1e-5)


def test_what_is_read_is_what_was_computed_and_no_photo_is_looked_at_twice(make: Make, counts: list[int]) -> None:
    first = make()
    averaged, copies = first.averaged(TRANSFORMS), first.augmented(SOME, ROWS)
    # Eight photos differ. Four views; then of the copies the whole ones are known, and 2 + 2 others are not.
    assert sum(counts) == 4 * 8 + 4
    assert np.array_equal(averaged[7], averaged[2])
    again = make()
    assert np.array_equal(again.averaged(TRANSFORMS), averaged)
    assert np.array_equal(again.augmented(SOME, ROWS), copies)
    assert sum(counts) == 4 * 8 + 4
    own = make("notebook")  # recipes share what they have in common: the widths of the last two stages are 24 and 32
    assert np.array_equal(own.averaged(TRANSFORMS), averaged[:, 24:56])
    assert sum(counts) == 4 * 8 + 4


def test_another_photo_size_backbone_or_library_is_computed_anew(
    make: Make, counts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().averaged(("whole",))
    for changed in (
        {"pixels": noise(9, seed=1)},
        {"size": 96, "pixels": noise(9, 96)},
        {"net": load_backbone(str(write_tiny(tmp_path / "other", 1)))},
    ):
        before = sum(counts)
        make(**changed).averaged(("whole",))
        assert sum(counts) > before
    before = sum(counts)
    monkeypatch.setattr("PIL.__version__", "1.2.3")
    make().averaged(("whole",))
    assert sum(counts) == before + 8


def doubled(plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: 2 * plain(*given)


def darker(plain: Callable[..., Pixels]) -> Callable[..., Pixels]:
    return lambda *given: plain(*given) // 2


def unpadded(plain: Callable[..., bytes]) -> Callable[..., bytes]:
    """A graph whose pooling has other edges."""

    def graph(resnet: Any) -> bytes:  # noqa: ANN401
        model = onnx.load_from_string(plain(resnet))
        (pads,) = (one for node in model.graph.node if node.op_type == "MaxPool" for one in node.attribute
                   if one.name == "pads")  # fmt: skip
        pads.ints[:] = [0, 0, 1, 1]
        data: bytes = model.SerializeToString()
        return data

    return graph


@pytest.mark.parametrize(
    ("where", "name", "change"),
    [
        (SkinResNet, "pooled", doubled),
        (Frozen, "pooled", doubled),
        (frozen_backbone, "backbone_graph", unpadded),
        (Normalise, "forward", doubled),
        (features, "transformed", doubled),
        (features, "augmented", darker),
    ],
)
def test_features_follow_every_change_of_how_they_are_made(
    where: Any,  # noqa: ANN401
    name: str,
    change: Callable[..., Any],
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def computed() -> list[Floats]:
        own = make()
        return [own.averaged(("whole", "zoomed")), own.augmented(SOME, ROWS)]

    before = computed()
    monkeypatch.setattr(where, name, change(getattr(where, name)))
    after = computed()
    assert not all(np.allclose(*pair) for pair in zip(before, after, strict=True))
    shutil.rmtree(tmp_path / "kept")
    assert all(np.array_equal(*pair) for pair in zip(after, computed(), strict=True))


def test_what_was_kept_before_an_interruption_is_there_after_it(
    make: Make, counts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make().averaged(("whole", "mirrored"))
    shutil.rmtree(tmp_path / "kept")
    counts.clear()
    monkeypatch.setattr(features, "_FILE", 1)
    plain = features._Part.add

    def stopped(self: features._Part, photos: list[str], values: Floats) -> None:
        if sum(counts) >= 8:
            raise KeyboardInterrupt
        plain(self, photos, values)

    with monkeypatch.context() as patch:
        patch.setattr(features._Part, "add", stopped)
        with pytest.raises(KeyboardInterrupt):
            make().averaged(("whole", "mirrored"))
    assert np.array_equal(make().averaged(("whole", "mirrored")), expected)
    assert sum(counts) == 8 + 8  # one view before, the other after


def content(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in KEPT}


@pytest.mark.parametrize("recipe", ["notebook", "discriminant"])
def test_a_second_run_does_not_look_at_a_photo_and_ends_the_same(
    recipe: str, runs: dict[str, Path], prepared: Prepared, tiny: Path, tmp_path: Path, folder: Path, counts: list[int]
) -> None:
    run = train_one(prepared(tmp_path / "first"), recipe, tiny)
    assert sum(counts) > 0
    counts.clear()
    again = train_one(prepared(tmp_path / "again"), recipe, tiny)
    assert counts == []
    assert content(again) == content(run) == content(runs[recipe])
    settings = config.load(recipe, RECIPES[recipe])
    kept = sorted(folder.rglob("*"))
    alone = prepared(tmp_path / "alone")
    train.train(Run(alone), settings, load_backbone(str(tiny)), device="cpu", shared=False)
    assert sum(counts) > 0  # it looked for itself
    assert sorted(folder.rglob("*")) == kept
    assert content(alone) == content(run)


@pytest.mark.parametrize("writable", [True, False])
def test_resuming_looks_at_no_photo_again(
    writable: bool,
    prepared: Prepared,
    tiny: Path,
    tmp_path: Path,
    folder: Path,
    counts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not writable:
        monkeypatch.delenv("SPECTRADERM_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        folder.parent.write_bytes(b"")
    run = train_one(prepared(tmp_path / "run", 2), "discriminant", tiny)
    assert folder.exists() == writable
    expected = (Run(run).fold("fold-2").logits).read_bytes()
    counts.clear()
    train_one(run, "discriminant", tiny, resume=True)  # all is done
    (Run(run).fold("fold-2").logits).unlink()
    train_one(run, "discriminant", tiny, resume=True)
    assert counts == []
    assert (Run(run).fold("fold-2").logits).read_bytes() == expected


def test_a_done_run_needs_neither_features_nor_photos(
    photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    run = train_one(prepare(tmp_path / "run", tmp_path / "photos"), "discriminant", tiny)
    shutil.rmtree(tmp_path / "photos")
    shutil.rmtree(run / "cache")
    monkeypatch.setattr(train.Trainer, "train", None)
    monkeypatch.setattr(train, "of_backbone", None)
    train_one(run, "discriminant", tiny, resume=True)
