import codecs
from pathlib import Path

import pytest

from spectraderm.core import tables
from spectraderm.core.errors import DatasetError
from spectraderm.core.tables import USUAL, parse, read_label_map
from spectraderm.data.photo_tables import match_photos, tidy

ROWS = [{"file_name": "a/1.jpg", "Patient ID": "Jörg, 1"}, {"file_name": "a/2.jpg"}]
COMMAS = 'file_name,Patient ID\na/1.jpg,"Jörg, 1"\n\na/2.jpg,\n'


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (COMMAS.encode(), "x.csv"),
        (codecs.BOM_UTF8 + COMMAS.replace("\n", "\r\n").encode(), "x.csv"),
        (COMMAS.replace("\n", "\r").encode("utf-16"), "x.txt"),
        (codecs.BOM_UTF16_BE + COMMAS.encode("utf-16-be"), "x.CSV"),
        (COMMAS.encode("cp1252"), "x.csv"),
        (COMMAS.replace("ö", "o\u0308").encode(), "x.csv"),
        (b'sep=;\r\n file_name ; "Patient ID" \r\na/1.jpg; J\xc3\xb6rg, 1\r\na/2.jpg;\r\n', "x.csv"),
        ("file_name\tPatient ID\t\na/1.jpg\tJörg, 1\t\t\na/2.jpg\t\t\n".encode(), "x.tab"),
        ("file_name|Patient ID\na/1.jpg|Jörg, 1\na/2.jpg|\n".encode(), "x.csv"),
        ("\n\ufefffile_name, Patient ID\n\u200ba/1.jpg, \"Jörg, 1\"  \n,\na/2.jpg, \u00a0\n".encode(), "x.csv"),
        ('{"file_name": "a/1.jpg", "Patient ID": "Jörg, 1"}\n\n{"file_name": "a/2.jpg"}'.encode(), "x.jsonl"),
        (b'[{"file_name": "a/1.jpg", "Patient ID": "J\\u00f6rg, 1"}, {"file_name": "a/2.jpg"}]', "x.json"),
    ],
)  # fmt: skip
def test_what_programs_save_is_one_table(data: bytes, name: str) -> None:
    table = parse(data, Path(name))
    assert [line.cells for line in table.lines] == ROWS
    assert table.columns == [*ROWS[0]]
    assert table.named(USUAL["patient"]) == ["Patient ID"]
    assert table.encoding == ("Windows-1252" if b"J\xf6rg" in data else "")


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        (b"PK\3\4\0\0", "x.csv", "zero bytes"),
        (COMMAS.encode("utf-16-le"), "x.csv", "zero bytes"),
        (b"file_name\n\x81\n", "x.csv", "neither UTF-8"),
        (codecs.BOM_UTF16_LE + b"\0\xd8", "x.csv", "neither UTF-8"),
        (b"\n \n", "x.csv", "empty"),
        (b"file_name,Age, age\n", "x.csv", "two columns 'Age'"),
        (b"file_name,age\na,1\nb,1,2\n", "x.csv", "line 3, has 3 cells, its header has 2"),
        (b"file_name,age,sex\n\na,1\n", "x.csv", "line 3, has 2 cells"),
        (b'file_name,age\n"a,1\nb,2\n', "x.csv", "line 3, can't be read"),
        (b'{"a": 1}\n{"a": \n', "x.jsonl", "line 2, is not JSON"),
        (b'{"a": 1, "a": 2}\n', "x.jsonl", "line 1, has two columns 'a'"),
        (b"[1]\n", "x.jsonl", "line 1, is no object"),
        (b'{"a": [1]}', "x.json", "no object"),
        (b"[" * 10**5, "x.json", "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_by_line(data: bytes, name: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name}.*{problem}"):
        parse(data, Path(name))


def test_headers_go_by_the_usual_names() -> None:
    headers = "isic_id,Image,PATIENT-ID,lesionID,Fitzpatrick_Skin_Type,dx,Source ,site,patient"
    table = parse(headers.encode(), Path("x.csv"))
    named = {name: table.named(names) for name, names in USUAL.items()}
    assert named == {
        "file_name": ["Image", "isic_id"],
        "patient": ["patient", "PATIENT-ID"],
        "lesion": ["lesionID"],
        "group": [],
        "source": ["Source"],
        "fitzpatrick": ["Fitzpatrick_Skin_Type"],
        "monk": [],
        "label": ["dx"],
    }


UNKNOWN = ["NA", "n/a", "#N/A", "<NA>", "NaN", "None", "NULL", "Unknown", "-", "--", "?", "-1", "-999.0"]


@pytest.mark.parametrize("value", ["", *UNKNOWN])
def test_what_says_nothing_is_unknown(value: str) -> None:
    assert tables.is_unknown(value)


@pytest.mark.parametrize("value", ["0", "1", "-12", "Nan Li", "U", "7", "unknown 1", "IP_1"])
def test_a_name_is_known(value: str) -> None:
    assert not tables.is_unknown(value)


def test_floats_are_ids_and_leading_zeros_stay() -> None:
    assert [tables.as_id(value) for value in ("3.0", "3", "007", "3.5", "P3.0", "12.00")] == [
        *("3", "3", "007", "3.5", "P3.0", "12")
    ]


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("train/a/1.jpg", "train/a/1.jpg"),
        ("C:\\set\\train\\a\\1.jpg", "train/a/1.jpg"),
        ("/data/test/./b//4.JPG", "test/b/4.jpg"),
        ("b/4.jpg", "test/b/4.jpg"),
        ("4.jpg", "test/b/4.jpg"),
        ("4", "test/b/4.jpg"),
        ("4.png", "test/b/4.jpg"),
        ("other folder/4.jpg", "test/b/4.jpg"),
        ("a/4.jpg", None),
        ("1.jpg", None),
        ("a/1.jpg", None),
        ("5.2.1", "test/b/5.2.1.jpg"),
        ("Zoe\u0308.jpg", "test/b/zoë.jpg"),
        ("no.jpg", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_line_is_of_the_only_photo_that_fits(name: str, photo: str | None) -> None:
    photos = ["train/a/1.jpg", "test/a/1.jpg", "test/b/4.jpg", "test/b/5.2.1.jpg", "test/b/zoë.jpg"]
    name = tidy(name)
    assert match_photos([name], photos).get(name) == photo


def test_an_exact_name_goes_before_and_two_names_of_one_photo_are_nobodys() -> None:
    assert match_photos(["1.jpg", "x/1.jpg"], ["1.jpg", "b/2.jpg"]) == {"1.jpg": "1.jpg"}
    assert match_photos(["x/2.jpg", "y/2.jpg"], ["b/2.jpg"]) == {}


@pytest.mark.parametrize(
    "data",
    [
        "\ufefffolder;label\r\na b; x\r\nc/;\r\n".encode(),
        b"Original,Label\n a b ,x\nc,\n",
        b"sep=;\nDirectory;Class\na b;x\na b;x\nc;\n",
        "folder\tlabel\na b\tx\nc\t\n".encode("utf-16"),
    ],
)
def test_a_label_map_of_any_program_is_read(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_bytes(data)
    assert read_label_map(tmp_path / "map.csv") == {"a b": "x", "c": ""}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"folder,label\na,x\na,y\n", r"line 3: 'a' is 'y', and 'x' before"),
        (b"a,x\nb,y\n", "no column folder, but a, x.*must be folder,label"),
        (b"folder,to\na,x\n", "no column label"),
    ],
)
def test_a_label_map_that_says_two_things_is_refused(data: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=problem):
        read_label_map(tmp_path / "map.csv")
