"""A small random network in Hub layout, quick recipes, and run folders that are trained and exported by them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageClassification, ResNetConfig, ResNetModel

from spectraderm import pipeline
from spectraderm.core import Protocol
from spectraderm.core.files import sha256
from spectraderm.core.run import Run
from spectraderm.data.audit import audit
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference.engine import Engine
from spectraderm.training import export, train
from spectraderm.training import recipe as config
from spectraderm.training.backbones import load_backbone
from spectraderm.training.dataset import Floats, in_batches
from spectraderm.training.network import Normalise
from spectraderm.training.onnx_graph import Deployable, to_onnx
from spectraderm.training.options import Options
from spectraderm.training.pooling import SkinNetwork

RECIPES: dict[str, dict[str, Any]] = {
    "notebook": {"image_size": 64, "epochs": 20, "batch_size": 8, "learning_rate": 0.02},
    "discriminant": {"image_size": 64},
    "finetune": {
        "image_size": 64,
        "train_size": 48,
        "head_epochs": 4,
        "epochs": 5,
        "batch_size": 8,
        "learning_rate": 0.05,
        "augment": 0.3,
    },
}
"""Changes that make the shipped recipes quick; an epoch has three steps on `photos` as given."""


def write_tiny(folder: Path, seed: int = 0, pool_padding: str = "both") -> Path:
    """A small random ResNet in Hub layout, with norms that have seen some noise."""
    random = np.random.default_rng(seed)  # whose numbers are the same in all versions
    widths, depths = [8, 16, 24, 32], [1, 1, 1, 1]
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=widths, depths=depths, layer_type="bottleneck"))
    for kernel in (weights for weights in model.parameters() if weights.ndim == 4):
        deviation = (2 / (kernel.shape[0] * kernel[0, 0].numel())) ** 0.5
        kernel.data = torch.from_numpy(random.normal(0, deviation, kernel.shape).astype(np.float32))
    for _ in range(20):
        model(torch.from_numpy(random.normal(size=(16, 3, 64, 64)).astype(np.float32)))
    model.config.pool_padding = pool_padding
    model.save_pretrained(folder)
    colours = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


@contextmanager
def small_inputs(size: int = 112) -> Iterator[None]:
    """Shipped recipes read smaller photos in it, which takes a quarter of the time."""
    load = config.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "load", lambda name, changes=None: load(name, {"image_size": size, **(changes or {})}))
        yield


@contextmanager
def traced_once() -> Iterator[None]:
    """What torch gives for a network that it wrote before, but for its linear head, is what it gave then."""
    write, written = torch.onnx.export, dict[str, bytes]()

    @wraps(write)
    def export(module: torch.nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> Any:  # noqa: ANN401
        if not isinstance(module, Deployable):
            return write(module, inputs, **options)
        network = module.network
        head = set(network.linear_head.parameters()) if network.linear_head is not None else set()
        weights = [*network.named_parameters(), *network.named_buffers()]
        content = {name: sha256(value.detach().numpy().tobytes()) for name, value in weights if value not in head}
        facts = {k: v for k, v in network.config.to_dict().items() if k not in ("id2label", "label2id")}
        key = repr((type(network), inputs[0].shape, sorted(content.items()), facts))
        if key not in written:
            program: Any = write(module, inputs, **options)
            written[key] = program.model_proto.SerializeToString()
        return SimpleNamespace(model_proto=onnx.load_from_string(written[key]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", export)
        yield


def prepare(run: Path, photos: Path, folds: int = 1, seed: int = 0) -> Path:
    """A run folder that can be trained in; more folds than one are cut by photo."""
    audit(photos, Run(run))
    pipeline.split(run, "original" if folds == 1 else "grouped", folds, seed)
    return run


def train_one(
    run: Path,
    recipe: str,
    backbone: Path,
    changes: dict[str, Any] | None = None,
    resume: bool = False,
    log: str | None = None,
) -> Path:
    """Train a prepared run folder on the CPU, by one of `RECIPES` with further changes."""
    settings = config.load(recipe, RECIPES[recipe] | (changes or {}))
    train.train(Run(run), settings, load_backbone(str(backbone)), resume, "cpu", log)
    return run


@dataclass(frozen=True)
class Exported:
    """An evaluated run folder, its model folder, and the network: as torch has it, and as ONNX in 32 bits."""

    run: Path
    folder: Path
    graph: bytes
    network: SkinNetwork
    preprocessing: Preprocessing

    @property
    def normalise(self) -> Normalise:
        """What brings pixels to torch's network."""
        return Normalise(self.preprocessing)

    def engine(self, graph: bytes = b"") -> Engine:
        """Its graph, or another one that reads the same photos, loaded."""
        return Engine(graph or self.graph, self.preprocessing)

    def logits(self, pixels: Pixels) -> Floats:
        """What torch says of some pixels."""
        return in_batches(pixels, lambda batch: self.network.classifier(self.network.features(self.normalise(batch))))


def quick(backbone: Path, protocol: Protocol, folds: int = 0, recipe: str = "notebook", **more: Any) -> Options:  # noqa: ANN401
    """How a whole run is made on the CPU by one of `RECIPES`; crops are not looked for. `more` is what differs."""
    usual: dict[str, Any] = {"device": "cpu", "crops": False, "changes": RECIPES[recipe]}
    return Options(recipe, str(backbone), protocol, folds, **usual | more)


def export_one(trained: Path, run: Path, backbone: Path) -> Exported:
    """Copy a trained run folder to `run`, calibrate, evaluate and export it."""
    shutil.copytree(trained, run)
    pipeline.calibrate(run)
    pipeline.evaluate(run)
    network, preprocessing = train.restore(Run(run), load_backbone(str(backbone)))
    graph = to_onnx(network, preprocessing.size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "to_onnx", lambda *_: graph)  # which takes seconds
        pipeline.export(run)
    return Exported(run, run / "model", graph, network, preprocessing)


def noise(count: int, size: int = 64, seed: int = 0) -> Pixels:
    """Pixels of `count` photos of nothing."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def photos_of(pixels: Pixels) -> Tensor:
    """Pixels as a network reads them."""
    photos: Tensor = Normalise(Preprocessing(pixels.shape[1]))(torch.from_numpy(pixels))
    return photos


def agree(engine: Engine, network: SkinNetwork, photos: Tensor, pixels: Pixels, atol: float = 1e-4) -> None:
    """Logits, features and maps of a graph are torch's; `photos` are the pixels, normalised."""
    with torch.inference_mode():
        features = network.features(photos)
        expected = network.classifier(features), features, network.evidence(network.feature_maps(photos))
    answer = engine(pixels)
    for ours, theirs in zip((answer.logits, answer.features, answer.maps), expected, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-3)


def hub_logits(folder: Path, photos: Tensor) -> Tensor:
    """What transformers says of normalised photos, with the folder's own code if it has some."""
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        logits: Tensor = model(photos).logits
    return logits
