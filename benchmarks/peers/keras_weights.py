"""The notebook's model in Keras, with weights from a folder that `benchmarks/resnet50.py` wrote.

Keras would download its weights; these are written into its layers one by one. Keras' network reads blue first.
"""

# Keras is no dependency of this project: to its type checker everything here is Any
# ruff: noqa: ANN401
from pathlib import Path
from typing import Any

import keras  # type: ignore[import-not-found]
import numpy as np
from keras.applications.resnet50 import ResNet50  # type: ignore[import-not-found]
from safetensors.numpy import load_file

SIDE, HIDDEN, DEPTHS = 224, 512, (3, 4, 6, 3)


def build(weights: Path, classes: int) -> Any:
    """A frozen ResNet-50, `GlobalAveragePooling2D`, `Dense(512, "relu")`, `Dense(classes, "softmax")`, Adam."""
    base = backbone(weights)
    base.trainable = False
    head = keras.layers.GlobalAveragePooling2D()(base.output)
    head = keras.layers.Dense(HIDDEN, activation="relu")(head)
    model = keras.Model(base.input, keras.layers.Dense(classes, activation="softmax")(head))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def backbone(weights: Path, pooling: str | None = None) -> Any:
    """Keras' ResNet-50 without its top."""
    base = ResNet50(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling=pooling)
    tensors: dict[str, Any] = load_file(weights / "model.safetensors")
    for name, source in layers():
        kernel = tensors[f"{source}.convolution.weight"].transpose(2, 3, 1, 0)
        kernel = kernel[:, :, ::-1] if name == "conv1" else kernel
        base.get_layer(f"{name}_conv").set_weights([kernel, np.zeros(kernel.shape[3], np.float32)])
        parts = ("weight", "bias", "running_mean", "running_var")
        base.get_layer(f"{name}_bn").set_weights([tensors[f"{source}.normalization.{part}"] for part in parts])
    return base


def layers() -> list[tuple[str, str]]:
    """What Keras calls every convolution, and what transformers calls it."""
    names = [("conv1", "embedder.embedder")]
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            name, source = f"conv{stage + 2}_block{block + 1}", f"encoder.stages.{stage}.layers.{block}"
            names += [(f"{name}_0", f"{source}.shortcut")] if block == 0 else []
            names += [(f"{name}_{layer + 1}", f"{source}.layer.{layer}") for layer in range(3)]
    return names
