import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, paint
from console import call

from spectraderm.core.errors import DatasetError
from spectraderm.core.files import sha256
from spectraderm.core.roots import root_of
from spectraderm.core.run import Run
from spectraderm.data.audit import audit
from spectraderm.data.importers import import_set, read_datasets, read_label_map
from spectraderm.data.layouts import list_photos
from spectraderm.data.public_sets import READERS

CLASSES = {
    *("BA- cellulitis", "BA-impetigo", "FU-athlete-foot", "FU-nail-fungus", "FU-ringworm"),
    *("PA-cutaneous-larva-migrans", "VI-chickenpox", "VI-shingles", "other", ""),
}
FEET, ARM = "body_parts_foot_sole", "body_parts_arm"
SCIN_CASES = f"""case_id,age_group,fitzpatrick_skin_type,{ARM},{FEET},image_1_path,image_2_path,image_3_path
1,AGE_18_TO_29,FST2,,,dataset/images/-10.png,dataset/images/11.png,
2,,FST4,YES,,dataset/images/12.png,,
3,,,,YES,dataset/images/13.png,,dataset/images/14.png
4,,,YES,YES,dataset/images/15.png,,
5,,,,,dataset/images/16.png,,
6,,,,,dataset/images/17.png,,
7,,,,,dataset/images/18.png,,
8,,,,,dataset/images/19.png,,
9,,,,,dataset/images/12.png,dataset/images/gone.png,
"""
SCIN_LABELS = """case_id,weighted_skin_condition_label,dermatologist_fitzpatrick_skin_type_label_1,\
dermatologist_fitzpatrick_skin_type_label_2,dermatologist_fitzpatrick_skin_type_label_3,monk_skin_tone_label_us
1,"{'Herpes Zoster': 0.69, 'Eczema': 0.31}",FST3,FST5,FST5,7.0
2,{'Tinea': 1.0},,,,
3,{'Tinea': 0.8},FST1,,,
4,{'Tinea': 0.8},,,,
5,"{'Impetigo': 0.4, 'Eczema': 0.3, 'Acne': 0.3}",,,,
6,"{'Impetigo': 0.5, 'Eczema': 0.5}",,,,
7,{},,,,
8,{'A new label': 1.0},,,,
9,{'ECZEMA ': 0.9},,,,
"""
METADATA = "patient_id,lesion_id,diagnostic,fitspatrick,img_id,age,gender,region\n"


def lay(root: Path, tables: dict[str, str], photos: str) -> Path:
    """A folder as an owner publishes it: its tables, and a painted photo, another each, at each of these paths."""
    for name, text in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for number, path in enumerate(photos.split()):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encode(paint(number), "PNG" if path.endswith("png") else "JPEG"))
    return root


@pytest.fixture
def scin(tmp_path: Path) -> Path:
    photos = " ".join(f"dataset/images/{name}.png" for name in ("-10", *range(11, 20)))
    return lay(tmp_path / "in", {"dataset/scin_cases.csv": SCIN_CASES, "dataset/scin_labels.csv": SCIN_LABELS}, photos)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "metadata.csv").open(newline="") as stream:
        return {row["file_name"]: row for row in csv.DictReader(stream)}


def photos_of(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.suffix in (".png", ".jpg")}


def test_scin_keeps_cases_together_and_takes_likely_labels_only(scin: Path, tmp_path: Path) -> None:
    facts = import_set("scin", scin, tmp_path / "out")
    lines = rows(tmp_path / "out")
    assert set(lines) == photos_of(tmp_path / "out")
    assert set(lines) == {
        *("VI-shingles/-10.png", "VI-shingles/11.png", "FU-ringworm/12.png", "other/12.png"),
        *("FU-athlete-foot/13.png", "FU-athlete-foot/14.png"),
    }
    assert all(
        (tmp_path / "out" / path).read_bytes() == (scin / "dataset/images" / Path(path).name).read_bytes()
        for path in lines
    )
    one = lines["VI-shingles/11.png"]
    shown = ("source", "lesion", "fitzpatrick", "monk", "original_label", "label_weight", "age")
    assert [one[name] for name in shown] == ["scin", "1", "5", "7", "Herpes Zoster", "0.69", "AGE_18_TO_29"]
    assert [lines[path]["fitzpatrick"] for path in ("FU-ringworm/12.png", "FU-athlete-foot/13.png")] == ["4", "1"]
    assert facts["classes"] == {"FU-athlete-foot": 2, "FU-ringworm": 1, "VI-shingles": 2, "other": 1}
    assert facts["left_out"] == {
        "its label is left out": 1,
        "likeliest label weighs less than 0.5": 1,
        "two labels weigh the same": 1,
        "no dermatologist's label": 1,
        "no line for its label": 1,
        "missing": 1,
    }
    assert facts["missing"] == ["gone.png"]
    assert {"original": "A new label", "label": None, "listed": False, "photos": 1} in facts["labels"]
    assert facts == json.loads((tmp_path / "out/dataset.json").read_text())
    lower = import_set("scin", scin, tmp_path / "lower", min_weight=0.3)
    assert lower["classes"]["BA-impetigo"] == 1


def test_of_files_of_one_name_none_is_taken_by_chance(scin: Path, tmp_path: Path) -> None:
    again = scin / "again/12.png"
    again.parent.mkdir()
    again.write_bytes((scin / "dataset/images/12.png").read_bytes())
    assert import_set("scin", scin, tmp_path / "same")["classes"]["FU-ringworm"] == 1
    again.write_bytes(b"another")
    with pytest.raises(DatasetError, match=r"again/12.png and .*images/12.png differ, and either may be '12.png'"):
        import_set("scin", scin, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_audit_joins_cases_and_copies_and_takes_the_licence_along(scin: Path, tmp_path: Path) -> None:
    import_set("scin", scin, tmp_path / "out")
    found = audit(tmp_path / "out", Run(tmp_path / "run"))
    groups: dict[str, int] = {row.path: row.photo_group for row in found.rows}
    assert groups["VI-shingles/-10.png"] == groups["VI-shingles/11.png"]
    assert groups["FU-athlete-foot/13.png"] == groups["FU-athlete-foot/14.png"]
    assert groups["FU-ringworm/12.png"] == groups["other/12.png"]  # one file, which two cases list
    assert len(set(groups.values())) == 3
    assert {row.metadata["original_label"] for row in found.rows} == {
        "Herpes Zoster",
        "Tinea",
        "Tinea (foot)",
        "ECZEMA",
    }
    [dataset] = Run(tmp_path / "run").audit["datasets"]
    assert (dataset["name"], dataset["licence"]) == ("scin", "SCIN Data Use License")
    assert dataset["redistributable_training"] is True
    assert "Ward" in dataset["citation"]


SETS: dict[str, tuple[dict[str, str], str, dict[str, int], bool]] = {
    "fitzpatrick17k": (
        {
            "fitzpatrick17k.csv": "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,three_partition_label,qc,url\n"
            "aa,3,2,psoriasis,non-neoplastic,,\nbb,-1,4,scabies,non-neoplastic,,\n"
            "cc,1,1,nematode infection,non-neoplastic,,\n"
        },
        "images/aa.jpg images/bb.jpg images/cc.jpg",
        {"other": 2},
        False,
    ),
    "pad-ufes-20": (
        {
            "PAD/metadata.csv": f"{METADATA}PAT_1,7,NEV,2.0,PAT_1_7_1.png,30,MALE,ARM\n"
            "PAT_1,8,BCC,2.0,PAT_1_8_2.png,30,MALE,ARM\nPAT_2,9,ACK,,PAT_2_9_3.png,60,,FACE\n"
        },
        "PAD/images/imgs_part_1/PAT_1_7_1.png PAD/images/imgs_part_2/PAT_1_8_2.png "
        "PAD/images/imgs_part_3/PAT_2_9_3.png",
        {"other": 3},
        True,
    ),
    "ddi": (
        {
            "ddi_metadata.csv": ",DDI_ID,DDI_file,skin_tone,malignant,disease\n"
            "0,1,000001.png,56,True,melanoma-in-situ\n"
            "1,2,000002.png,12,False,onychomycosis\n2,3,000003.png,34,False,tinea-pedis\n"
        },
        "000001.png 000002.png 000003.png",
        {"FU-athlete-foot": 1, "FU-nail-fungus": 1, "other": 1},
        False,
    ),
    "ham10000": (
        {
            "HAM10000_metadata": "lesion_id\timage_id\tdx\tdx_type\tage\tsex\tlocalization\n"
            "HAM_1\tISIC_1\tbkl\thisto\t80\tmale\tscalp\n"
            "HAM_1\tISIC_2\tbkl\thisto\t80\tmale\tscalp\nHAM_2\tISIC_3\tnv\thisto\t\t\tback\n"
        },
        "HAM10000_images_part_1/ISIC_1.jpg HAM10000_images_part_2/ISIC_2.jpg HAM10000_images_part_2/ISIC_3.jpg",
        {"other": 3},
        False,
    ),
    "isic": (
        {
            "metadata.csv": "isic_id,attribution,copyright_license,diagnosis_1,diagnosis_3,lesion_id,patient_id,"
            "fitzpatrick_skin_type\n"
            "ISIC_1,A,CC-0,Benign,Nevus,IL_1,IP_1,IV\nISIC_2,B,CC-BY,Malignant,Onychomycosis,IL_2,IP_1,\n"
            "ISIC_3,B,CC-BY-NC,,,,,\n"
        },
        "ISIC_1.jpg ISIC_2.jpg ISIC_3.jpg",
        {"FU-nail-fungus": 1, "other": 1},
        True,
    ),
    "reference": (
        {"archive/train_set/BA-impetigo/.DS_Store": "x"},
        "archive/train_set/BA-impetigo/1.jpg archive/test_set/BA-impetigo/1.jpg archive/train_set/BA-cellulitis/1.jpg "
        "archive/train_set/scars/1.jpg",
        {"BA- cellulitis": 1, "BA-impetigo": 2},
        False,
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_each_published_layout_is_read(name: str, tmp_path: Path) -> None:
    tables, photos, classes, may = SETS[name]
    facts = import_set(name, lay(tmp_path / "in", tables, photos), tmp_path / "out")
    lines = rows(tmp_path / "out")
    assert set(lines) == photos_of(tmp_path / "out")
    assert facts["classes"] == classes
    assert facts["redistributable_training"] is may
    assert Counter(path.split("/")[-2] for path in lines) == classes
    assert {line["source"] for line in lines.values()} == {name}
    assert set(read_label_map(name).values()) <= CLASSES
    told = {
        "fitzpatrick17k": ({"3", "4"}, {""}, {""}),
        "pad-ufes-20": ({"2", ""}, {"PAT_1", "PAT_2"}, None),
        "ddi": ({"1-2", "3-4", "5-6"}, {""}, {""}),
        "ham10000": ({""}, {""}, {"HAM_1", "HAM_2"}),
        "isic": ({"4", ""}, {"IP_1"}, {"IL_1", "IL_2"}),
        "reference": ({""}, {""}, {""}),
    }[name]
    for column, values in zip(("fitzpatrick", "patient", "lesion"), told, strict=True):
        assert values is None or {line[column] for line in lines.values()} == values


def test_the_reference_keeps_its_own_split(tmp_path: Path) -> None:
    tables, photos, *_ = SETS["reference"]
    facts = import_set("reference", lay(tmp_path / "in", tables, photos), tmp_path / "out")
    assert {(row.label, row.given_split) for row in list_photos(tmp_path / "out").photos} == {
        *(("BA-impetigo", "train"), ("BA-impetigo", "test"), ("BA- cellulitis", "train"))
    }
    assert facts["left_out"] == {"no line for its label": 1}


def test_isic_photos_bear_their_own_licences(tmp_path: Path) -> None:
    tables, photos, *_ = SETS["isic"]
    text = tables["metadata.csv"].replace("CC-0", "CC-BY-NC")
    facts = import_set("isic", lay(tmp_path / "in", {"metadata.csv": text}, photos), tmp_path / "out")
    assert facts["redistributable_training"] is False
    assert facts["licence"] == "CC-BY-NC (1 photos), CC-BY (1 photos)"
    assert rows(tmp_path / "out")["FU-nail-fungus/ISIC_2.jpg"]["attribution"] == "B"


def test_the_table_of_labels_can_be_overridden_and_is_kept(scin: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("original,label\nherpes  zoster,\nTinea,psoriasis\n*,other\n")
    facts = import_set("scin", scin, tmp_path / "out", own)
    assert facts["classes"] == {"FU-athlete-foot": 2, "other": 2, "psoriasis": 1}
    assert facts["left_out"]["its label is left out"] == 3
    kept = (tmp_path / "out/label_map.csv").read_bytes()
    assert sha256(kept) == facts["label_map_sha256"]
    again = import_set("scin", scin, tmp_path / "again", tmp_path / "out/label_map.csv")
    assert (again["classes"], again["label_map_sha256"]) == (facts["classes"], facts["label_map_sha256"])
    for label in ("a/b", "..", "Test"):
        own.write_text(f"original,label\nTinea,{label}\n")
        with pytest.raises(DatasetError, match=r"own\.csv: .* (can't be a class|name of a split)"):
            import_set("scin", scin, tmp_path / "wrong", own)
    own.write_text("from,to\nTinea,x\n")
    with pytest.raises(DatasetError, match=r"no column original.*must be original,label"):
        import_set("scin", scin, tmp_path / "wrong", own)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_is_not_as_published_says_so_and_writes_nothing(scin: Path, tmp_path: Path) -> None:
    out, cases, labels = tmp_path / "out", scin / "dataset/scin_cases.csv", scin / "dataset/scin_labels.csv"

    def refused(match: str, name: str = "scin", **changes: Any) -> None:  # noqa: ANN401
        with pytest.raises(DatasetError, match=match):
            import_set(name, **({"folder": scin, "out": out} | changes))
        assert not out.exists()

    refused(", ".join(READERS), "scan")
    refused("no ddi_metadata.csv", "ddi")
    refused("no folder train_set", "reference")
    refused("not a folder", folder=tmp_path / "gone")
    refused("Leave --min-weight out", "isic", min_weight=0.5)
    refused("is not empty", out=scin)
    refused("only read", out=scin / "new")
    unknown = lay(tmp_path / "unknown", {}, "train_set/scars/1.jpg")
    refused(r"no photo of .* can be used \(no line for its label: 1\)", "reference", folder=unknown)
    edit(labels, "{'Tinea': 1.0}", "Tinea")
    refused("weighted labels of case 2")
    edit(cases, "case_id,", "id,")
    refused("has no column case_id")
    cases.write_bytes(b"\x81")
    refused("can't be read")


def test_photos_that_all_lack_are_an_error(scin: Path, tmp_path: Path) -> None:
    for photo in (scin / "dataset/images").iterdir():
        photo.rename(photo.with_suffix(".txt"))
    with pytest.raises(DatasetError, match=r"none of the 7 photos that its table names, such as -10\.png"):
        import_set("scin", scin, tmp_path / "out")


def test_the_command_tells_what_became_of_the_photos(scin: Path, tmp_path: Path) -> None:
    done = call("import", "scin", scin, "--out", tmp_path / "out")
    assert (done.code, done.out) == (0, "")
    assert "      2 VI-shingles" in done.err
    assert "      1 left out: no line for its label" in done.err
    assert "first gone.png" in done.err
    assert "are left out; --label-map says otherwise: A new label (1)" in done.err
    assert "SCIN Data Use License" in done.err
    tables, photos, *_ = SETS["ddi"]
    done = call("import", "ddi", lay(tmp_path / "ddi", tables, photos), "--out", tmp_path / "ddi-out")
    assert "became other; --label-map says otherwise: melanoma-in-situ (1)" in done.err
    assert "may not be passed on" in done.err
    assert call("import", "scan", scin, "--out", tmp_path / "no").err.startswith("error: there is no set 'scan'")


def test_licences_of_folders_and_of_folders_in_them_are_read(scin: Path, tmp_path: Path) -> None:
    import_set("scin", scin, tmp_path / "all/scin")
    (tmp_path / "all/mine").mkdir()
    (tmp_path / "all/mine/dataset.json").write_text('{"name": "mine", "redistributable_training": "yes"}')
    assert read_datasets(tmp_path / "in") == []
    mine, theirs = read_datasets(tmp_path / "all")
    assert (mine["name"], mine["redistributable_training"], mine["citation"]) == ("mine", False, "")
    assert theirs == read_datasets(root_of([tmp_path / "all/scin", tmp_path / "in"]))[0]
