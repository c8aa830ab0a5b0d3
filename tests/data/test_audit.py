import io
import json
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from conftest import encode, paint, write_photos
from PIL import Image

from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.roots import with_other
from spectraderm.core.run import Run
from spectraderm.data import crops, findings, manifest, measurements, shortcuts, skin_tone
from spectraderm.data.audit import Audit, audit, check_out, check_same
from spectraderm.data.beside import SEVERITIES
from spectraderm.data.findings import leaked_test_photos
from spectraderm.data.measurements import Embedding
from spectraderm.data.shortcuts import Shortcut
from spectraderm.images.perceptual_hash import turned_hashes
from spectraderm.images.preprocessing import Preprocessing

T = TypeVar("T")
FOLDERS = {"train_set/a b": 6, "train_set/c": 6, "test_set/a b": 3, "test_set/c": 3}
TOLD: list[Shortcut] = []
EMBEDDING = Embedding(Preprocessing(size=8), lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float32))
"""Photos shrunk to 8 x 8 pixels: near enough for neighbours."""


@pytest.fixture(autouse=True)
def _no_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortcuts are measured in their own tests, and take seconds; here they say what a test puts into `TOLD`."""
    TOLD.clear()
    monkeypatch.setattr(shortcuts, "measure", lambda *_, **__: TOLD)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """18 distinct photos without a flaw."""
    for number, path in enumerate(write_photos(tmp_path / "photos", FOLDERS)):
        photo = paint(number + 1, (150 + number % 3, 130))
        (tmp_path / "photos" / path).write_bytes(encode(photo, quality=90))
    return tmp_path / "photos"


def copy(root: Path, source: str, target: str, turn: Image.Transpose = Image.Transpose.ROTATE_90) -> None:
    with Image.open(root / source) as photo:
        turned = photo.transpose(turn)
    (root / target).write_bytes(encode(turned, quality=70))


def run(root: Path) -> Audit:
    result = audit(root, Run(root.parent / "run"))
    assert {entry["id"] for entry in result.facts["findings"]} <= {*findings.KNOWN}
    return result


def leaks(result: Audit) -> tuple[object, ...]:
    return tuple(result.facts["leakage"].values())


def finding(result: Audit, name: str) -> dict[str, Any]:
    return next((entry for entry in result.facts["findings"] if entry["id"] == name), {"count": 0})


def test_clean_photos_have_no_findings(root: Path) -> None:
    result = run(root)
    assert result.facts["findings"] == []
    assert (result.facts["photos"], result.facts["photo_groups"]) == (18, 18)
    assert leaks(result) == (6, 0, 0.0, 0, 0.0)
    assert result.facts["classes"]["a b"] == {"display_name": "A b", "photos": 9, "photo_groups": 9}
    first = result.rows[0]
    assert (first.path, first.label, first.given_split) == ("test_set/a b/00.jpg", "a b", "test")
    assert (first.format, first.height, first.bytes) == ("JPEG", 130, (root / first.path).stat().st_size)
    with Image.open(root / first.path) as photo:
        assert bytes.fromhex(first.phash) == turned_hashes(photo)[0].tobytes()
    assert first.jpeg_quality == 90


def test_planted_leaks_and_conflicts_are_counted_exactly_and_have_their_training_twins(root: Path) -> None:
    turns = [*Image.Transpose][:3]
    for number, turn in enumerate(turns):  # all test photos of `a b` that are new, and one of `c`
        copy(root, f"train_set/a b/{number:02d}.jpg", f"test_set/a b/{number:02d}.jpg", turn)
    copy(root, "train_set/c/01.jpg", "test_set/c/leak.jpg")
    (root / "test_set/c/same.jpg").write_bytes((root / "train_set/c/02.jpg").read_bytes())
    copy(root, "test_set/c/00.jpg", "test_set/c/twin.jpg")  # a copy within a split is no leak
    (root / "train_set/c/same.jpg").write_bytes((root / "train_set/c/02.jpg").read_bytes())
    copy(root, "train_set/c/03.jpg", "train_set/a b/copy.jpg")
    result = run(root)
    leaked = [*(f"test_set/a b/{number:02d}.jpg" for number in range(3)), "test_set/c/leak.jpg", "test_set/c/same.jpg"]
    assert leaks(result) == (9, 5, 5 / 9, 0, 5 / 9)
    assert [row.path for row in leaked_test_photos(result.rows)] == finding(result, "leakage")["examples"] == leaked
    assert finding(result, "class_all_leaked")["examples"] == ["a b"]
    assert (result.facts["photo_groups"], result.facts["classes"]["c"]["photo_groups"]) == (15, 9)
    assert (result.facts["label_conflicts"], finding(result, "label_conflict")["count"]) == (1, 2)
    assert finding(result, "exact_copy")["examples"] == ["train_set/c/same.jpg"]
    assert finding(result, "near_copy")["examples"] == ["test_set/c/twin.jpg", "train_set/c/03.jpg"]
    lines = [line.split(",") for line in (root.parent / "run/copies.csv").read_text().splitlines()]
    assert lines == [
        ["path", "twin", "kind", "path_split", "twin_split"],
        *([f"test_set/a b/0{n}.jpg", f"train_set/a b/0{n}.jpg", "near", "test", "train"] for n in range(3)),
        ["test_set/c/leak.jpg", "train_set/c/01.jpg", "near", "test", "train"],
        ["test_set/c/same.jpg", "train_set/c/02.jpg", "exact", "test", "train"],
        ["test_set/c/twin.jpg", "test_set/c/00.jpg", "near", "test", "test"],
        ["train_set/c/03.jpg", "train_set/a b/copy.jpg", "near", "train", "train"],
        ["train_set/c/same.jpg", "train_set/c/02.jpg", "exact", "train", "train"],
    ]


def test_validation_leaks_into_training_and_test_leaks_into_validation(root: Path) -> None:
    for label, source in (("a b", "train_set/a b/00.jpg"), ("c", "test_set/c/00.jpg")):
        (root / "val" / label).mkdir(parents=True)
        copy(root, source, f"val/{label}/copy.jpg")
    result = run(root)
    assert finding(result, "leakage")["examples"] == ["test_set/c/00.jpg", "val/a b/copy.jpg"]
    assert result.facts["leakage"]["test_photos_with_copy_in_train"] == 0
    assert (root.parent / "run/copies.csv").read_text().splitlines()[1:] == [
        "test_set/c/00.jpg,val/c/copy.jpg,near,test,val",
        "val/a b/copy.jpg,train_set/a b/00.jpg,near,val,train",
    ]


def test_what_can_not_be_read_and_what_was_passed_over_are_findings(root: Path) -> None:
    for number in range(3):
        (root / f"train_set/c/empty{number}.jpg").touch()
    (root / "train_set/c/bad.jpg").write_bytes(b"no photo")
    (root / "test_set/c/cut.jpg").write_bytes((root / "test_set/c/00.jpg").read_bytes()[:300])
    (root / "test_set/c/gone.jpg").symlink_to("nothing.jpg")
    (root / "train_set/c/notes.txt").touch()
    (root / "train_set/c/deep").mkdir()
    (root / "train_set/c/out.jpg").symlink_to("/etc/hostname")
    result = run(root)
    paths = ["test_set/c/cut.jpg", "test_set/c/gone.jpg", "train_set/c/bad.jpg"]
    paths += [f"train_set/c/empty{number}.jpg" for number in range(3)]
    assert [entry["path"] for entry in result.facts["unreadable"]] == paths
    assert all(entry["reason"] for entry in result.facts["unreadable"])
    assert (finding(result, "unreadable")["count"], finding(result, "unreadable")["examples"]) == (6, paths[:5])
    assert len(result.rows) == 18
    passed_over = {"other_files": "notes.txt", "nested_folder": "deep", "link_outside": "out.jpg"}
    for name, file in passed_over.items():
        assert finding(result, name)["examples"] == [f"train_set/c/{file}"]


def test_a_class_without_a_readable_photo_is_named_with_its_own_reason(root: Path) -> None:
    (root / "test_set/a b/bad.jpg").write_bytes(b"other")
    write_photos(root, {"train_set/w x": 2})
    for file in (root / "train_set/w x").iterdir():
        file.write_bytes(b"no photo")
    with pytest.raises(DatasetError, match=r"class 'w x' can be read\. First: train_set/w x/00\.jpg"):
        run(root)
    assert list((root.parent / "run").iterdir()) == []


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


@pytest.mark.parametrize("column", ["patient", "group"])
def test_metadata_joins_photos_and_makes_no_label_conflict(column: str, root: Path) -> None:
    lines = [f"file_name,{column},source", "train_set/c/00.jpg,7,x", "test_set/c/00.jpg,7,x", "test_set/a b/01.jpg,,x"]
    (root / "metadata.csv").write_text("\n".join(lines))
    result = run(root)
    assert result.facts["photo_groups"] == 17
    assert result.facts["leakage"]["test_photos_with_copy_in_train"] == 1
    rows = {row.path: row for row in result.rows}
    assert rows["train_set/c/00.jpg"].photo_group == rows["test_set/c/00.jpg"].photo_group
    assert rows["train_set/c/00.jpg"].metadata == {column: "7"}
    assert rows["train_set/c/00.jpg"].source == "x"
    text = f"file_name,{column}\ntrain_set/c/00.jpg,7\ntrain_set/a b/00.jpg,7\n"
    (root / "metadata.csv").write_text(text)  # a patient's two diseases
    result = run(root)
    assert (result.facts["photo_groups"], result.facts["label_conflicts"]) == (17, 0)


def test_files_hold_the_contract_and_come_out_the_same_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(root, "train_set/c/01.jpg", "test_set/a b/copy.jpg")
    out = root.parent / "run"
    result = run(root)
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    assert first.keys() == {"audit.json", "copies.csv", "gallery.html", "manifest.csv", "measurements.npz"}
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 0, 0, 0, 0, 0, 0))
    run(root)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == first
    facts = json.loads(first["audit.json"])
    assert facts == result.facts
    assert {"photos", "photo_groups", "leakage", "label_conflicts", "unreadable", "findings"} <= facts.keys()
    for entry in facts["findings"]:
        assert entry.keys() == {"id", "severity", "count", "examples", "remedy"}
    assert manifest.read(out / "manifest.csv") == result.rows


def test_every_photo_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(root, "train_set/c/01.jpg", "test_set/c/copy.jpg")  # is shown in the gallery, and compared as a crop
    (root / "train_set/c/bad.jpg").write_bytes(b"no photo")
    decoded, really = Counter[bytes](), Image.open

    def counted(stream: io.BytesIO, formats: tuple[str, ...]) -> Image.Image:
        decoded[stream.getvalue()] += 1
        return really(stream, formats=formats)

    monkeypatch.setattr(Image, "open", counted)  # the one way to a decoder
    result = audit(root, Run(root.parent / "run"), embedding=EMBEDDING)
    assert result.facts["looked_for_crops"]
    assert (root.parent / "run/gallery.html").read_text().count("<img") == 2
    assert decoded == Counter(path.read_bytes() for path in root.rglob("*.jpg"))
    assert set(decoded.values()) == {1}


def test_a_leaked_photo_has_a_training_twin_even_where_the_test_folder_holds_its_equal(root: Path) -> None:
    copy(root, "train_set/c/01.jpg", "test_set/c/leak.jpg")
    (root / "test_set/c/more.jpg").write_bytes((root / "test_set/c/leak.jpg").read_bytes())
    with Image.open(root / "test_set/a b/00.jpg") as photo:
        (root / "test_set/a b/lossless.png").write_bytes(encode(photo, "PNG"))  # the same hash, other bytes
    (root / "test_set/a b/z.jpg").write_bytes((root / "test_set/a b/00.jpg").read_bytes())
    (root / "test_set/a b/zz.png").write_bytes((root / "test_set/a b/lossless.png").read_bytes())
    run(root)
    assert (root.parent / "run/copies.csv").read_text().splitlines()[1:] == [
        "test_set/a b/lossless.png,test_set/a b/00.jpg,near,test,test",
        "test_set/a b/z.jpg,test_set/a b/00.jpg,exact,test,test",
        "test_set/a b/zz.png,test_set/a b/lossless.png,exact,test,test",
        "test_set/c/leak.jpg,train_set/c/01.jpg,near,test,train",
        "test_set/c/more.jpg,train_set/c/01.jpg,near,test,train",
    ]


def test_the_skin_tone_is_kept_where_one_can_be_told(root: Path) -> None:
    skin = np.random.default_rng(0).normal((200, 160, 130), 4, (130, 150, 3)).clip(0, 255).astype(np.uint8)
    (root / "train_set/c/skin.png").write_bytes(encode(Image.fromarray(skin), "PNG"))
    tone = skin_tone.estimate(Image.fromarray(skin))
    assert tone
    rows = {row.path: row for row in run(root).rows}
    kept = rows["train_set/c/skin.png"]
    assert (kept.ita, kept.skin_tone_estimate) == (round(tone.ita, 2), tone.group)
    assert {row.skin_tone_estimate for row in rows.values()} >= {"", tone.group}


def test_of_several_training_copies_the_most_similar_is_the_twin(root: Path) -> None:
    (root / "test_set/c/leak.png").write_bytes(encode(paint(901, (150, 130)), "PNG"))
    for name, level in (("0poor", 1), ("1good", 95), ("2poor", 1)):
        (root / f"train_set/c/{name}.jpg").write_bytes(encode(paint(901, (150, 130)), quality=level))
    run(root)
    assert "test_set/c/leak.png,train_set/c/1good.jpg,near" in (root.parent / "run/copies.csv").read_text()


def test_crops_are_copies_of_their_own_kind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    crop = paths.index("test_set/c/00.jpg"), paths.index("train_set/c/00.jpg")

    def found(features: object, grey: crops.GreyOf, near: np.ndarray[Any, Any], *_: object) -> crops.Pairs:
        assert len(near) == 18
        with Image.open(root / paths[crop[0]]) as photo:
            assert grey(crop[0]).tobytes() == measurements.grey(photo).tobytes()
        return np.array([crop])

    monkeypatch.setattr(crops, "find_crops", found)
    result = audit(root, Run(root.parent / "run"), embedding=EMBEDDING)
    assert finding(result, "leakage_by_crop")["examples"] == ["test_set/c/00.jpg"]
    assert leaks(result)[1:4:2] == (0, 1)
    line = (root.parent / "run/copies.csv").read_text().splitlines()[1]
    assert line == "test_set/c/00.jpg,train_set/c/00.jpg,crop,test,train"
    assert run(root).facts["findings"] == []


def test_a_small_class_is_an_imbalance_by_photo_groups(root: Path) -> None:
    write_photos(root, {"train_set/d": 1})
    for number in range(20):  # copies do not make it larger
        (root / f"train_set/d/copy{number}.jpg").write_bytes((root / "train_set/d/00.jpg").read_bytes())
    found = finding(run(root), "class_imbalance")
    assert found["examples"] == ["d"]
    assert "9 photo groups of c, 1 of d: 9.0 to 1" in found["remedy"]


def test_odd_sizes_and_poor_photos_are_findings(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        with Image.open(path) as photo:
            path.write_bytes(encode(photo.resize((150, 130)), quality=95))
    (root / "test_set/c/00.jpg").write_bytes(encode(paint(50, (600, 150))))
    (root / "test_set/c/01.jpg").write_bytes(encode(paint(51, (90, 80))))
    (root / "test_set/c/02.jpg").write_bytes(encode(Image.new("RGB", (150, 130), (2, 2, 2))))
    result = run(root)
    assert finding(result, "extreme_aspect")["examples"] == ["test_set/c/00.jpg"]
    assert finding(result, "minority_size")["examples"] == ["test_set/c/00.jpg", "test_set/c/01.jpg"]
    assert finding(result, "too_small")["examples"] == ["test_set/c/01.jpg"]
    dark = finding(result, "too_dark")
    assert (dark["examples"], dark["severity"]) == (["test_set/c/02.jpg"], "medium")
    order = [entry["severity"] for entry in result.facts["findings"]]
    assert order == sorted(order, key=SEVERITIES.index)


def test_shortcuts_far_above_chance_are_findings(root: Path) -> None:
    away = Shortcut("dimensions", 0.9, 0.85, 0.95, 0.5, (1,))
    TOLD.extend([away, replace(away, name="border", low=0.64, gives_away=()), replace(away, name="format", low=0.6)])
    facts = run(root).facts
    found = {entry["id"]: entry for entry in facts["findings"]}
    assert found.keys() == {"shortcut_dimensions", "shortcut_border"}
    assert [found[f"shortcut_{name}"]["severity"] for name in ("dimensions", "border")] == ["high", "medium"]
    assert found["shortcut_dimensions"]["examples"] == ["c"]
    assert "gives away c" in found["shortcut_dimensions"]["remedy"]
    assert facts["shortcuts"][0] == asdict(away) | {"gives_away": ["c"]}


def test_sources_are_counted_and_copies_across_them_are_one_photo_group(tmp_path: Path) -> None:
    one, two = tmp_path / "near/A", tmp_path / "far/B"
    write_photos(one, {"x": 3, "y": 2}, 0)
    write_photos(two, {"test/x": 2, "train/x": 2, "train/z": 3}, 100)
    copy(tmp_path, "near/A/x/00.jpg", "far/B/train/x/copy.jpg")
    for folder, names in ((one, ("x/01.jpg", "x/02.jpg")), (two, ("train/x/00.jpg", "train/z/01.jpg"))):
        lines = [f"{names[0]},1,", f"{names[1]},2,elsewhere"]
        (folder / "metadata.csv").write_text("\n".join(["file_name,patient,source", *lines]))
    result = audit([two, one], Run(tmp_path / "run"))
    rows = {row.path: row for row in manifest.read(tmp_path / "run/manifest.csv")}
    assert {path: row.source for path, row in rows.items() if row.source != path.partition("/")[0]} == {
        "A/x/02.jpg": "elsewhere",
        "B/train/z/01.jpg": "elsewhere",
    }
    # patients of two sources are two, whatever they are called there; a copy is a copy
    assert rows["A/x/01.jpg"].photo_group != rows["B/train/x/00.jpg"].photo_group
    assert rows["A/x/00.jpg"].photo_group == rows["B/train/x/copy.jpg"].photo_group
    assert result.facts["sources"] == {
        "A": {"photos": 4, "photo_groups": 4, "classes": {"x": 2, "y": 2}},
        "B": {"photos": 7, "photo_groups": 7, "classes": {"x": 5, "z": 2}},
        "elsewhere": {"photos": 2, "photo_groups": 2, "classes": {"x": 1, "z": 1}},
    }
    crossing = finding(result, "copy_across_sources")
    assert (crossing["severity"], crossing["examples"]) == ("low", ["A/x/00.jpg", "B/train/x/copy.jpg"])
    assert finding(result, "class_of_one_source")["examples"] == ["y"]
    assert all((Run(tmp_path / "run").photos / path).is_file() for path in rows)
    for folder in (one, two):
        (folder / "metadata.csv").unlink()
    facts = audit(one, Run(tmp_path / "plain")).facts
    assert "sources" not in facts
    assert "roots" not in facts


def test_photos_of_none_of_the_classes_are_counted_apart(tmp_path: Path) -> None:
    write_photos(tmp_path, {"set/x": 3, "set/y": 3, "set/Other": 14, "set/OTHER": 1, "nails/deep/er": 2})
    result = audit(with_other([tmp_path / "set"], tmp_path / "nails"), Run(tmp_path / "run"))
    classes = result.facts["classes"]
    assert list(classes) == ["other", "x", "y"]
    assert classes["other"] == {"display_name": "None of these", "photos": 17, "photo_groups": 17, "other": True}
    assert not any("other" in classes[label] for label in "xy")
    # as many as there may be are no imbalance; that diseases are all of one source is no news, that others are is
    assert {own["id"] for own in result.facts["findings"]} == {"too_small"}
    write_photos(tmp_path, {"far/x": 1, "far/y": 1}, 90)
    result = audit(with_other([tmp_path / "set", tmp_path / "far"], tmp_path / "nails"), Run(tmp_path / "more"))
    assert "class_of_one_source" not in {own["id"] for own in result.facts["findings"]}
    shutil.rmtree(tmp_path / "set/Other")
    shutil.rmtree(tmp_path / "set/OTHER")
    alone = audit(with_other([tmp_path / "set"], tmp_path / "nails"), Run(tmp_path / "alone"))
    assert finding(alone, "class_of_one_source")["examples"] == ["other"]


def test_which_source_a_photo_is_of_is_measured_as_a_shortcut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: dict[str, Any] = {}
    monkeypatch.setattr(shortcuts, "measure", lambda features, *_, **__: measured.update(features) or [])
    write_photos(tmp_path / "A", {"x": 2, "y": 1}, 0)
    write_photos(tmp_path / "B", {"x": 1}, 100)
    audit([tmp_path / "A", tmp_path / "B"], Run(tmp_path / "run"))
    assert measured["source"].tolist() == [[1, 0]] * 3 + [[0, 1]]
    measured.clear()
    audit(tmp_path / "A", Run(tmp_path / "plain"))
    assert "source" not in measured


def test_photos_that_a_run_was_not_made_from_are_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "p", {"a": 2, "b": 2})
    run = Run(tmp_path / "run")
    audit(tmp_path / "p", run)
    check_same(tmp_path / "p", run)
    (tmp_path / "p" / "a" / "00.jpg").write_bytes((tmp_path / "p" / "a" / "01.jpg").read_bytes())
    with pytest.raises(RunFolderError, match=r"a/00\.jpg was changed"):
        check_same(tmp_path / "p", run)
    (tmp_path / "p" / "a" / "00.jpg").rename(tmp_path / "p" / "a" / "x.jpg")
    with pytest.raises(RunFolderError, match=r"a/x\.jpg is new"):
        check_same(tmp_path / "p", run)
    (tmp_path / "p" / "a" / "x.jpg").unlink()
    with pytest.raises(RunFolderError, match=r"a/00\.jpg is gone"):
        check_same(tmp_path / "p", run)


def test_a_run_folder_may_lie_in_the_photos_but_is_none_of_their_folders(root: Path) -> None:
    for name in ("", "train_set/c"):
        with pytest.raises(DatasetError, match="holds photos, and can't be a run folder"):
            check_out(root, root / name)
    check_out(root, root / "run")
    check_out(root, root.parent)
