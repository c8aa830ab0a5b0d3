import json
from pathlib import Path

import pytest

from spectraderm.core.errors import DatasetError
from spectraderm.core.roots import Folders, Root
from spectraderm.data.layouts import Listing, PhotoFile
from spectraderm.data.metadata import NOTES, Metadata, keys_of, read_metadata
from spectraderm.data.photo_tables import folders_of

PHOTOS = ["train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/b/4.jpg"]


def read(root: Root, paths: list[str], files: dict[str, str], sources: tuple[str, ...] = ()) -> Metadata:
    """Nothing is decoded here, so that the photos need not be there; their class is their folder's name."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    photos = [PhotoFile(path, path.split("/")[-2], "") for path in paths]
    return read_metadata(root, Listing(photos, sources=list(sources)))


def notes(metadata: Metadata) -> dict[str, list[str]]:
    assert {note.id for note in metadata.notes} <= {*NOTES}
    return {note.id: note.examples for note in metadata.notes if note.examples}


def lines(paths: list[str], patients: str = "p p q q", head: str = "file_name,patient") -> str:
    return "\n".join([head, *(",".join(pair) for pair in zip(paths, patients.split(), strict=True))])


@pytest.mark.parametrize(
    "files",
    [
        {"Metadata.CSV": lines(PHOTOS)},
        {"metadata.tsv": lines(PHOTOS).replace(",", "\t")},
        {"metadata": lines(PHOTOS, head="Image;Subject ID").replace(",", ";")},
        {"patients.csv": lines(PHOTOS, head="photo,person")},
        {"HAM10000_metadata": lines(["1", "2", "3", "4"], head="image_id,patient")},
        {"train/metadata.csv": lines(["a/1.jpg", "b/2.jpg"], "p p"), "test/metadata.csv": lines(["3", "b/4"], "q q")},
        {"train/a/metadata.csv": lines(["1.jpg"], "p"), "metadata.csv": lines(PHOTOS[1:], "p q q")},
        {"train/metadata.jsonl": '{"image": "a/1.jpg", "patient_id": "p"}\n{"image": "2.jpg", "patient_id": "p"}',
         "test/metadata.json": json.dumps([{"file_name": f"{name}.jpg", "patient": "q"} for name in ("a/3", "b/4")])},
    ],
)  # fmt: skip
def test_tables_are_read_wherever_they_lie(files: dict[str, str], tmp_path: Path) -> None:
    read_it = read(tmp_path, PHOTOS, files)
    wanted = dict(zip(PHOTOS, ({"patient": name} for name in "ppqq"), strict=True))
    assert read_it.of_photo == wanted
    assert notes(read_it) == {}
    assert sorted(table["path"] for table in read_it.tables) == sorted(files)


def test_tables_are_looked_for_beside_photos_and_above_them_up_to_the_root() -> None:
    paths = ["a.jpg", "train/b/c.jpg"]
    assert folders_of(paths, "", alone=False) == {"": paths, "train/": paths[1:], "train/b/": paths[1:]}
    assert folders_of(paths, "", alone=True) == {"": paths}
    assert list(folders_of(["s/a.jpg", "s/a/b.jpg"], "s/", alone=False)) == ["s/", "s/a/"]


def test_other_columns_stay_and_labels_are_compared(tmp_path: Path) -> None:
    text = "image,ID,age,width,Diagnosis,source,fst\n./train\\a\\1.jpg, 3.0 ,40,9,A,clinic,NA\n2.jpg,3,nan,9,a,-,3\n"
    got = read(tmp_path, PHOTOS, {"metadata.csv": text.replace("ID", "patient id")})
    assert got.of_photo["train/a/1.jpg"] == {"patient": "3", "age": "40", "source": "clinic"}
    assert got.of_photo["train/b/2.jpg"] == {"patient": "3", "age": "nan", "fitzpatrick": "3"}
    assert notes(got) == {
        "photo_without_line": ["test/a/3.jpg", "test/b/4.jpg"],
        "table_label_conflict": ["train/b/2.jpg: 'a' in metadata.csv"],
    }
    [table] = got.tables
    columns = {"patient": "patient id", "source": "source", "fitzpatrick": "fst", "label": "Diagnosis"}
    assert (table["columns"], table["other_columns"]) == (columns, ["age"])
    text = lines(PHOTOS, "train,III train,FST3 test,3.0 test,3-4", "image,dataset,fst")
    splits = read(tmp_path, PHOTOS, {"metadata.csv": text})
    tones = [cells.pop("fitzpatrick") for cells in splits.of_photo.values()]
    assert (tones, splits.of_photo[PHOTOS[0]]) == (["3", "3", "3", "3-4"], {"dataset": "train"})
    codes = read(tmp_path, PHOTOS, {"metadata.csv": lines(PHOTOS, "nv mel nv mel", "file_name,dx")})
    assert codes.of_photo["train/b/2.jpg"] == {"dx": "mel"}
    assert notes(codes) == {}


@pytest.mark.parametrize("nobody", ["unknown", "NA", "-", "0", "-1", "?"])
def test_nobody_in_particular_joins_no_photos(nobody: str, tmp_path: Path) -> None:
    got = read(tmp_path, PHOTOS, {"metadata.csv": lines(PHOTOS, f"{nobody} {nobody} {nobody} q")})
    assert [got.of_photo[path] for path in PHOTOS] == [{}, {}, {}, {"patient": "q"}]
    assert notes(got) == {"patient_unknown": PHOTOS[:3]}
    assert f"'{nobody}' (3 photos)" in next(note.remedy for note in got.notes if note.examples)


def test_lesions_that_each_patient_numbers_anew_are_the_patients_own(tmp_path: Path) -> None:
    table = lines(PHOTOS, "p,1 p,2 q,1 NA,1", "file_name,patient_id,lesion_id")
    got = read(tmp_path, PHOTOS, {"metadata.csv": table})
    assert [got.of_photo[path].get("lesion") for path in PHOTOS] == ["p/1", "p/2", "q/1", "1"]
    unique = read(tmp_path, PHOTOS, {"metadata.csv": table.replace("q,1", "q,3").replace("NA,1", "NA,4")})
    assert [unique.of_photo[path].get("lesion") for path in PHOTOS] == ["1", "2", "3", "4"]


def test_a_number_may_begin_with_zero(tmp_path: Path) -> None:
    got = read(tmp_path, PHOTOS, {"metadata.csv": lines(PHOTOS, "0 1 1 2")})
    assert got.of_photo["train/a/1.jpg"] == {"patient": "0"}
    assert notes(got) == {}


def test_odd_patients_are_told(tmp_path: Path) -> None:
    paths = [f"{label}/{number}{label}.jpg" for number in range(3) for label in "abc"]
    got = read(tmp_path, paths, {"metadata.csv": lines(paths, "p1 P1 x x x y z 007 7")})
    assert notes(got) == {"patient_look_alike": ["'P1' and 'p1'"], "patient_of_many": ["'x': 3 photos of 3 classes"]}
    assert keys_of(got.of_photo[paths[0]]) == keys_of(got.of_photo[paths[1]]) == [("patient", "p1")]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"metadata.csv": lines([*PHOTOS, PHOTOS[0]], "p p q q z")},
         "metadata.csv, line 6: 'train/a/1.jpg' has patient 'z', and 'p' in metadata.csv, line 2"),
        ({"metadata.csv": lines(PHOTOS), "train/metadata.csv": lines(["a/1.jpg"], "z")},
         "train/metadata.csv, line 2: .* in metadata.csv, line 2"),
        ({"metadata.csv": lines(PHOTOS, "1,2 1,1 1,1 1,1", "file_name,patient,subject_id")},
         "line 2: patient and subject_id name two"),
        ({"metadata.csv": lines(["x.jpg", "y.jpg"], "p q")}, "names none of these photos, but 'x.jpg'"),
        ({"metadata.csv": lines(PHOTOS, head="foo,patient")}, "has no column file_name.*foo, patient"),
        ({"metadata.xlsx": "PK"}, "metadata.xlsx can't be read as it is. Save it as CSV"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_is_of_no_use_is_refused(
    files: dict[str, str], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=problem):
        read(tmp_path, PHOTOS, files)


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    strangers, mine = lines(["x.jpg"], "p"), lines([PHOTOS[0], PHOTOS[0], "gone.jpg"], "p p p")
    files = {"patients.xlsx": "PK", "train/ages.csv": "file_name,age\n", "ages.tsv": "patient\tage\n"}
    files |= {"strangers.csv": strangers, "README.txt": "file_name, no table", "dataset.json": "{}"}
    files |= {"label_map.csv": "original,label\n", "._metadata.csv": "x", "predictions.csv": "path,label,verdict\n"}
    files |= {"metadata.csv": mine}
    got = notes(read(tmp_path, PHOTOS, files))
    shown = [text.partition(" ")[0].removeprefix(f"{tmp_path}/") for text in got.pop("table_not_read")]
    assert shown == ["ages.tsv", "patients.xlsx", "strangers.csv", "train/ages.csv"]
    assert got == {"line_without_photo": ["metadata.csv, line 4: 'gone.jpg'"], "photo_without_line": PHOTOS[1:]}


def test_each_source_has_its_own_table_and_patients(tmp_path: Path) -> None:
    paths = ["A/x/1.jpg", "B/x/1.jpg"]
    text = "file_name,source,patient,age\nA/x/1.jpg,clinic,7,4\n"
    whole = read(tmp_path, paths, {"metadata.csv": text}, ("A", "B"))
    assert whole.of_photo == {"A/x/1.jpg": {"source": "clinic", "patient": "7", "age": "4"}}
    files = {"A/metadata.csv": "file_name,patient,age\nx/1.jpg,9,5\n", "B/x/metadata.csv": lines(["1.jpg"], "9")}
    own = {"A/x/1.jpg": {"source": "clinic", "patient": "A/9", "age": "5"}, "B/x/1.jpg": {"patient": "B/9"}}
    assert read(tmp_path, paths, files, ("A", "B")).of_photo == own
    (tmp_path / "metadata.csv").unlink()
    given = read(Folders({"A": tmp_path / "A", "B": tmp_path / "B"}), paths, {}, ("A", "B"))
    assert {path: cells["patient"] for path, cells in given.of_photo.items()} == {
        "A/x/1.jpg": "A/9",
        "B/x/1.jpg": "B/9",
    }
