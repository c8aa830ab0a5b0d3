"""Every door: the same fields, the same numbers for the same bytes, and no more modules than it takes."""

import csv
import dataclasses
import importlib.util
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encode, paint
from console import call, entered_by
from dependencies import imported
from handmade import LABELS, calibration, write_model
from hostile import heic
from PIL import Image

import spectraderm
from spectraderm.data.synthetic import paint_photo
from spectraderm.images.decoding import open_photo

WEB = Path(__file__).parents[1] / "web" / "src"
OF_TYPE: dict[object, str] = {
    str | None: "string | null",
    float | None: "number | null",
    float: "number",
    bool: "boolean",
    list[str]: "string[]",
    dict[str, float]: "Record<string, number>",
    list[list[float]]: "number[][]",
}
"""TypeScript's types of Python's; any other is a string."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that decoders are known to differ on."""
    root = tmp_path_factory.mktemp("photos")
    photo = paint_photo("FU-ringworm", np.random.default_rng(4), (230, 170))
    exif = photo.getexif()
    exif[0x0112] = 6
    alpha = photo.copy()
    alpha.putalpha(paint(5, photo.size).convert("L"))
    files = {
        "plain.jpg": encode(photo, quality=85),
        "turned.jpg": encode(photo, exif=exif),
        "cmyk.jpg": encode(photo.convert("CMYK")),
        "alpha.png": encode(alpha, "PNG"),
        "palette.gif": encode(photo, "GIF"),
        "modern.webp": encode(photo, "WEBP", quality=70),
        "packed.tiff": encode(photo, "TIFF", compression="tiff_lzw"),
        "grey.bmp": encode(photo.convert("L"), "BMP"),
        "deep.png": encode(Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 200), "PNG"),
    }
    if importlib.util.find_spec("pillow_heif"):  # opened by each door itself: nothing is registered here
        files["phone.heic"] = heic(photo)
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    both = {"calibration": calibration(len(LABELS), elsewhere={"temperature": 3.0})}
    return write_model(tmp_path_factory.mktemp("m") / "model", facts=both)


def printed(*arguments: object, stdin: bytes = b"") -> str:
    """What `predict` prints where nothing is wrong."""
    done = call("predict", *arguments, stdin=stdin)
    assert (done.code, done.err) == (0, "")
    return done.out


def records(*arguments: object, stdin: bytes = b"") -> dict[str, dict[str, Any]]:
    """The same, by path."""
    return {record.pop("path"): record for record in map(json.loads, printed(*arguments, stdin=stdin).splitlines())}


def test_every_door_gives_the_same_prediction(photos: Path, folder: Path) -> None:
    model = spectraderm.load_model(folder)
    by_path = {str(path): model.predict(path) for path in sorted(photos.iterdir())}
    by_bytes = {path: model.predict(Path(path).read_bytes()) for path in by_path}
    opened = {path: open_photo(path) for path in by_path}
    in_a_list = dict(zip(by_path, model.predict(list(by_path)), strict=True))
    by_image = {path: model.predict(image) for path, image in opened.items()}
    by_array = {path: model.predict(np.array(image)) for path, image in opened.items()}
    assert by_path == by_bytes == in_a_list == by_image == by_array
    lines = records(photos, "--model", folder)
    assert lines == {path: prediction.to_dict() | {"heatmap": []} for path, prediction in by_path.items()}
    lines = records("-", "--model", folder, "--heatmap", stdin=(photos / "plain.jpg").read_bytes())
    assert lines == {"-": by_path[str(photos / "plain.jpg")].to_dict()}
    lines = records(photos, "--model", folder, "--heatmap")
    assert lines == {path: prediction.to_dict() for path, prediction in by_path.items()}
    assert all(record["heatmap"] for record in lines.values())
    assert len({prediction.probability for prediction in by_path.values()}) == len(by_path)
    assert not [path for path, prediction in by_path.items() if prediction.verdict == "unusable_photo"]
    assert {prediction.calibrated_on for prediction in by_path.values()} == {"elsewhere"}
    at_home = spectraderm.load_model(folder, calibration="home")
    lines = records(photos, "--model", folder, "--calibration", "home")
    assert lines == {path: at_home.predict(path).to_dict() | {"heatmap": []} for path in by_path}
    assert not {one["probability"] for one in lines.values()} & {one.probability for one in by_path.values()}


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="the extra is not installed")
def test_openvino_gives_the_same_verdicts(photos: Path, folder: Path) -> None:
    model = spectraderm.load_model(folder)
    for path, record in records(photos, "--model", folder, "--runtime", "openvino").items():
        expected = model.predict(path)
        assert (record["label"], record["verdict"]) == (expected.label, expected.verdict)
        assert record["probability"] == pytest.approx(expected.probability, abs=1e-4)


def test_a_field_of_prediction_is_at_every_door(photos: Path, folder: Path) -> None:
    from pydantic import TypeAdapter

    from spectraderm.inference.bulk.table import schema
    from spectraderm.serving.schemas import Answer

    fields = {field.name: field.type for field in dataclasses.fields(spectraderm.Prediction)}
    photo = str(photos / "plain.jpg")
    as_json, as_csv = (printed(photo, "--model", folder, "--format", kind) for kind in ("jsonl", "csv"))
    assert [*json.loads(as_json)] == ["path", *fields]
    flat = {name for name in fields if name != "probabilities"} | {f"probability:{label}" for label in LABELS}
    assert set(next(csv.reader(io.StringIO(as_csv)))) == {"path", *flat} - {"heatmap"}
    assert set(schema(LABELS).names) >= flat
    assert set(TypeAdapter(Answer).json_schema()["properties"]) == {*fields, "notice"}
    page = (WEB / "model.ts").read_text().split("export interface Prediction {")[1].split("}")[0]
    typed = dict(re.findall(r"^  (\w+): (.+);$", page, re.MULTILINE))
    assert {name: OF_TYPE.get(kind, "string") for name, kind in fields.items()} | {
        "verdict": "Verdict",
        "calibrated_on": "Place",
    } == typed


MODULES, DEPTH = 25, 8


@pytest.mark.parametrize("form", ["jsonl", "csv", "table"])
def test_predicting_a_photo_enters_few_modules_not_deep(form: str, photos: Path, folder: Path) -> None:
    modules = entered_by("predict", photos / "plain.jpg", "--model", folder, "--format", form).items()
    # packages aside, which are empty
    entered = {
        name: Path(file)
        for name, file in modules
        if name.startswith("spectraderm.") and Path(file).name != "__init__.py"
    }
    chain = longest(entered)
    assert len(entered) <= MODULES, sorted(entered)
    assert len(chain) <= DEPTH, chain


def longest(modules: dict[str, Path]) -> list[str]:
    """The longest chain of modules of which each imports the next, in functions too, but not for types alone."""

    @cache
    def below(name: str) -> list[str]:
        return [name, *max((below(other) for other in imported(modules[name]) & modules.keys()), key=len, default=[])]

    return max(map(below, modules), key=len)
