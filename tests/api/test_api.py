"""The public names: as lazy as they are complete, each what its command calls, with its names and defaults."""

import inspect
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
from console import COMMANDS

import spectraderm as sd
from spectraderm.api.runs import default_run_folder
from spectraderm.core.errors import RunFolderError

NAMES = ("adapt", "audit", "calibrate", "compare", "evaluate", "export", "import_", "run", "split", "train")
OF_THE_TERMINAL = {"fail_on", "as_json", "targets"}
"""Exit codes and printing; and `evaluate` takes runs, or a model and photos, as two arguments."""


@pytest.mark.parametrize("name", NAMES)
def test_a_function_has_the_names_and_defaults_of_its_command(name: str) -> None:
    command = {
        key: one.default for key, one in inspect.signature(COMMANDS[name.rstrip("_")].callback).parameters.items()
    }
    function = {key: one.default for key, one in inspect.signature(getattr(sd, name)).parameters.items()}
    wanted = {key: default for key, default in command.items() if key not in OF_THE_TERMINAL}
    assert {key: function.get(key, "lacks") for key in wanted} == wanted
    assert function.keys() - wanted.keys() <= {"track", "target", "photos"}


def test_the_names_are_told_and_imported_when_they_are_used() -> None:
    assert {*NAMES, "Run", "load_model", "__version__"} <= {*dir(sd)} == {*sd.__all__}
    code = "import sys, spectraderm as sd; dir(sd); assert not {'numpy', 'rich'} & {*sys.modules}; "
    code += "sd.run, sd.Run, sd.adapt, sd.evaluate, sd.load_model; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(sd, name) for name in sd.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'predicted'"):
        _ = sd.predicted


@pytest.fixture(scope="module")
def made(photos: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> sd.Run:
    root = tmp_path_factory.mktemp("api")
    recipe = root / "small.toml"
    recipe.write_text('head = "discriminant"\nepochs = 1\nlearning_rate = 1e-3\nimage_size = 64\n')
    return sd.run(str(photos), str(root / "run"), recipe=recipe, backbone=tiny, split="original", crops=False)


def test_a_run_is_what_photos_become(made: sd.Run) -> None:
    assert made.evaluation == sd.Run(str(made.folder)).evaluation
    assert {*made.figures} == {"confusion_matrix", "reliability", "risk_coverage", "roc", "learning_curve"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made.figures.values())
    score = 100 * made.evaluation["splits"]["test"]["accuracy"]["value"]
    assert f"{score:.1f} % of 9 test photos right" in repr(made)
    assert made._repr_html_().count("data:image/png") == 2
    assert repr(sd.Run("nowhere")) == "Run('nowhere'): not evaluated yet"


def test_the_manifest_is_a_data_frame_where_pandas_is(made: sd.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    assert made.manifest == made.rows
    monkeypatch.undo()
    pytest.importorskip("pandas")
    frame = made.manifest
    assert list(frame["path"]) == [row["path"] for row in made.rows]
    assert (frame["width"].dtype.kind, frame["bytes"].sum()) == ("i", sum(int(row["bytes"]) for row in made.rows))


def test_the_stages_one_by_one_make_the_same_run(made: sd.Run, photos: Path, tiny: Path, tmp_path: Path) -> None:
    recipe = made.folder.parent / "small.toml"
    run = sd.audit([photos], tmp_path / "run", crops=False)
    with pytest.raises(RunFolderError, match="spectraderm split"):
        sd.train(run, recipe=recipe, backbone=str(tiny))
    assert sd.train(sd.split(run, "original"), recipe=recipe, backbone=str(tiny)).folder == run.folder
    assert sd.calibrate(run)["home"] == made.calibration["home"]
    both = sd.evaluate([run, str(made.folder)])
    assert both[0]["splits"] == both[1]["splits"] == sd.evaluate(run)["splits"]
    assert sd.compare(run, made)["group_accuracy"]["difference"] == 0
    assert sd.export(run, tmp_path / "model")["parity"]
    assert sd.load_model(tmp_path / "model").labels == sd.load_model(made.folder / "model").labels


def test_a_model_is_evaluated_on_photos_and_runs_are_not(made: sd.Run, photos: Path) -> None:
    model = str(made.folder / "model")
    result = sd.evaluate(model, [photos / "train", photos / "test"])
    assert {*result["by_source"]} == {"train", "test"}
    assert sd.evaluate(model, photos / "test")["in_training"] == result["by_source"]["test"]["in_training"]
    with pytest.raises(sd.SpectraDermError, match="on folders of photos"):
        sd.evaluate(model)
    with pytest.raises(sd.SpectraDermError, match="go with MODEL PHOTOS"):
        sd.evaluate(made, photos)


def test_calibrating_elsewhere_takes_a_model_or_a_run(made: sd.Run, photos: Path, tmp_path: Path) -> None:
    model = made.folder / "model"
    with pytest.raises(sd.SpectraDermError, match="Add --external"):
        sd.calibrate(model, photos)
    with pytest.raises(sd.SpectraDermError, match="needs photos"):
        sd.calibrate(made, external=True)
    with pytest.raises(sd.SpectraDermError, match="Leave their options out"):
        sd.calibrate(made, photos, external=True, coverage=0.8)
    found = sd.calibrate(model, [f"there={photos / 'test'}"], external=True, out=tmp_path / "model")
    assert [source["name"] for source in found["elsewhere"]["sources"]] == ["there"]
    assert sd.load_model(found["model"], calibration="elsewhere").calibrations.elsewhere


def test_by_default_a_run_is_named_for_its_photos(here: Path) -> None:
    assert default_run_folder(["a", here / "b"], "my/recipe.toml", "original") == Path("runs/a-b-recipe-original")
