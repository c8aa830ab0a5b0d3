from pathlib import Path

import pytest

from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.data import manifest
from spectraderm.data.manifest import Row, display_name, read_metadata


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


def test_each_source_has_its_own_table_and_patients(tmp_path: Path) -> None:
    touch(tmp_path, "A/x/1.jpg", "B/x/1.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,source,patient,age\nA/x/1.jpg,clinic,7,4\n")
    paths = ["A/x/1.jpg", "B/x/1.jpg"]
    whole = {"A/x/1.jpg": {"source": "clinic", "patient": "7", "age": "4"}}
    assert read_metadata(tmp_path, paths, ["A", "B"]) == whole
    (tmp_path / "A/metadata.csv").write_text("file_name,patient,age\nx/1.jpg,9,5\n")
    (tmp_path / "B/metadata.csv").write_text("file_name,patient\nx/1.jpg,9\n")
    own = {"A/x/1.jpg": {"source": "clinic", "patient": "A/9", "age": "5"}, "B/x/1.jpg": {"patient": "B/9"}}
    assert read_metadata(tmp_path, paths, ["A", "B"]) == own
    with pytest.raises(DatasetError, match=r"B/metadata\.csv, line 2: no photo 'x/1.jpg'"):
        read_metadata(tmp_path, ["A/x/1.jpg"], ["A", "B"])


def test_rows_come_back(tmp_path: Path) -> None:
    known = {"copy_group": 7, "phash": "00ff" * 4, "jpeg_quality": 90, "ita": -12.34, "skin_tone_estimate": "brown"}
    known |= {"unusable": "too_dark", "source": "clinic, A"}
    rows = [
        Row('train/a, "b"/ü 1.jpg', 'a, "b"', "train", "0" * 64, "JPEG", 96, 72, 1234, 0, {"site": "x"}),
        Row("c/1.png", "c", "", "f" * 64, "PNG", 16, 17, 18, 1, {"age": "4", "patient": "p,1"}, **known),  # type: ignore[arg-type]
    ]
    manifest.write(tmp_path / "manifest.csv", rows)
    assert manifest.read(tmp_path / "manifest.csv") == rows
    header = (tmp_path / "manifest.csv").read_text().splitlines()[0]
    assert header == ",".join((*manifest.COLUMNS, "patient", "site", "age"))


def test_a_manifest_of_an_earlier_version_has_no_sources(tmp_path: Path) -> None:
    columns = [name for name in manifest.COLUMNS if name != "source"]
    cells = ["a/1.jpg", "a", "", "0" * 64, "JPEG", "96", "72", "1000", "0"]
    lines = [",".join(columns), ",".join(cells + [""] * (len(columns) - len(cells)))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    assert manifest.read(tmp_path / "manifest.csv") == [Row("a/1.jpg", "a", "", "0" * 64, "JPEG", 96, 72, 1000, 0)]


@pytest.mark.parametrize(
    "line",
    ["a/1.jpg,a,,,0,JPEG,wide,1,1,0,,,,,,", "a/1.jpg,a,,,0,JPEG,1,1", "a/1.jpg,a,,,0,JPEG,1,1,1,0,x,,,,,"],
)
def test_a_damaged_manifest_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(",".join(manifest.COLUMNS) + f"\n{line}\n")
    with pytest.raises(RunFolderError, match="spectraderm audit"):
        manifest.read(tmp_path / "manifest.csv")
