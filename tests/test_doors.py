import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint
from handmade import write_model
from PIL import Image

import spectraderm
from spectraderm.data.synthetic import paint_photo
from spectraderm.images.opening import open_photo


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
    pytest.importorskip("pillow_heif").register_heif_opener()
    files["phone.heic"] = encode(photo, "HEIF")
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


def cli(*arguments: str, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    """What `predict` prints to stdout and stderr."""
    command = [sys.executable, "-c", "from spectraderm.cli.commands import main; main()", "predict", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def test_every_door_gives_the_same_prediction(photos: Path, folder: Path) -> None:
    model = spectraderm.load_model(folder)
    by_path = {str(path): model.predict(path) for path in sorted(photos.iterdir())}
    by_bytes = {path: model.predict(Path(path).read_bytes()) for path in by_path}
    opened = {path: open_photo(path) for path in by_path}
    in_a_list = dict(zip(by_path, model.predict(list(by_path)), strict=True))
    by_image = {path: model.predict(image) for path, image in opened.items()}
    by_array = {path: model.predict(np.array(image)) for path, image in opened.items()}
    assert by_path == by_bytes == in_a_list == by_image == by_array
    printed, noise = cli(str(photos), "--model", str(folder))
    lines = {record.pop("path"): record for record in map(json.loads, printed.splitlines())}
    assert lines == {path: prediction.to_dict() for path, prediction in by_path.items()}
    assert noise == ""
    assert len({prediction.probability for prediction in by_path.values()}) == len(by_path)
    assert not [path for path, prediction in by_path.items() if prediction.verdict == "unusable_photo"]


def test_csv_and_stdin_give_the_same_prediction(photos: Path, folder: Path) -> None:
    model, plain = spectraderm.load_model(folder), photos / "plain.jpg"
    printed, _ = cli(*map(str, sorted(photos.iterdir())), "--format", "csv", "--model", str(folder))
    for row in csv.DictReader(io.StringIO(printed)):
        prediction = model.predict(row["path"])
        assert {label: float(row[f"probability:{label}"]) for label in model.labels} == prediction.probabilities
        assert (row["verdict"], row["reason"]) == (prediction.verdict, prediction.reason)
        assert float(row["novelty"]) == prediction.novelty
    printed, _ = cli("-", "--model", str(folder), stdin=plain.read_bytes())
    assert json.loads(printed) == {"path": "-", **model.predict(plain).to_dict()}


def test_exit_codes(photos: Path, folder: Path, tmp_path: Path) -> None:
    """An unusable photo is an answer; one that can't be read is 1 and the others are done; no model is 2."""
    (tmp_path / "black.png").write_bytes(encode(Image.new("RGB", (200, 200)), "PNG"))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    model = ("--model", str(folder))
    printed, noise = cli(str(tmp_path / "black.png"), *model)
    assert (json.loads(printed)["verdict"], noise) == ("unusable_photo", "")
    printed, noise = cli(str(tmp_path), str(photos / "plain.jpg"), *model, code=1)
    assert [json.loads(line)["path"] for line in printed.splitlines()] == [
        str(tmp_path / "black.png"),
        str(photos / "plain.jpg"),
    ]
    assert "broken.jpg: not a photo" in noise
    printed, noise = cli(str(photos), "--model", str(tmp_path), code=2)
    assert printed == ""
    assert noise.startswith("error: ")
    assert noise.count("\n") == 1


def test_one_thread_gives_the_same_guess(photos: Path, folder: Path) -> None:
    alone, many = spectraderm.load_model(folder, threads=1), spectraderm.load_model(folder)
    for path in sorted(photos.iterdir()):
        one, other = alone.predict(path), many.predict(path)
        assert (one.label, one.verdict) == (other.label, other.verdict)
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
