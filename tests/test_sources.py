"""Several sources from folders to report: trained together, left out in turn, evaluated on."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import encode, paint, write_tinted
from console import call
from tinynet import quick

from spectraderm import pipeline
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import CARD, EXTERNAL, MODEL, REPORT, Run
from spectraderm.evaluation.calibrate_external import HEADING
from spectraderm.inference.classifier import load_model


def clinics(root: Path) -> list[Path]:
    """Three folders that lie apart; class `c` is in the last one only, which has split folders, too."""
    counts = {"x/clinic/a": 8, "x/clinic/b": 8, "y/study/a": 8, "y/study/b": 8}
    counts |= {f"web/{split}/{label}": n for split, n in (("train", 6), ("test", 3)) for label in ("a", "b", "c")}
    write_tinted(root, counts)
    return [root / "x/clinic", root / "web", root / "y/study"]


@pytest.mark.usefixtures("quick_report")
def test_run_on_several_folders_leaves_each_source_out(tiny: Path, tmp_path: Path) -> None:
    folders, out = clinics(tmp_path), tmp_path / "run"
    settings = quick(tiny, "by-source", recipe="discriminant")
    evaluation, run = pipeline.run(folders, out, settings), Run(out)
    counts = {name: own["n_photos"] for name, own in evaluation["by_source"].items()}
    assert [*counts.items()] == [("clinic", 16), ("study", 16), ("web", 18)]
    assert evaluation["mean_over_sources"]["accuracy"]["value"] > 0.8
    assert evaluation["worst_source"] in evaluation["by_source"]
    assert [entry["fold"] for entry in run.config["folds"]] == ["final", "fold-1", "fold-2", "fold-3"]
    # without the web there is no photo of `c` to learn from: it is not guessed there, nor asked about
    web = run.logits("fold-3")
    assert {label for label, split in zip(web.labels, web.splits, strict=True) if split == "excluded"} == {"c"}
    assert 2 not in web.values.argmax(1)
    final = run.logits("final")
    assert (final.values.argmax(1) == 2).sum() == 9
    # the sources that were left out in turn are elsewhere, to the model that learned from all of them, too
    elsewhere = run.calibration["elsewhere"]
    assert (elsewhere["fitted_on"], elsewhere["places"]) == ("left_out_sources", 3)
    assert {one["name"] for one in elsewhere["sources"]} == set(evaluation["by_source"])
    opened = load_model(out / MODEL)
    assert opened.folder.facts["calibration"] == run.calibration
    assert HEADING in opened.folder.card
    assert opened.predict(paint(900, (320, 320))).calibrated_on == "elsewhere"
    for name in (REPORT, CARD):
        assert all(source in run.path(name).read_text() for source in evaluation["by_source"])
    # the same folders in any order go on; others don't
    going_on = replace(settings, resume=True)
    assert pipeline.run(folders[::-1], out, going_on) == evaluation
    with pytest.raises(RunFolderError, match="other photos"):
        pipeline.run(folders[:2], out, going_on)
    # elsewhere: two folders that it did not learn from, and a copy of one that it did
    new = tmp_path / "new"
    for number, folder in enumerate(f"{source}/{label}" for source in ("far", "near") for label in "abc"):
        (new / folder).mkdir(parents=True)
        for place in range(3):  # large enough for the quality gate
            (new / folder / f"{place}.png").write_bytes(encode(paint(500 + 3 * number + place, (320, 320)), "PNG"))
    shutil.copy(folders[0] / "a/00.jpg", new / "far/a/known.jpg")
    done = call("evaluate", out / MODEL, new / "near", new / "far")
    assert (done.code, done.out) == (0, "")
    lines = [line.split() for line in done.err.splitlines()]
    assert [line[0] for line in lines if line[:1] in (["far"], ["near"])] == ["far", "near"]
    assert re.search(r"mean of\s", done.err)  # a narrow terminal wraps it
    assert "The worst source is" in done.err
    assert sorted(path.stem for path in run.path(EXTERNAL).iterdir()) == ["far", "near"]
    done = call("evaluate", out)
    assert "By source; in %" in done.err
    assert "every source" in done.err


def test_reproduce_finds_the_sources_where_they_are_now(tiny: Path, tmp_path: Path) -> None:
    folders, out = clinics(tmp_path)[::2], tmp_path / "run"
    settings = quick(tiny, "by-source", recipe="discriminant")
    pipeline.run(folders, out, settings)
    (tmp_path / "moved").mkdir()
    for folder in folders:
        folder.rename(tmp_path / "moved" / folder.name)
    done = call("reproduce", out, "--photos", tmp_path / "moved")
    assert done.code == 0, done.err
    assert "came out the same" in done.err
