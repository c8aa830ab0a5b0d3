import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from conftest import encode, paint, write_photos
from PIL import Image

from spectraderm.data import manifest
from spectraderm.data.audit import Audit, audit, leaked_test_photos
from spectraderm.errors import DatasetError

T = TypeVar("T")
FOLDERS = {"train_set/a b": 6, "train_set/c": 6, "test_set/a b": 3, "test_set/c": 3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """18 distinct photos without a flaw."""
    write_photos(tmp_path / "photos", FOLDERS)
    return tmp_path / "photos"


def copy(root: Path, source: str, target: str, turn: Image.Transpose = Image.Transpose.ROTATE_90) -> None:
    with Image.open(root / source) as photo:
        turned = photo.transpose(turn)
    (root / target).write_bytes(encode(turned, quality=70))


def run(root: Path) -> Audit:
    return audit(root, root.parent / "run")


def finding(result: Audit, name: str) -> dict[str, Any]:
    return next((entry for entry in result.facts["findings"] if entry["id"] == name), {"count": 0})


def test_clean_photos_have_no_findings(root: Path) -> None:
    result = run(root)
    assert result.facts["findings"] == []
    assert (result.facts["photos"], result.facts["photo_groups"]) == (18, 18)
    assert result.facts["leakage"] == {"test_photos": 6, "test_photos_with_copy_in_train": 0, "share": 0.0}
    assert result.facts["classes"]["a b"] == {"display_name": "A b", "photos": 9, "photo_groups": 9}
    first = result.rows[0]
    assert (first.path, first.label, first.given_split) == ("test_set/a b/00.jpg", "a b", "test")
    assert (first.format, first.height, first.bytes) == ("JPEG", 72, (root / first.path).stat().st_size)


def test_planted_leaks_are_counted_exactly(root: Path) -> None:
    turns = [*Image.Transpose][:4]
    for number, turn in enumerate(turns):
        copy(root, f"train_set/c/{number:02d}.jpg", f"test_set/c/leak{number}.jpg", turn)
    copy(root, "test_set/c/00.jpg", "test_set/c/twin.jpg")  # a copy within a split is no leak
    copy(root, "train_set/c/05.jpg", "train_set/c/twin.jpg")
    result = run(root)
    assert result.facts["leakage"] == {"test_photos": 11, "test_photos_with_copy_in_train": 4, "share": 4 / 11}
    assert [row.path for row in leaked_test_photos(result.rows)] == [f"test_set/c/leak{n}.jpg" for n in range(4)]
    assert finding(result, "leakage")["examples"] == [f"test_set/c/leak{n}.jpg" for n in range(4)]
    assert result.facts["photo_groups"] == 18
    assert result.facts["classes"]["c"]["photo_groups"] == 9


def test_one_photo_in_two_classes_is_a_label_conflict(root: Path) -> None:
    copy(root, "train_set/c/01.jpg", "train_set/a b/copy.jpg")
    copy(root, "train_set/c/02.jpg", "test_set/a b/copy.jpg")
    result = run(root)
    assert result.facts["label_conflicts"] == 2
    assert finding(result, "label_conflict")["count"] == 4


def test_unreadable_photos_are_findings(root: Path) -> None:
    (root / "train_set/c/bad.jpg").write_bytes(b"no photo")
    (root / "test_set/c/cut.jpg").write_bytes((root / "test_set/c/00.jpg").read_bytes()[:300])
    (root / "test_set/c/gone.jpg").symlink_to("nothing.jpg")
    result = run(root)
    paths = ["test_set/c/cut.jpg", "test_set/c/gone.jpg", "train_set/c/bad.jpg"]
    assert [entry["path"] for entry in result.facts["unreadable"]] == paths
    assert all(entry["reason"] for entry in result.facts["unreadable"])
    assert finding(result, "unreadable")["count"] == 3
    assert len(result.rows) == 18


def test_a_class_without_a_readable_photo_is_named_with_its_own_reason(root: Path) -> None:
    (root / "test_set/a b/bad.jpg").write_bytes(b"other")
    write_photos(root, {"train_set/w x": 2})
    for file in (root / "train_set/w x").iterdir():
        file.write_bytes(b"no photo")
    with pytest.raises(DatasetError, match=r"class 'w x' can be read\. First: train_set/w x/00\.jpg"):
        run(root)
    assert not (root.parent / "run").exists()


@pytest.mark.parametrize(("others", "given_away"), [((70, 70), True), ((64, 64), False)])
def test_a_size_that_only_one_class_has_is_a_finding(others: tuple[int, int], given_away: bool, root: Path) -> None:
    (root / "train_set/z").mkdir()
    for number in range(3):
        (root / f"train_set/z/{number}.png").write_bytes(encode(paint(900 + number, (64, 64)), "PNG"))
    (root / "train_set/c/odd.png").write_bytes(encode(paint(950, others), "PNG"))
    found = finding(run(root), "size_gives_class_away")
    assert found["count"] == (3 if given_away else 0)
    if given_away:
        assert "z is always 64x64" in found["remedy"]


@pytest.mark.parametrize("column", ["patient", "lesion", "group"])
def test_metadata_joins_photos(column: str, root: Path) -> None:
    lines = [f"file_name,{column},source", "train_set/c/00.jpg,7,x", "test_set/c/00.jpg,7,x", "test_set/a b/01.jpg,,x"]
    (root / "metadata.csv").write_text("\n".join(lines))
    result = run(root)
    assert result.facts["photo_groups"] == 17
    assert result.facts["leakage"]["test_photos_with_copy_in_train"] == 1
    rows = {row.path: row for row in result.rows}
    assert rows["train_set/c/00.jpg"].photo_group == rows["test_set/c/00.jpg"].photo_group
    assert rows["train_set/c/00.jpg"].metadata == {column: "7", "source": "x"}


def test_a_patient_with_two_diseases_is_no_label_conflict(root: Path) -> None:
    (root / "metadata.csv").write_text("file_name,patient\ntrain_set/c/00.jpg,7\ntrain_set/a b/00.jpg,7\n")
    result = run(root)
    assert (result.facts["photo_groups"], result.facts["label_conflicts"]) == (17, 0)


def test_what_was_passed_over_is_told(root: Path) -> None:
    (root / "train_set/c/notes.txt").touch()
    (root / "train_set/c/deep").mkdir()
    (root / "train_set/c/out.jpg").symlink_to("/etc/hostname")
    counts = {entry["id"]: entry["examples"] for entry in run(root).facts["findings"]}
    assert counts == {
        "other_files": ["train_set/c/notes.txt"],
        "nested_folder": ["train_set/c/deep"],
        "link_outside": ["train_set/c/out.jpg"],
    }


def test_files_hold_the_contract_and_come_out_the_same_twice(root: Path) -> None:
    copy(root, "train_set/c/01.jpg", "test_set/a b/copy.jpg")
    out = root.parent / "run"
    result = run(root)
    first = [(out / name).read_bytes() for name in ("audit.json", "manifest.csv")]
    run(root)
    assert [(out / name).read_bytes() for name in ("audit.json", "manifest.csv")] == first
    facts = json.loads(first[0])
    assert facts == result.facts
    assert {"photos", "photo_groups", "leakage", "label_conflicts", "unreadable", "findings"} <= facts.keys()
    for entry in facts["findings"]:
        assert entry.keys() == {"id", "severity", "count", "examples", "remedy"}
    assert manifest.read(out / "manifest.csv") == result.rows


def test_findings_name_few_examples(root: Path) -> None:
    for number in range(9):
        (root / f"train_set/c/bad{number}.jpg").touch()
    found = finding(run(root), "unreadable")
    assert (found["count"], len(found["examples"])) == (9, 5)


def test_progress_counts_every_photo(root: Path) -> None:
    seen: list[tuple[str, int]] = []

    def track(items: Iterable[T], description: str, total: int) -> Iterable[T]:
        for item in items:
            seen.append((description, total))
            yield item

    audit(root, root.parent / "run", track)
    assert len(seen) == seen[0][1] == 18


def test_plain_class_folders_have_no_leakage_share(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"a": 2, "b": 2})
    assert run(tmp_path / "photos").facts["leakage"]["share"] is None
