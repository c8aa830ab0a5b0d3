"""`audit`: what it says, what fails a build, and the split that it writes instead of touching a photo."""

import shutil
from pathlib import Path

import pytest
from conftest import contents, encode, write_photos
from console import call
from PIL import Image, ImageOps

from spectraderm.core.files import read_csv
from spectraderm.core.run import AUDIT, LOGIT_COLUMNS, LOGITS, SPLIT
from spectraderm.data import findings
from spectraderm.data.beside import SEVERITIES
from spectraderm.data.split import EXCLUDED


@pytest.fixture
def leaking(photos: Path, tmp_path: Path) -> Path:
    """Three classes in given folders; one test photo of `b` is a mirrored copy of a training photo."""
    root = Path(shutil.copytree(photos, tmp_path / "leaking"))
    mirrored = ImageOps.mirror(Image.open(root / "train/b/00.jpg"))
    (root / "test/b/copy.jpg").write_bytes(encode(mirrored, quality=80))
    return root


def test_a_finding_that_was_named_or_is_as_bad_fails(leaking: Path, tmp_path: Path) -> None:
    for fail_on, code in {"unreadable, leakage": 3, "low": 3, "leakage_by_crop,label_conflict": 0, "": 0}.items():
        done = call("audit", leaking, "--out", tmp_path / "run", "--no-crops", "--fail-on", fail_on)
        assert (done.code, done.out) == (code, "")
        last = done.err.splitlines()[-1]
        assert (last.startswith("failed: ") and "leakage" in last) == (code == 3)
        assert "LEAK  1 of 10 test photos" in done.err
    assert f"Next    spectraderm split {tmp_path / 'run'}" in done.err
    assert (tmp_path / "run" / AUDIT).is_file()  # what fails a build is there to be looked at
    assert not (tmp_path / "run" / SPLIT).exists()


def test_an_unknown_finding_is_2_and_the_known_ones_are_named(leaking: Path, tmp_path: Path) -> None:
    done = call("audit", leaking, "--out", tmp_path / "run", "--no-crops", "--fail-on", "leakage,leeks")
    assert (done.code, done.out) == (2, "")
    assert "no finding 'leeks'" in done.err
    assert all(name in done.err for name in (*SEVERITIES, *findings.KNOWN))
    assert not (tmp_path / "run").exists()  # told before every photo was read


def test_fix_writes_a_split_without_the_copies_that_train_accepts(leaking: Path, tiny: Path, tmp_path: Path) -> None:
    run, before = tmp_path / "run", contents(leaking)
    done = call("audit", leaking, "--out", run, "--no-crops", "--fix", "--fail-on", "leakage")
    assert done.code == 3  # the photos still leak, and the split is written all the same
    assert f"Next    spectraderm train {run}" in done.err
    assert contents(leaking) == before
    lines = read_csv(run / SPLIT, ("protocol", "path", "split"), "")
    assert {line["protocol"] for line in lines} == {"deduplicated"}
    sides = {line["path"]: line["split"] for line in lines}
    assert (sides["train/b/00.jpg"], sides["test/b/copy.jpg"]) == (EXCLUDED, "test")
    assert list(sides.values()).count(EXCLUDED) == 1
    trained = call("train", run, "--backbone", tiny, "--epochs", 1, "--device", "cpu")
    assert (trained.code, trained.out) == (0, ""), trained.err
    held = read_csv(run / "folds/final" / LOGITS, LOGIT_COLUMNS, "")
    assert {line["path"]: line["split"] for line in held} == sides


def test_crops_are_found_unless_they_are_not_looked_for(tmp_path: Path) -> None:
    root = tmp_path / "p"
    write_photos(root, {"train/a": 1, "train/b": 1, "test/a": 1})
    scene = Image.effect_mandelbrot((640, 480), (-2.2, -1.2, 0.8, 1.2), 60).convert("RGB")
    noise = Image.effect_noise((640, 480), 60).convert("RGB")
    whole = Image.blend(scene, noise, 0.3)
    (root / "train/a/whole.jpg").write_bytes(encode(whole, quality=90))
    (root / "test/a/crop.jpg").write_bytes(encode(whole.crop((120, 90, 520, 390)), quality=90))
    shown = {
        option: call("audit", root, "--out", tmp_path / option, option, "--fail-on", "leakage_by_crop")
        for option in ("--crops", "--no-crops")
    }
    assert shown["--crops"].code == 3
    assert "1 more are crops or slight turns of training photos" in shown["--crops"].err
    assert shown["--no-crops"].code == 0
    assert "LEAK" not in shown["--no-crops"].err
