import json
import shutil
from pathlib import Path

import pytest
from conftest import contents
from console import call

from spectraderm import pipeline
from spectraderm.cli.reproduce import differences, reproduce, reproduce_notebook
from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.files import write_json
from spectraderm.core.run import CALIBRATION, CONFIG, EVALUATION, EXTERNAL, MANIFEST, MEASUREMENTS, SPLIT, Run
from spectraderm.core.stages import CHECKSUMS
from spectraderm.data import manifest
from spectraderm.evaluation.fitting import Settings


@pytest.fixture(scope="module")
def published(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run folder that asked for other sets than usual, beside what was found on other photos."""
    run = tmp_path_factory.mktemp("published") / "run"
    shutil.copytree(runs["notebook"], run)
    pipeline.calibrate(run, Settings(coverage=0.8, set_method="raps"))
    scores = pipeline.score(run)["splits"]["test"]
    outside = {"name": "other", "scores": scores, "in_training": 0}
    write_json(run / EXTERNAL / "other.json", outside)
    pipeline.score(run)
    return run


def test_a_run_is_reproduced_from_where_its_photos_are_now_and_left_alone(
    published: Path, photos: Path, tmp_path: Path
) -> None:
    before = contents(published)
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    done = call("reproduce", published, "--photos", moved)
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[-1] == "Every published number came out the same"
    assert contents(published) == before
    last = sorted(moved.rglob("*.jpg"))[-1]
    last.write_bytes(last.read_bytes() + b"\0")
    with pytest.raises(DatasetError, match=last.name):
        reproduce(published, moved)
    with pytest.raises(DatasetError, match="Give the folder that was audited"):
        reproduce(published, tmp_path)


def test_a_number_that_was_edited_is_named(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "run")
    path = tmp_path / "run" / EVALUATION
    content = json.loads(path.read_text())
    was = content["splits"]["test"]["accuracy"]["value"]
    content["splits"]["test"]["accuracy"]["value"] = 0.999
    content["protocols"][0]["words"] = "Believe it."
    write_json(path, content)
    done = call("reproduce", tmp_path / "run")
    assert (done.code, done.out) == (3, "")
    *_, one, other, total = done.err.splitlines()
    assert one == f"splits.test.accuracy.value: 0.999 then, {was} now"
    assert other.startswith("protocols[0].words: Believe it. then")
    assert total == "2 values differ"


@pytest.mark.parametrize("gone", [EVALUATION, CALIBRATION, SPLIT, MEASUREMENTS])
def test_a_run_that_is_not_whole_says_what_lacks(gone: str, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "run")
    (tmp_path / "run" / gone).unlink()
    with pytest.raises(RunFolderError, match=gone):
        reproduce(tmp_path / "run")


def test_another_version_of_the_backbone_is_refused(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "run")
    path = tmp_path / "run" / CONFIG
    write_json(path, json.loads(path.read_text()) | {"backbone": "tiny-resnet@older"})
    (tmp_path / "run" / CHECKSUMS).unlink()  # or it would not be the run's
    with pytest.raises(RunFolderError, match="was tiny-resnet@older"):
        reproduce(tmp_path / "run")


def test_differences_are_named_by_where_they_are() -> None:
    before = {"a": [1.0, {"b": 2}], "same": None, "gone": 1, "list": [1, 2], "flag": True}
    after = {"a": [1.0 + 1e-12, {"b": 3}], "same": None, "new": 4, "list": [1], "flag": False}
    assert differences(before, after) == [
        "a[1].b: 2 then, 3 now",
        "gone: 1 then, None now",
        "list: [1, 2] then, [1] now",
        "flag: True then, False now",
        "new: None then, 4 now",
    ]
    assert differences(before, before) == []
    assert differences({"a": None}, {"a": 0.0}) == ["a: None then, 0.0 now"]


def test_the_notebook_is_drawn_from_many_seeds_beside_its_own_numbers(photos: Path, tiny: Path, tmp_path: Path) -> None:
    found = reproduce_notebook(photos, 2, str(tiny), tmp_path / "run", seed=3)
    run = Run(tmp_path / "run")
    for split, published in {"train": 1.0, "val": 0.9626, "test": 221 / 234}.items():
        values = []
        for fold in ("final", "draw-2"):
            logits = run.logits(fold)
            own = logits.splits == split
            values.append(float((logits.values.argmax(1) == logits.targets)[own].mean()))
        own = found[split]
        assert own["values"] == pytest.approx(values)
        assert (own["mean"], own["low"], own["high"]) == pytest.approx((sum(values) / 2, min(values), max(values)))
        assert (own["seeds"], own["published"]) == ([3, 4], published)
        assert own["as_high"] == sum(value >= published - 5e-5 for value in values)
    assert {row.label for row in manifest.read(run.path(MANIFEST))} == {"A- a", "b", "c"}
    with pytest.raises(RunFolderError, match="trained in before"):
        reproduce_notebook(photos, 2, str(tiny), tmp_path / "run")
    done = call("reproduce", "notebook", photos, "--seeds", 2, "--seed", 3, "--backbone", tiny)
    assert (done.code, done.out) == (0, "")
    row = next(line.split() for line in done.err.splitlines() if line.startswith("validation"))
    drawn = [f"{100 * found['val'][key]:.2f}" for key in ("mean", "low", "high")]
    assert row[1:5] == ["96.26", *drawn]
    assert call("reproduce", tmp_path / "run", photos).code == 2
