from pathlib import Path

import pytest

from spectraderm.core.errors import RunFolderError
from spectraderm.data import manifest
from spectraderm.data.manifest import Row, display_name


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
