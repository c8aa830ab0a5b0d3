import os
from pathlib import Path

import pytest

from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.data import manifest
from spectraderm.data.manifest import Row, display_name, list_photos, read_metadata

WORDS = {
    **dict.fromkeys(("train", "training", "train_set", "TRAIN"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set", "Validation"), "val"),
    **dict.fromkeys(("test", "testing", "test_set", "Test"), "test"),
}


def touch(root: Path, *paths: str) -> None:
    """Nothing is decoded here, so that empty files will do."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two plain classes of one photo each."""
    touch(tmp_path / "root", "a/1.jpg", "b/1.jpg")
    return tmp_path / "root"


PLAIN = [("a/1.jpg", "a", ""), ("b/1.jpg", "b", "")]


@pytest.mark.parametrize(("word", "meaning"), WORDS.items())
def test_split_folders_are_known_by_every_name(word: str, meaning: str, tmp_path: Path) -> None:
    other = "Training" if meaning != "train" else "test"
    touch(tmp_path, f"{other}/a/1.jpg", f"{other}/b/1.jpg", f"{word}/a/2.png", f"{word}/b/2.png")
    found = list_photos(tmp_path)
    assert {(path, split) for path, _, split in found.photos if path.startswith(f"{word}/")} == {
        (f"{word}/a/2.png", meaning),
        (f"{word}/b/2.png", meaning),
    }
    assert {label for _, label, _ in found.photos} == {"a", "b"}


def test_all_but_photos_in_class_folders_is_listed_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    suffixes = ("jpg", "JPEG", "png", "webp", "bmp", "tif", "TIFF", "gif", "heic", "HEIF")
    photos = [f"train/a/1.{suffix}" for suffix in suffixes]
    touch(tmp_path, *photos, "train/b/1.jpg", "train/a/notes.txt", "train/a/Thumbs.db", "train/a/noend")
    touch(tmp_path, "train/a/deep/2.jpg", "extra/a/1.jpg", "loose.jpg", "train/loose.png", "readme.txt")
    touch(tmp_path, "train/a/.hidden.jpg", ".git/1.jpg", "train/a/.ipynb_checkpoints/1.jpg", ".x.jpg")
    found = list_photos(tmp_path)
    assert [path for path, _, _ in found.photos] == [*sorted(photos), "train/b/1.jpg"]
    assert sorted(found.nested) == ["extra", "train/a/deep"]
    others = ["train/a/Thumbs.db", "train/a/noend", "train/a/notes.txt"]
    assert sorted(found.other_files) == ["loose.jpg", *others, "train/loose.png"]


def test_links_inside_the_root_are_followed_and_others_are_not(root: Path) -> None:
    touch(root.parent, "secret/1.jpg")
    touch(root, ".pool/e/1.jpg")
    (root / "e").symlink_to(root / ".pool" / "e")
    (root / "a" / "loop.jpg").symlink_to("loop.jpg")
    (root / "a" / "gone.jpg").symlink_to("nothing.jpg")
    (root / "loop").symlink_to("loop")
    (root / "a" / "2.jpg").symlink_to(root.parent / "secret" / "1.jpg")
    (root / "a" / "3.jpg").symlink_to("1.jpg")
    (root / "c").symlink_to(root.parent / "secret")
    (root / "a" / "d").symlink_to(root.parent)
    found = list_photos(root)
    names = ["a/1.jpg", "a/3.jpg", "a/gone.jpg", "a/loop.jpg", "b/1.jpg", "e/1.jpg"]
    assert [path for path, _, _ in found.photos] == names
    assert sorted(found.outside) == ["a/2.jpg", "a/d", "c"]


def test_names_are_kept_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "BA- cellulitis/a photo (1).jpg", "皮膚/größe.jpg", "x,y/'q'.jpg")
    assert [(path, label) for path, label, _ in list_photos(tmp_path).photos] == [
        ("BA- cellulitis/a photo (1).jpg", "BA- cellulitis"),
        ("x,y/'q'.jpg", "x,y"),
        ("皮膚/größe.jpg", "皮膚"),
    ]


def test_names_that_are_not_utf8_are_listed_or_refused(root: Path) -> None:
    (root / "a" / os.fsdecode(b"caf\xe9.jpg")).touch()
    found = list_photos(root)
    assert (found.photos, found.other_files) == (PLAIN, ["a/caf\\xe9.jpg"])
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(DatasetError, match="not UTF-8"):
        list_photos(root)


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        ([], "photos of 0 classes"),
        (["a/1.jpg"], "photos of 1 classes"),
        (["a/1.jpg", "b/1.txt"], "photos of 1 classes"),
        (["train/a/1.jpg", "test/a/1.jpg"], "photos of 1 classes"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/c d/1.jpg"], "class 'c d' has no training photos"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/C/1.jpg"], "class 'C' has no training photos"),
    ],
)
def test_folders_that_cannot_be_trained_on_are_refused(paths: list[str], problem: str, tmp_path: Path) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(DatasetError, match=problem) as caught:
        list_photos(tmp_path)
    assert caught.value.remedy
    with pytest.raises(DatasetError, match="is not a folder"):
        list_photos(tmp_path / "nowhere")


def test_metadata_keeps_every_column_that_holds_something(root: Path) -> None:
    assert read_metadata(root, ["a/1.jpg"]) == {}
    table = "\ufefffile_name,patient,age,label,width,\na/1.jpg, p 1 ,40,zz,9,x,stray\n./b\\1.jpg,,,,,\n"
    (root / "metadata.csv").write_text(table, encoding="utf-8")
    assert read_metadata(root, ["a/1.jpg", "b/1.jpg", "b/2.jpg"]) == {
        "a/1.jpg": {"patient": "p 1", "age": "40"},
        "b/1.jpg": {},
    }


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (b"name,patient\na/1.jpg,1\n", "no column file_name"),
        (b"", "no column file_name"),
        (b"file_name,patient\na/9.jpg,1\n", "line 2: no photo 'a/9.jpg'"),
        (b"file_name,patient\n1.jpg,1\n", "line 2: no photo '1.jpg'"),
        (b"file_name,patient\na/1.jpg,1\n./a/1.jpg,2\n", "line 3: 'a/1.jpg' stands there twice"),
        (b"file_name,patient\na/1.jpg,\xff\n", "can't be read"),
    ],
)
def test_bad_metadata_is_refused_by_line(table: bytes, problem: str, root: Path) -> None:
    (root / "metadata.csv").write_bytes(table)
    with pytest.raises(DatasetError, match=f"metadata.csv.*{problem}"):
        read_metadata(root, ["a/1.jpg", "b/1.jpg"])


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("BA- cellulitis", "Cellulitis"),
        ("FU-nail-fungus", "Nail fungus"),
        ("melanoma", "Melanoma"),
        ("basal_cell  carcinoma", "Basal cell carcinoma"),
        ("BA-", "BA-"),
        ("皮膚", "皮膚"),
    ],
)
def test_display_names(label: str, shown: str) -> None:
    assert display_name(label) == shown


def test_rows_come_back(tmp_path: Path) -> None:
    known = {"copy_group": 7, "phash": "00ff" * 4, "jpeg_quality": 90, "ita": -12.34, "skin_tone_estimate": "brown"}
    known |= {"unusable": "too_dark"}
    rows = [
        Row('train/a, "b"/ü 1.jpg', 'a, "b"', "train", "0" * 64, "JPEG", 96, 72, 1234, 0, {"site": "x"}),
        Row("c/1.png", "c", "", "f" * 64, "PNG", 16, 17, 18, 1, {"age": "4", "patient": "p,1"}, **known),  # type: ignore[arg-type]
    ]
    manifest.write(tmp_path / "manifest.csv", rows)
    assert manifest.read(tmp_path / "manifest.csv") == rows
    header = (tmp_path / "manifest.csv").read_text().splitlines()[0]
    assert header == ",".join((*manifest.COLUMNS, "patient", "site", "age"))


@pytest.mark.parametrize(
    "line", ["a/1.jpg,a,,0,JPEG,wide,1,1,0,,,,,,", "a/1.jpg,a,,0,JPEG,1,1", "a/1.jpg,a,,0,JPEG,1,1,1,0,x,,,,,"]
)
def test_a_damaged_manifest_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(",".join(manifest.COLUMNS) + f"\n{line}\n")
    with pytest.raises(RunFolderError, match="spectraderm audit"):
        manifest.read(tmp_path / "manifest.csv")
