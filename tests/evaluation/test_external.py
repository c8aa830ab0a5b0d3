import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encode, paint
from handmade import LABELS, leaking_run, write_model
from pages import evaluated
from PIL import Image

from spectraderm.core.errors import DatasetError, WriteError
from spectraderm.core.files import array_bytes, read_json
from spectraderm.core.run import EXTERNAL, MODEL
from spectraderm.evaluation import source_photos
from spectraderm.evaluation.external import evaluate_external, score
from spectraderm.evaluation.source_photos import Predicted
from spectraderm.images.perceptual_hash import turned_hashes
from spectraderm.inference import classifier, model_folder

A, B, D = LABELS
UNKNOWN = "'unknown' (1 photos): taken for no patient, each photo counts alone"
Photos = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Paints so many photos into each folder, no two alike."""

    def make(**folders: int) -> Path:
        seed = 0
        for folder, count in folders.items():
            (tmp_path / "photos" / folder).mkdir(parents=True)
            for number in range(count):
                seed += 1
                (tmp_path / "photos" / folder / f"{number}.png").write_bytes(encode(paint(seed, (320, 320)), "PNG"))
        return tmp_path / "photos"

    return make


def model_of(folder: Path, *learned: Image.Image) -> Path:
    known = np.stack([turned_hashes(photo)[0] for photo in learned]) if learned else np.zeros((1, 8), np.uint8)
    return write_model(folder / MODEL, files={model_folder.HASHES: array_bytes(known)})


def test_folders_are_classes_by_name_or_by_display_name(photos: Photos, tmp_path: Path) -> None:
    folder = photos(**{B: 2, "D": 3, "x/BA- a": 1})
    (folder / "D/patients.csv").write_text("image;Patient ID\n0.png;p\n1.png;p\n2.png;unknown\n")
    got = evaluate_external(model_of(tmp_path), folder)
    assert (got["n_photos"], got["n_groups"], got["name"], got["model_id"]) == (6, 5, "photos", "by-hand")
    assert [sum(row) for row in got["confusion_matrix"]] == [1, 2, 3]
    assert "out_of_distribution" not in got
    assert sum(got["verdicts"].values()) == 6
    assert (got["findings"], [table["columns"] for table in got["tables"]]) == (
        [{"id": "patient_unknown", "severity": "low", "count": 1, "examples": ["photos/D/2.png"], "remedy": UNKNOWN}],
        [{"patient": "Patient ID"}],
    )
    (folder / "warts").mkdir()
    shutil.copy(folder / "D/0.png", folder / "warts")
    with pytest.raises(DatasetError, match=r"no class 'warts'.*--label-map") as caught:
        evaluate_external(tmp_path / MODEL, folder)
    assert all(label in caught.value.remedy for label in LABELS)


def test_a_model_of_two_classes_that_look_alike_is_asked_for_each(photos: Photos, tmp_path: Path) -> None:
    labels = ("Melanoma", "melanoma", "BA-nevus")
    folder = photos(**{"melanoma": 3, "Melanoma": 2, "ba nevus": 1})
    got = evaluate_external(write_model(tmp_path / "model", labels), folder)
    assert [sum(row) for row in got["confusion_matrix"]] == [2, 3, 1]
    assert got["joined"] == [f"{folder / 'ba nevus'} is 'BA-nevus'"]


def test_what_lies_beside_photos_is_told_of_each_source_and_of_all(photos: Photos, tmp_path: Path) -> None:
    folder = photos(**{f"one/{B}": 2, "two/ba a": 2})
    for path in (f"one/{B}/new.avif", "one/@eaDir/0.png", f"two/{B}/.thumbnails/0.png", "two/run/manifest.csv"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((folder / f"one/{B}/0.png").read_bytes())
    (folder / "two/run/checksums.txt").touch()
    (folder / "one/sizes.csv").write_text("name,size\nx,1\n")
    got = evaluate_external(model_of(tmp_path), [folder / "one", folder / "two"])
    known = {"unread_type": 1, "empty_class": 1, "joined_classes": 1}
    passed = {"debris": 2, "own_output": 1, "table_not_read": 1}
    assert {one["id"]: one["count"] for one in got["findings"]} == known | passed
    assert [line.partition(": ")[2] for line in got["unreadable"]] == ["of a type that is not read"]
    assert (got["n_photos"], got["tables"]) == (4, [])


def test_a_map_names_the_classes_of_folders(photos: Photos, tmp_path: Path) -> None:
    folder, model = photos(acne=2, cats=3), model_of(tmp_path)
    names = tmp_path / "map.csv"
    names.write_text(f"folder,label\nacne,{B}\ncats,\n")
    got = evaluate_external(model, folder, names)
    assert (got["scores"]["n_photos"], got["out_of_distribution"]["refused"]["n_photos"]) == (2, 3)
    assert sum(got["confusion_matrix"][1]) == 2
    for line, message in {"": "no line for folder 'cats'", "cats,cat\n": "'cat' is no class of the model"}.items():
        names.write_text(f"folder,label\nacne,{B}\n{line}")
        with pytest.raises(DatasetError, match=message):
            evaluate_external(model, folder, names)
    unmapped = evaluate_external(model, folder)  # of folders of which none is a class all photos show none
    assert "scores" not in unmapped
    assert unmapped["out_of_distribution"]["flagged"]["n_photos"] == 5


def test_turned_copies_of_what_was_learned_from_are_told(photos: Photos, tmp_path: Path) -> None:
    folder = photos(**{B: 3})
    learned = Image.open(folder / B / "1.png").convert("RGB")
    turned = learned.transpose(Image.Transpose.ROTATE_90).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (folder / B / "9.jpg").write_bytes(encode(turned, quality=80))
    got = evaluate_external(model_of(tmp_path, learned), folder)
    assert got["in_training"] == 2
    assert (got["n_photos"], got["n_groups"]) == (4, 3)


def test_each_photo_is_opened_and_hashed_once(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("open_photo", "turned_hashes"):
        work = getattr(classifier, name)

        def counted(*given: Any, name: str = name, work: Callable[..., Any] = work) -> Any:  # noqa: ANN401
            calls.append(name)
            return work(*given)

        for module in (source_photos, classifier):
            monkeypatch.setattr(module, name, counted, raising=False)
    folder = photos(**{B: 20, D: 20})
    model = model_of(tmp_path, Image.open(folder / D / "7.png"))
    assert evaluate_external(model, folder)["in_training"] == 1
    assert sorted(calls) == ["open_photo"] * 40 + ["turned_hashes"] * 40


def test_unreadable_photos_are_named_and_the_rest_goes_on(photos: Photos, tmp_path: Path) -> None:
    folder, model = photos(**{B: 1}), model_of(tmp_path)
    (folder / B / "zz.jpg").write_bytes(b"no photo")
    got = evaluate_external(model, folder)
    assert got["n_photos"] == 1
    assert len(got["unreadable"]) == 1
    assert "zz.jpg" in got["unreadable"][0]
    (folder / B / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"no photo can be read.*zz\.jpg"):
        evaluate_external(model, folder)


def test_of_a_runs_model_the_result_stands_in_its_folder_and_next_evaluation(photos: Photos, tmp_path: Path) -> None:
    run = leaking_run(tmp_path / "run")
    evaluated(run)
    (tmp_path / "mine.json").write_text('{"mine": 1}')
    with pytest.raises(WriteError, match=r"mine\.json can't be written: a file of that name is in the way"):
        evaluate_external(model_of(run), tmp_path, out=tmp_path / "mine.json")
    got = evaluate_external(model_of(run), photos(**{B: 2}), out=tmp_path / "out.json")
    assert read_json(run / EXTERNAL / "photos.json", "") == got
    assert read_json(tmp_path / "out.json", "") == got
    assert set(got["novelty_detection"]) == {"auroc", "fpr_at_95"}
    row = evaluated(run)["protocols"][-1]
    assert (row["name"], row["believe"], row["n_photos"]) == ("external:photos", True, 2)
    shutil.rmtree(run / EXTERNAL)
    assert all(row["name"] != "external:photos" for row in evaluated(run)["protocols"])


def scored(labels: list[int], verdicts: list[int], groups: list[int], learned_from: int) -> dict[str, Any]:
    """Five photos that are guessed 0; of the last one there is no guess."""
    photos = Predicted(
        np.array(labels),
        np.array(groups),
        np.array([[0.9, 0.1]] * 4 + [[0.0, 0.0]]),
        sets=np.array([[True, False], [True, True], [True, False], [True, False], [False, False]]),
        verdicts=np.array(verdicts),
        in_training=np.arange(5) < learned_from,
        novelty=np.zeros(5),
        sources=np.full(5, "s"),
        hashes=np.zeros((5, 8, 8), np.uint8),
        names=["a", "b"],
    )
    return score(photos)


def test_the_scores_are_of_usable_new_photos_of_known_classes() -> None:
    got = scored([0, 0, 1, -1, 1], [0, 1, 0, 2, 3], list(range(5)), 1)
    assert (got["n_photos"], got["in_training"], got["scores"]["n_photos"]) == (5, 1, 2)
    assert got["scores"]["accuracy"]["value"] == 0.5
    assert got["confusion_matrix"] == [[1, 0], [1, 0]]
    assert got["sets"]["coverage"]["value"] == 0.5
    assert got["verdicts"] == {"predicted": 2, "unsure": 1, "out_of_scope": 1, "unusable_photo": 1}
    assert got["refusals"]["unusable_photo"]["value"] == pytest.approx(1 / 3)
    assert got["refusals"]["predicted"]["accuracy"]["value"] == 0


def test_photos_of_no_class_are_refused_or_at_least_flagged() -> None:
    for groups, refused, flagged in ((range(5), 3 / 5, 4 / 5), ([0, 1, 2, 2, 2], 1 / 3, 2 / 3)):
        got = scored([-1] * 5, [0, 1, 2, 3, 2], list(groups), 0)["out_of_distribution"]
        assert (got["refused"]["value"], got["flagged"]["value"]) == pytest.approx((refused, flagged))


def test_several_folders_are_sources_with_a_result_each_and_a_mean(photos: Photos, tmp_path: Path) -> None:
    run = leaking_run(tmp_path / "run")
    evaluated(run)
    folder = photos(**{f"one/{A}": 2, f"one/{B}": 2, f"two/{B}": 3, f"two/{D}": 3, "none/cats": 2})
    model = model_of(run)
    shutil.copy(folder / "one" / B / "0.png", folder / "two" / B / "copy.png")  # in both sources, yet one photo
    given = [folder / name for name in ("two", "one", "none")]
    got = evaluate_external(model, given, out=tmp_path / "out.json")
    assert read_json(tmp_path / "out.json", "") == got
    assert (got["name"], got["n_photos"], got["n_groups"]) == ("none, one, two", 13, 12)
    parts = got["by_source"]
    assert {name: own["n_photos"] for name, own in parts.items()} == {"none": 2, "one": 4, "two": 7}
    alone = {name: evaluate_external(model, folder / name) for name in ("none", "one", "two")}
    for name in ("one", "two"):
        assert (alone[name]["source"], read_json(run / EXTERNAL / f"{name}.json", "")) == (name, alone[name])
        assert parts[name]["accuracy"] == alone[name]["scores"]["accuracy"]
        assert parts[name]["predicted"] == alone[name]["refusals"]["predicted"]
    assert parts["none"]["out_of_distribution"] == alone["none"]["out_of_distribution"]
    values = [alone[name]["scores"]["group_accuracy"]["value"] for name in ("one", "two")]
    assert got["mean_over_sources"]["group_accuracy"]["value"] == pytest.approx(np.mean(values))
    assert got["worst_source"] == ("one", "two")[values.index(min(values))]
    # the same of one folder whose folders are sources
    shutil.rmtree(folder / "none")
    whole = evaluate_external(model, folder)
    assert (whole["name"], list(whole["by_source"])) == ("photos", ["one", "two"])
    assert whole["mean_over_sources"] == got["mean_over_sources"]
