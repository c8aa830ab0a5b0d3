"""What the demo paints, and the demo itself: every planted flaw is told aloud, and nonsense is refused."""

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from console import Done, call
from PIL import Image

from spectraderm.core.errors import DatasetError
from spectraderm.core.files import read_json
from spectraderm.core.run import AUDIT, GALLERY, LEDGER, REPORT, Run
from spectraderm.data import shortcuts
from spectraderm.data import synthetic as painting
from spectraderm.data.audit import Audit, audit, leaked_test_photos
from spectraderm.data.synthetic import Planted, paint, paint_nonsense, paint_photo
from spectraderm.inference import model_folder


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


class Shown(NamedTuple):
    """The folder of a demo, and what a person saw of it."""

    out: Path
    done: Done


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The whole demo, on a third of the photos and with quick forests."""
    out = tmp_path_factory.mktemp("demonstrated") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "_TREES", 10)
        patch.setattr(painting, "paint", partial(paint, per_class=8))
        return Shown(out, call("demo", "--out", out))


def test_the_demo_tells_every_planted_flaw(demonstrated: Shown) -> None:
    assert demonstrated.done.code == 0, demonstrated.done.err
    told = demonstrated.done.err
    assert "LEAK  6 of 14 test photos (42.9 %) are copies of training photos" in told
    assert "FU-nail-fungus is always 128x128" in told
    assert "unreadable" in told
    assert "Painted 64 photos, not real ones" in told
    assert "6 test photos" in told
    assert "Nail fungus alone is always of one size" in told


def test_the_demo_finds_no_crop_where_none_was_painted(demonstrated: Shown) -> None:
    facts = read_json(demonstrated.out / "run" / AUDIT, "")
    assert facts["looked_for_crops"]
    assert facts["leakage"]["test_photos_with_crop_in_train"] == 0
    assert facts["photo_groups"] == 64


def test_the_demo_says_which_number_not_to_believe(demonstrated: Shown) -> None:
    told = demonstrated.done.err
    assert "Do not believe it: 6 of 14 test photos are copies of photos it learned from." in told
    assert "> grouped (72 files, 64 photo groups): Believe it" in told


def test_the_demo_refuses_nonsense_and_knows_what_it_has_seen(demonstrated: Shown) -> None:
    *paragraphs, note = demonstrated.done.out.strip().split("\n\n")
    answers = [(Path(text.splitlines()[0]), text.splitlines()[1].strip()) for text in paragraphs]
    said = {path.name: answer for path, answer in answers if path.parent.name == "nonsense"}
    assert said == {"blocks.jpg": "out of scope", "night.jpg": "unusable photo"}
    assert len(answers) == 5
    assert sum("The model learned from this photo" in text for text in paragraphs) == 3
    assert "asked about 3 of these photos, of which it says it has seen 3," in demonstrated.done.err
    assert "about 2 of nonsense, of which it refused 2." in demonstrated.done.err
    assert read_json(demonstrated.out / "run/model" / model_folder.FACTS, "")["model_id"] in note


def test_the_demo_leaves_a_run_folder_to_look_at(demonstrated: Shown) -> None:
    for name in (REPORT, GALLERY, LEDGER, "model/onnx/model.onnx"):
        assert (demonstrated.out / "run" / name).is_file()
    assert f"open {demonstrated.out / 'run' / REPORT}" in demonstrated.done.err


def _digests(root: Path, seed: int) -> dict[str, str]:
    paint(root, seed, per_class=4)
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
