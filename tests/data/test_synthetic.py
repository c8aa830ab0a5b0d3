"""What the demo paints: an audit finds every flaw that was planted, and no other."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spectraderm.core.errors import DatasetError
from spectraderm.core.run import Run
from spectraderm.data import synthetic
from spectraderm.data.audit import Audit, audit, leaked_test_photos
from spectraderm.data.synthetic import Planted, paint, paint_nonsense, paint_photo


def _digests(root: Path, seed: int) -> dict[str, str]:
    paint(root, seed, per_class=4)
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "photos"


@pytest.fixture(scope="module")
def planted(root: Path) -> Planted:
    return paint(root)


@pytest.fixture(scope="module")
def audited(root: Path, planted: Planted) -> Audit:
    out = root.parent / "run"
    out.mkdir()
    return audit(root, Run(out))  # `demonstrated` looks for crops, too


def test_the_audit_finds_exactly_the_planted_leaks(planted: Planted, audited: Audit) -> None:
    group = {row.path: row.photo_group for row in audited.rows}
    assert {row.path for row in leaked_test_photos(audited.rows)} == planted.copies.keys()
    assert all(group[copy] == group[original] for copy, original in planted.copies.items())
    share = audited.facts["leakage"]["share"]
    assert 0.2 < share < 0.3


def test_the_audit_finds_no_other_group_than_the_painted_photos(planted: Planted, audited: Audit) -> None:
    assert audited.facts["photo_groups"] == planted.photo_groups == 8 * 24
    assert max(Counter(row.photo_group for row in audited.rows).values()) == 2
    assert audited.facts["label_conflicts"] == 0
    assert {name: own["photo_groups"] for name, own in audited.facts["classes"].items()} == dict.fromkeys(
        planted.classes, 24
    )


def test_the_audit_finds_the_broken_file_and_the_size_that_gives_a_class_away(planted: Planted, audited: Audit) -> None:
    findings = {finding["id"]: finding for finding in audited.facts["findings"]}
    planted_ids = {"leakage", "near_copy", "unreadable", "size_gives_class_away", "other_files"}
    assert planted_ids <= findings.keys() <= planted_ids | {"blurred", "too_dark", "shortcut_border"}  # some are
    assert [entry["path"] for entry in audited.facts["unreadable"]] == list(planted.unreadable)
    assert findings["size_gives_class_away"]["remedy"].startswith(f"{planted.given_away} is always 128x128, and")
    assert findings["other_files"]["examples"] == ["train_set/BA-impetigo/Thumbs.db"]


def test_the_same_seed_paints_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (_digests(tmp_path / name, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert first == again
    assert not set(first.values()) & set(other.values()) - {hashlib.sha256(bytes(64)).hexdigest()}


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DatasetError, match="is not empty"):
        paint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_one_photo_of_a_given_size() -> None:
    photo = paint_photo("VI-shingles", np.random.default_rng(1), (150, 200))
    assert (photo.mode, photo.size) == ("RGB", (150, 200))


def test_nonsense_is_the_same_for_a_seed_and_can_be_opened(tmp_path: Path) -> None:
    names = paint_nonsense(tmp_path / "a", 3)
    assert names == paint_nonsense(tmp_path / "b", 3)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert Image.open(tmp_path / "a" / name).size == (320, 240)


def test_a_painting_that_stops_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_fungus", stop)  # the second kind of class
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path / "photos", per_class=4)
    assert list(tmp_path.iterdir()) == []
