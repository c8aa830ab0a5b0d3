from pathlib import Path
from typing import Any

import pytest

from spectraderm.core.errors import RecipeError
from spectraderm.training import recipe as config

VALID = 'learning_rate = 1e-3\nepochs = 2\nhead = "linear"\n'


def test_the_mission_recipe_is_the_missions() -> None:
    recipe = config.load("notebook")
    expected: dict[str, Any] = {
        "name": "notebook",
        "head": "mlp",
        "train_backbone": False,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0,
        "schedule": "constant",
        "warmup_epochs": 0,
        "epochs": 12,
        "batch_size": 32,
        "label_smoothing": 0,
        "weighting": "file",
        "augment": 0,
        "keep": "last",
        "patience": 0,
        "image_size": 224,
        "resize": "squash",
    }
    assert {name: getattr(recipe, name) for name in expected} == expected


def test_the_shipped_recipes_are_listed() -> None:
    assert {"discriminant", "finetune", "notebook"} <= set(config.names())
    for name in config.names():
        assert config.load(name).name == name


def test_a_file_is_a_recipe_named_like_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(VALID)
    recipe = config.load(str(tmp_path / "mine.toml"))
    assert (recipe.name, recipe.epochs, recipe.batch_size) == ("mine", 2, 32)
    changed = config.load(str(tmp_path / "mine.toml"), {"epochs": 3, "keep": "last"})
    assert changed == recipe.model_copy(update={"epochs": 3, "keep": "last"})


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"learning_rat": 1e-3}, "learning_rat"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": "many"}, "epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"augment": 1.5}, "augment"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"head": "transformer"}, "head"),
        ({"keep": "worst"}, "keep"),
        ({"image_size": 16}, "image_size"),
        ({"patience": -1}, "patience"),
        ({"shrinkage": 0}, "shrinkage"),
        ({"shrinkage": 1}, "shrinkage"),
        ({"pooling": "max"}, "pooling"),
        ({"test_transforms": []}, "test_transforms"),
        ({"test_transforms": ["whole", "turned"]}, "test_transforms.1"),
        ({"frozen_stages": 5}, "frozen_stages"),
        ({"clip_norm": -1}, "clip_norm"),
        ({"averaging": 1}, "averaging"),
        ({"accumulate": 0}, "accumulate"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(RecipeError) as caught:
        config.load("notebook", changes)
    assert f" {wrong}: " in caught.value.problem
    assert "notebook" in caught.value.problem
    assert "learning_rate" in caught.value.remedy


def test_a_setting_that_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 2\n")
    with pytest.raises(RecipeError, match=r"learning_rate: Field required"):
        config.load(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("content", [b"epochs = = 2", b"\xff\xfe\x00", b'epochs = "'])
def test_what_is_not_toml_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"broken\.toml is not TOML"):
        config.load(str(path))


def test_a_missing_recipe_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    for name in ("missions", str(tmp_path / "none.toml"), str(tmp_path)):
        with pytest.raises(RecipeError) as caught:
            config.load(name)
        assert name in caught.value.problem
        assert "discriminant, finetune, notebook" in caught.value.remedy
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match=r"folder\.toml can't be read"):
        config.load(str(tmp_path / "folder.toml"))


def test_the_head_is_trained_first_for_its_own_number_of_epochs() -> None:
    recipe = config.load("finetune", {"head_epochs": 7, "epochs": 3})
    first = recipe.head_first()
    assert (first.epochs, first.schedule, first.warmup_epochs) == (7, "constant", 0)
    assert (first.batch_size, first.weighting, first.keep) == (recipe.batch_size, recipe.weighting, recipe.keep)
