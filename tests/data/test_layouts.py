import os
from pathlib import Path

import pytest
from conftest import encode, paint

from spectraderm.core.errors import DatasetError
from spectraderm.core.roots import Folders, from_facts, root_of, to_facts, with_other
from spectraderm.data.layouts import list_photos, source_folders
from spectraderm.images.photo_files import DEBRIS, OWN, LeftOut
from spectraderm.inference.photo_paths import walk

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
    others = ["train/a/noend", "train/a/notes.txt"]
    assert sorted(found.other_files) == ["loose.jpg", *others, "train/loose.png"]


@pytest.mark.parametrize(
    ("paths", "problem", "remedy"),
    [
        (["c/1.avif", "c/2.avif"], "c is a class without a photo: it holds 2 files of a type", "Convert them"),
        (["c/1.DNG"], "1 files of a type", "Convert them"),
        (["c/anna/1.jpg", "c/bert/1.jpg"], "it holds 2 folders of photos, such as c/anna", "Move the photos up"),
    ],
)
def test_a_class_of_which_no_photo_is_read_does_not_vanish(
    paths: list[str], problem: str, remedy: str, root: Path
) -> None:
    touch(root, *paths)
    with pytest.raises(DatasetError, match=problem) as caught:
        list_photos(root)
    assert remedy in caught.value.remedy
    touch(root, "c/9.jpg")
    assert len(list_photos(root).photos) == 3


def test_a_folder_of_nothing_that_may_be_a_photo_is_told(root: Path) -> None:
    touch(root, "docs/readme.txt")
    (root / "c").mkdir()
    assert list(list_photos(root).empty) == ["c", "docs"]


def test_a_file_without_suffix_is_a_photo_by_how_it_begins(root: Path) -> None:
    (root / "a" / "scan").write_bytes(encode(paint(0)))
    (root / "a" / "note").write_bytes(b"I am none")
    found = list_photos(root)
    assert [photo.path for photo in found.photos] == ["a/1.jpg", "a/scan", "b/1.jpg"]
    assert found.other_files == ["a/note"]


def test_what_systems_and_we_leave_is_no_class_and_no_photo(root: Path) -> None:
    junk = ["@eaDir/1.jpg", "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/a/1.jpg", "a/._1.jpg", "b/Thumbs.db"]
    touch(root, *junk, "$RECYCLE.BIN/1.jpg", "a/SYNOPHOTO_THUMB_S.jpg", ".DS_Store", "a/.ipynb_checkpoints/1.jpg")
    own = ["run/manifest.csv", "run/checksums.txt", "run/curves.png", "m/spectraderm.json", "m/roc.png"]
    touch(root, *own, "out/job.json", "out/predictions/part-000000.parquet", "s/space.json", "s/README.md", "s/x.png")
    found = list_photos(root)
    assert (found.photos, found.other_files, found.nested, found.empty) == (PLAIN, [], [], {})
    assert found.left_out == {
        DEBRIS: [
            *("$RECYCLE.BIN", "@eaDir", "__MACOSX", "a/._1.jpg", "a/.ipynb_checkpoints", "a/@eaDir"),
            *("a/SYNOPHOTO_THUMB_S.jpg", "b/Thumbs.db"),
        ],
        OWN: ["m", "out", "run", "s"],
    }
    left = LeftOut(list)
    assert list(walk(str(root), left)) == [str(root / "a/1.jpg"), str(root / "b/1.jpg")]
    assert {why: len(paths) for why, paths in left.items()} == {DEBRIS: 8, OWN: 4}
    assert list(walk(f"{root}/**/*.jpg")) == [str(root / "a/1.jpg"), str(root / "b/1.jpg")]
    assert list(walk(f"{root}/@eaDir/*.jpg")) == [str(root / "@eaDir/1.jpg")]  # asked for by name


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


TWO_SETS = ("A/x/1.jpg", "A/y/1.jpg", "B/train/x/1.jpg", "B/test/x/2.jpg", "B/test/y z/3.jpg", "B/train/y z/4.jpg")


def test_folders_of_one_parent_are_sources(tmp_path: Path) -> None:
    touch(tmp_path, *TWO_SETS, "A/metadata.csv", "A/x/deep/1.jpg", "papers/notes.txt", "loose.jpg")
    listed = list_photos(tmp_path)
    assert source_folders(tmp_path) == listed.sources == ["A", "B"]
    assert listed.photos == [
        ("A/x/1.jpg", "x", ""),
        ("A/y/1.jpg", "y", ""),
        ("B/test/x/2.jpg", "x", "test"),
        ("B/test/y z/3.jpg", "y z", "test"),
        ("B/train/x/1.jpg", "x", "train"),
        ("B/train/y z/4.jpg", "y z", "train"),
    ]
    assert (listed.source_of("B/test/x/2.jpg"), listed.nested) == ("B", ["A/x/deep", "papers"])
    assert listed.other_files == ["A/metadata.csv", "loose.jpg"] or "loose.jpg" in listed.other_files


@pytest.mark.parametrize(
    "paths",
    [
        ["a/1.jpg", "b/1.jpg"],
        ["a/1.jpg", "a/deep/1.jpg", "b/deep/1.jpg", "b/2.jpg"],  # today's layouts, with folders too deep
        ["a/1.jpg", "B/x/1.jpg", "C/x/1.jpg"],
        ["train/a/1.jpg", "train/b/1.jpg", "B/a/1.jpg", "C/a/1.jpg"],
        ["train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/b/1.jpg"],
        ["a/train/1.jpg", "b/train/1.jpg"],
        ["psoriasis/p1/1.jpg", "psoriasis/p2/1.jpg", "acne/p3/1.jpg"],  # a folder for each patient
        ["psoriasis/01/1.jpg", "acne/01/1.jpg"],
        ["all/a/1.jpg", "all/b/1.jpg"],
        ["A/x/1.jpg", "B/x/1.jpg", "C/other/1.jpg"],
    ],
)
def test_what_may_be_one_data_set_is_not_taken_for_sources(paths: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *paths)
    assert source_folders(tmp_path) == []


def test_folders_of_folders_that_may_be_sources_are_refused_with_the_way_out(tmp_path: Path) -> None:
    touch(tmp_path, "psoriasis/p1/1.jpg", "psoriasis/p2/1.jpg", "acne/p3/1.jpg")
    with pytest.raises(DatasetError, match="0 classes") as caught:
        list_photos(tmp_path)
    assert "give them one by one" in caught.value.remedy


def test_folders_given_one_by_one_are_sources_wherever_they_lie(tmp_path: Path) -> None:
    touch(tmp_path, "one/A/x/1.jpg", "two/test/x/1.jpg", "two/test/y/2.png", "two/train/x/3.jpg", "one/A/x/no.txt")
    touch(tmp_path, "two/train/y/4.jpg", "two/extra/y/5.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "two")
    root = root_of([tmp_path / "link", tmp_path / "one/A"])
    listed = list_photos(root)
    assert listed.sources == ["A", "link"]
    expected = ["A/x/1.jpg", "link/test/x/1.jpg", "link/test/y/2.png", "link/train/x/3.jpg", "link/train/y/4.jpg"]
    assert [photo.path for photo in listed.photos] == expected
    assert all((root / path).is_file() for path in expected)
    assert (listed.other_files, listed.nested) == (["A/x/no.txt"], ["link/extra"])
    facts = to_facts(root)
    assert facts == {
        "root": str(tmp_path),
        "roots": {"A": str(tmp_path / "one/A"), "link": str(tmp_path / "link")},
    }
    assert from_facts(facts) == root == root_of([tmp_path / "one/A", tmp_path / "link"])
    assert root_of([tmp_path]) == root_of(tmp_path) == from_facts({"root": str(tmp_path)}) == tmp_path


def test_folders_that_cannot_be_sources_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/A/x/1.jpg", "two/A/x/1.jpg", "empty/readme.txt", "B/x/1.jpg", "B/test/C/1.jpg")
    one = tmp_path / "one/A"
    with pytest.raises(DatasetError, match="both named 'A'") as caught:
        root_of([one, tmp_path / "two/A"])
    assert "link" in caught.value.remedy
    for twice in (tmp_path / "one", one / "x"):
        with pytest.raises(DatasetError, match="hold the same photos"):
            root_of([one, twice])
    with pytest.raises(DatasetError, match="empty holds no photos in class folders"):
        list_photos(root_of([one, tmp_path / "empty"]))
    with pytest.raises(DatasetError, match="is not a folder"):
        list_photos(Folders({"A": one, "B": tmp_path / "nowhere"}))
    with pytest.raises(DatasetError, match="class 'C' has no training photos"):
        list_photos(root_of([one, tmp_path / "B"]))


def test_other_is_one_class_however_it_is_written_and_does_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "OTHER/1.jpg", "Other/2.jpg", "others/3.jpg")
    labels = {path: label for path, label, _ in list_photos(tmp_path).photos}
    assert [labels[path] for path in ("OTHER/1.jpg", "Other/2.jpg", "others/3.jpg")] == ["other", "other", "others"]
    touch(tmp_path / "few", "a/1.jpg", "Other/2.jpg")
    with pytest.raises(DatasetError, match="photos of 1 classes beside 'other', two are needed"):
        list_photos(tmp_path / "few")


def test_a_folder_of_others_may_lie_in_any_way(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.jpg", "set/b/1.jpg")
    touch(
        tmp_path, "nails/1.jpg", "nails/healthy/deep/2.PNG", "nails/test/x/3.jpg", "nails/notes.txt", "nails/.h/4.jpg"
    )
    (tmp_path / "nails/healthy/up").symlink_to("..")
    root = with_other([tmp_path / "set"], tmp_path / "nails")
    listed = list_photos(root_of(root))
    assert listed.photos == [
        ("nails/1.jpg", "other", ""),
        ("nails/healthy/deep/2.PNG", "other", ""),
        ("nails/test/x/3.jpg", "other", "test"),
        ("set/a/1.jpg", "a", ""),
        ("set/b/1.jpg", "b", ""),
    ]
    assert sorted(listed.other_files) == ["nails/healthy/up", "nails/notes.txt"]
    assert from_facts(to_facts(root_of(root))) == root
    assert with_other([tmp_path / "set"], None) == [tmp_path / "set"]
    touch(tmp_path, "empty/notes.txt")
    for folder, problem in (("set", "hold the same photos"), ("empty", "holds no photos"), ("lost", "not a folder")):
        with pytest.raises(DatasetError, match=problem):
            list_photos(root_of(with_other([tmp_path / "set"], tmp_path / folder)))


CAFE, DECOMPOSED = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"


@pytest.mark.parametrize(
    ("paths", "labels", "joined"),
    [
        (["train/Melanoma/1.jpg", "train/b/1.jpg", "test/melanoma/2.jpg"], {"Melanoma", "b"}, ["test/melanoma"]),
        (["train/x/1.jpg", "train/b/1.jpg", "dev/X /2.jpg", "test/_x/1.jpg"], {"x", "b"}, ["dev/X ", "test/_x"]),
        ([f"{CAFE}/1.jpg", f"{DECOMPOSED}/1.jpg", "b/1.jpg"], {CAFE, "b"}, [DECOMPOSED]),
        (["A/Nail fungus/1.jpg", "A/b/1.jpg", "B/nail-fungus/1.jpg", "B/B/2.jpg"], {"Nail fungus", "b"},
         ["B/B", "B/nail-fungus"]),
        (["a ;b/1.jpg", "1.5 mm/1.jpg", "15 mm/1.jpg"], {"a ;b", "1.5 mm", "15 mm"}, []),
    ],
)  # fmt: skip
def test_one_class_in_two_places_is_joined_and_told(
    paths: list[str], labels: set[str], joined: list[str], tmp_path: Path
) -> None:
    touch(tmp_path, *paths)
    listed = list_photos(tmp_path)
    assert {photo.label for photo in listed.photos} == labels
    assert [line.partition(" is ")[0] for line in sorted(listed.joined)] == sorted(joined)
    assert (sorted(photo.path for photo in listed.photos), listed.alike) == (sorted(paths), [])


def test_names_beside_each_other_that_only_look_alike_stay_two_and_are_told(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "test") for name in ("Melanoma", "melanoma", "b")))
    listed = list_photos(tmp_path)
    assert {photo.label for photo in listed.photos} == {"Melanoma", "melanoma", "b"}
    assert listed.alike == ["train/Melanoma", "train/melanoma", "test/Melanoma", "test/melanoma"]
    assert listed.joined == []


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (["cat/1.jpg", "train/1.jpg"], "train"),
        (["cat/1.jpg", "Test/1.jpg", "dev/1.jpg"], "Test"),
        (["train/test/1.jpg", "train/b/1.jpg"], "'test'"),
        (["train/train_set/a/1.jpg", "train/train_set/b/1.jpg"], "'train_set'"),
        (["test/VAL/1.jpg", "train/VAL/1.jpg", "train/b/1.jpg"], "'VAL'"),
        (["a\nb/1.jpg", "c/1.jpg"], r"'a\\nb'"),
        (["train/a\x1b[2J/1.jpg", "train/b/1.jpg"], r"'a\\x1b\[2J'"),
        ([f"{'x' * 201}/1.jpg", "b/1.jpg"], "201 characters"),
    ],
)  # fmt: skip
def test_a_class_named_as_a_split_or_that_no_line_can_show_is_refused(
    paths: list[str], named: str, tmp_path: Path
) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(DatasetError, match=named) as caught:
        list_photos(tmp_path)
    assert caught.value.remedy


def test_a_test_folder_without_classes_beside_training_folders_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg")
    assert list_photos(tmp_path).other_files == ["test/1.jpg"]
