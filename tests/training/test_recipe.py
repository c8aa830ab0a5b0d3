from pathlib import Path
from typing import Any

import pytest

from spectraderm.core.errors import RecipeError
from spectraderm.training import recipe as config

VALID = 'learning_rate = 1e-3\nepochs = 2\nhead = "linear"\n'


def test_the_notebooks_recipe_is_the_notebooks() -> None:
    expected: dict[str, Any] = {"name": "notebook", "head": "mlp", "optimizer": "adam", "learning_rate": 1e-3}
    expected |= {"train_backbone": False, "epochs": 12, "batch_size": 32, "schedule": "constant"}
    expected |= {"keep": "last", "weighting": "file", "resize": "squash", "image_size": 224}
    expected |= dict.fromkeys(("weight_decay", "warmup_epochs", "label_smoothing", "augment", "patience"), 0)
    assert expected.items() <= config.load("notebook").model_dump().items()


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


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"epochs = = 2", r"broken\.toml is not TOML"),
        (b"\xff\xfe\x00", r"broken\.toml is not TOML"),
        (b"epochs = 2", "broken.toml: learning_rate: Field required"),
    ],
)
def test_what_is_not_toml_or_whole_is_refused_by_name(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=problem):
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
