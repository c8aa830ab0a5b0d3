import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint

import spectraderm
from spectraderm.data.demo import paint_photo


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
        "deep.png": encode(photo.convert("I;16"), "PNG"),
    }
    pytest.importorskip("pillow_heif").register_heif_opener()
    files["phone.heic"] = encode(photo, "HEIF")
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def cli(*arguments: str, stdin: bytes = b"") -> str:
    command = [sys.executable, "-c", "from spectraderm.cli import main; main()", "predict", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode()


def test_every_door_gives_the_same_numbers(photos: Path) -> None:
    model = spectraderm.load_model()
    by_path = {str(path): model.predict(path) for path in sorted(photos.iterdir())}
    by_bytes = {path: model.predict(Path(path).read_bytes()) for path in by_path}
    lines = {record.pop("path"): record for record in map(json.loads, cli(str(photos)).splitlines())}
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(cli(*by_path, "--format", "csv")))}
    assert by_bytes == by_path
    assert lines == {path: prediction.to_dict() for path, prediction in by_path.items()}
    for path, prediction in by_path.items():
        numbers = {label: float(rows[path][f"probability:{label}"]) for label in model.labels}
        assert numbers == prediction.probabilities
    assert len({prediction.probability for prediction in by_path.values()}) == len(by_path)
    plain = photos / "plain.jpg"
    assert json.loads(cli("-", stdin=plain.read_bytes())) == {"path": "-", **by_path[str(plain)].to_dict()}


def test_one_thread_gives_the_same_guess(photos: Path) -> None:
    alone, many = spectraderm.load_model(threads=1), spectraderm.load_model()
    for path in sorted(photos.iterdir()):
        one, other = alone.predict(path), many.predict(path)
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
