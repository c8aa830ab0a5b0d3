"""What the demo paints: an audit finds every flaw that was planted, and no other."""

from collections import Counter
from pathlib import Path

import pytest

from spectraderm.core.errors import DatasetError
from spectraderm.core.run import Run
from spectraderm.data import synthetic
from spectraderm.data.audit import Audit, audit
from spectraderm.data.findings import leaked_test_photos
from spectraderm.data.synthetic import Planted, paint, paint_nonsense


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "photos"


@pytest.fixture(scope="module")
def planted(root: Path) -> Planted:
    return paint(root, per_class=12)


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
    assert audited.facts["photo_groups"] == planted.photo_groups == 8 * 12
    assert max(Counter(row.photo_group for row in audited.rows).values()) == 2
    assert audited.facts["label_conflicts"] == 0
    assert {name: own["photo_groups"] for name, own in audited.facts["classes"].items()} == dict.fromkeys(
        planted.classes, 12
    )


def test_the_audit_finds_the_broken_file_and_the_size_that_gives_a_class_away(planted: Planted, audited: Audit) -> None:
    findings = {finding["id"]: finding for finding in audited.facts["findings"]}
    planted_ids = {"leakage", "near_copy", "unreadable", "size_gives_class_away", "debris"}
    assert planted_ids <= findings.keys() <= planted_ids | {"blurred", "too_dark", "shortcut_border"}  # some are
    assert [entry["path"] for entry in audited.facts["unreadable"]] == list(planted.unreadable)
    assert findings["size_gives_class_away"]["remedy"].startswith(f"{planted.given_away} is always 128x128, and")
    assert findings["debris"]["examples"] == ["train_set/BA-impetigo/Thumbs.db"]


def test_the_same_seed_paints_the_same_bytes(tmp_path: Path) -> None:
    files: list[set[bytes]] = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        paint(tmp_path / name, seed, per_class=4)
        paint_nonsense(tmp_path / name / "nonsense", seed)
        files.append({path.read_bytes() for path in (tmp_path / name).rglob("*.*g")})
    assert files[0] == files[1]
    assert not files[0] & files[2]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DatasetError, match="is not empty"):
        paint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_painting_that_stops_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_fungus", stop)  # the second kind of class
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path / "photos", per_class=4)
    assert list(tmp_path.iterdir()) == []
