"""Recipes: how a model is trained, as a small TOML file with a known set of settings."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spectraderm.core.errors import RecipeError
from spectraderm.images.preprocessing import Preprocessing, Resize
from spectraderm.training.photo_augmentation import Transform

_FOLDER = resources.files("spectraderm.training") / "recipes"


class Recipe(BaseModel):
    """All settings of a training. Learning rates are per step of the optimizer; lengths are in epochs.

    Attributes:
        head: `linear`, or `mlp` = Dense 512 ReLU, Dense n, by gradient descent; `discriminant` is a linear one that is
            fitted in closed form (LDA) on augmented photos, after the layers below were trained.
        shrinkage: of the `discriminant` head's covariance, 0..1.
        invariance: how many times the differences between one photo's augmented versions count in that covariance.
        normalisation: 0..1, the power of their length that each class's weights are divided by (Kang et al. 2020): 0 is
            the discriminant itself, with 1 only the angle between a photo and a class counts.
        pooling: what a head sees: global `mean`s of the last stage's maps, or `statistics`, means and standard
            deviations of the maps of the last two stages.
        test_transforms: the network's features are averages over these transforms of a photo.
        train_backbone: train all layers; else the backbone is frozen and its features are computed once.
        head_epochs: with `train_backbone`, epochs of training the head on frozen features first
            (linear probing, then fine-tuning: Kumar et al. 2022).
        frozen_stages: how many of the backbone's parts stay as they are, from the input on: 1 is the stem, 2 the stem
            and the first stage.
        optimizer: `sgd` has Nesterov momentum 0.9.
        learning_rate, backbone_learning_rate: peak values for the head and for the layers below it.
        schedule: after `warmup_epochs` of linear growth, stay `constant` or fall as a `cosine` to zero.
        clip_norm: the longest gradient; longer ones are shortened to it; 0 lets all pass.
        averaging: of weights, the share of the old average that a step keeps (Polyak & Juditsky 1992, exponential);
            0 keeps the last weights.
        weighting: `file` shows every file once an epoch; `photo` one file of every photo group.
        augment: how strongly training photos are changed, 0 (not at all) to 1.
        keep: the checkpoint of the `last` epoch, or of the `best` by validation balanced accuracy.
        train_size: side in pixels of augmented training photos; 0 is `image_size`. A smaller one is quicker, and
            matches random crops, which enlarge, to whole photos (Touvron et al. 2019, FixRes).
        patience: stop after so many epochs without a better one; 0 never stops early.
        accumulate: with `train_backbone`, the parts in which a batch goes through the layers, to need less memory; the
            gradient stays that of the whole batch.
        precision: with `train_backbone`, in what the layers compute: `auto` is bf16 on a GPU that has it, else fp32;
            weights, averages and validation are always in fp32, and so is the loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    head: Literal["linear", "mlp", "discriminant"] = "linear"
    shrinkage: float = Field(0.2, gt=0, lt=1)
    invariance: float = Field(1.0, ge=0)
    normalisation: float = Field(0.0, ge=0, le=1)
    pooling: Literal["mean", "statistics"] = "mean"
    test_transforms: tuple[Transform, ...] = Field(("whole",), min_length=1)
    train_backbone: bool = False
    head_epochs: int = Field(0, ge=0)
    frozen_stages: int = Field(0, ge=0, le=4)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(gt=0)
    backbone_learning_rate: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = Field(0.0, ge=0)
    clip_norm: float = Field(0.0, ge=0)
    averaging: float = Field(0.0, ge=0, lt=1)
    epochs: int = Field(gt=0)
    batch_size: int = Field(32, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    weighting: Literal["file", "photo"] = "file"
    augment: float = Field(0.0, ge=0, le=1)
    keep: Literal["last", "best"] = "best"
    patience: int = Field(0, ge=0)
    accumulate: int = Field(1, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    image_size: int = Field(224, ge=32, le=1024)
    train_size: int = Field(0, ge=0, le=1024)
    resize: Resize = "squash"

    def preprocessing(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Preprocessing:
        """Its sizes with a backbone's colour statistics."""
        return Preprocessing(size=self.image_size, resize=self.resize, mean=mean, std=std)

    def head_first(self) -> "Recipe":
        """The recipe by which the head alone is trained before all layers are."""
        changes = {"epochs": self.head_epochs, "optimizer": "adamw", "schedule": "constant", "warmup_epochs": 0.0}
        return self.model_copy(update=changes)


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


def load(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Load a recipe by its name or from a TOML file, with some settings changed.

    Raises:
        RecipeError: no such recipe or file, not TOML, or a setting that is unknown or out of range.
    """
    path, remedy = Path(name), f"Give a .toml file or one of: {', '.join(names())}"
    if path.suffix != ".toml" and name not in names():
        raise RecipeError(f"there is no recipe {name!r}", remedy)
    try:
        text = (path if path.suffix == ".toml" else _FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        return Recipe.model_validate({"name": path.stem, **tomllib.loads(text), **(changes or {})})
    except OSError as error:
        raise RecipeError(f"{name} can't be read ({error.strerror})", remedy) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{name} is not TOML: {error}", remedy) from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"recipe {name}: {wrong}", f"Known settings: {', '.join(Recipe.model_fields)}") from error
