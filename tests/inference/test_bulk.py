"""Photos -> Parquet: every photo once, however often it was stopped, photos came or went, and whoever did the work."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encode, paint
from handmade import LABELS, calibration, write_model
from typer.testing import CliRunner

import spectraderm
from spectraderm.cli import commands as cli
from spectraderm.core.errors import DatasetError, MissingExtra, RunFolderError, SpectraDermError
from spectraderm.inference.bulk import job, table
from spectraderm.inference.bulk.filesystem import open_filesystem, without_secrets
from spectraderm.inference.bulk.sources import list_photos
from spectraderm.inference.model_folder import open_model

MANY, BAD = 23, "07.jpg"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("p") / "photos"
    for number in range(MANY):
        path = folder / f"{number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(paint(number)) if path.name != BAD else b"no photo")
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(encode(paint(number)))
    return folder


def run(model: Path, out: Path | str, *sources: Path | str, **options: Any) -> job.Done:  # noqa: ANN401
    return job.predict(open_model(model), [str(one) for one in sources], str(out), **({"shard_size": 5} | options))


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "predictions").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def paths(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.rglob("*.jpg"))]


def files(out: Path) -> dict[str, str]:
    paths = sorted(path for path in (out / "predictions").iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def whole(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an unbroken job gives; don't write into it."""
    out = tmp_path_factory.mktemp("o") / "out"
    done = run(model, out, photos)
    assert (done.photos, done.dropped) == (MANY, 0)
    assert json.loads((out / job.SUMMARY).read_text()) == done.summary
    return out


def test_every_photo_has_a_row_that_is_its_prediction(model: Path, photos: Path, whole: Path) -> None:
    summary = json.loads((whole / job.SUMMARY).read_text())
    assert (summary["photos"], summary["predicted"], summary["unreadable"]) == (MANY, MANY - 1, 1)
    assert sum(summary["verdicts"].values()) == MANY - 1
    assert summary["sha256"] == files(whole)
    loaded, found = spectraderm.load_model(model), rows(whole)
    assert [row["path"] for row in found] == paths(photos)
    for row in found:
        assert row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
        if row["path"].endswith(BAD):
            assert row["path"] in row["error"]
            assert row["verdict"] is None
            continue
        expected = loaded.predict(row["path"]).to_dict()
        assert row["error"] is row["remedy"] is None
        assert {label: row[f"probability:{label}"] for label in LABELS} == expected.pop("probabilities")
        assert row["heatmap"] == [pytest.approx(line, abs=1e-6) for line in expected.pop("heatmap")]
        assert {name: row[name] for name in expected} == expected


def test_a_stopped_one_goes_on_to_the_same_bytes(
    model: Path, photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = table.write, 0

    def stop(*arguments: Any) -> None:  # noqa: ANN401
        nonlocal written
        written += 1
        if written > 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(table, "write", stop)
    for already in (0, 10):
        written = 0
        with pytest.raises(KeyboardInterrupt):
            run(model, tmp_path / "out", photos)
        assert len(rows(tmp_path / "out")) == already + 10
        assert not (tmp_path / "out" / job.SUMMARY).exists()
    monkeypatch.undo()
    assert run(model, tmp_path / "out", photos).photos == MANY - 20
    assert files(tmp_path / "out") == files(whole)
    assert not (tmp_path / "out" / job.REMAINING).exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "predictions").iterdir()}
    again = run(model, tmp_path / "out", photos)
    assert (again.photos, again.summary["photos"]) == (0, MANY)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "predictions").iterdir()}


def test_killed_at_work_nothing_is_lost_or_twice(model: Path, photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spectraderm", "predict", str(photos), "--model", str(model)]
    command += ["--out", str(tmp_path / "out"), "--shard-size", "1"]
    for _ in range(3):
        before = len(list(tmp_path.glob("out/predictions/*.parquet")))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(list(tmp_path.glob("out/predictions/*.parquet"))) == before:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
    assert 0 < len(rows(tmp_path / "out")) < MANY
    run(model, tmp_path / "out", photos)
    assert [row["path"] for row in rows(tmp_path / "out")] == paths(photos)


def test_added_replaced_and_deleted_photos_are_followed(model: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(model, out, few, shard_size=2)
    before = {row["path"]: row for row in rows(out)}
    (few / "0.jpg").write_bytes(encode(paint(9, (90, 80))))
    (few / "00.jpg").write_bytes(encode(paint(10)))
    (few / "3.jpg").unlink()
    done = run(model, out, few, shard_size=2)
    assert (done.photos, done.dropped) == (2, 2)
    after = {row["path"]: row for row in rows(out)}
    assert len(after) == len(rows(out)) == done.summary["photos"] == 6
    assert set(after) == {str(path) for path in few.iterdir()}
    assert after[str(few / "0.jpg")]["sha256"] == hashlib.sha256((few / "0.jpg").read_bytes()).hexdigest()
    kept = [str(few / name) for name in ("1.jpg", "2.jpg", "4.jpg", "5.jpg")]
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}


def test_a_photo_replaced_by_one_of_its_size_and_time_is_answered_again(model: Path, few: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "out", few)
    photo = few / "0.jpg"
    about, data = photo.stat(), bytearray(photo.read_bytes())
    data[-40] ^= 1
    photo.write_bytes(data)
    os.utime(photo, ns=(about.st_atime_ns, about.st_mtime_ns))
    done = run(model, tmp_path / "out", few)
    assert (done.photos, done.dropped, done.damaged) == (1, 1, 0)
    assert hashlib.sha256(data).hexdigest() in {row["sha256"] for row in rows(tmp_path / "out")}


def test_photos_that_tables_call_alike_are_kept_apart_and_one_named_twice_is_done_once(
    few: Path, tmp_path: Path
) -> None:
    photo = next(path for path in few.rglob("*.jpg"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(photo, tmp_path / name / "x.jpg")
        (tmp_path / name / "m.csv").write_text("path\nx.jpg\nx.jpg\n")
    tables = [str(tmp_path / name / "m.csv") for name in ("a", "b")]
    assert [item.path for item in list_photos(tables[:1])] == ["x.jpg"]
    assert [item.path for item in list_photos(tables)] == ["x.jpg", str(tmp_path / "b" / "x.jpg")]


def test_a_part_that_is_not_what_the_summary_says_is_made_again(model: Path, few: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "out", few)
    part = next((tmp_path / "out" / "predictions").iterdir())
    table = pq.read_table(part)
    pq.write_table(table.set_column(table.schema.get_field_index("verdict"), "verdict", table["label"]), part)
    done = run(model, tmp_path / "out", few)
    assert done.damaged == 1
    assert done.notes[0].startswith("1 damaged files")


def test_what_is_stopped_while_photos_are_left_does_not_look_done(
    model: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, tmp_path / "out", few)
    (few / "00.jpg").write_bytes(encode(paint(10)))

    def stop(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "out", few)
    assert not (tmp_path / "out" / job.SUMMARY).exists()


def test_damaged_parts_are_made_again(model: Path, photos: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    for number, damage in enumerate((b"", b"PAR1 cut")):
        (tmp_path / f"out/predictions/part-00000{number}.parquet").write_bytes(damage)
    done = run(model, tmp_path / "out", photos)
    assert (done.photos, done.damaged) == (10, 2)
    assert sorted(row["path"] for row in rows(tmp_path / "out")) == paths(photos)


def test_another_job_and_other_peoples_folders_are_refused(
    model: Path, photos: Path, whole: Path, tmp_path: Path
) -> None:
    changed = write_model(tmp_path / "changed", facts={"calibration": calibration(len(LABELS), coverage=0.8)})
    with pytest.raises(RunFolderError, match=r"begun with another model\."):
        run(changed, whole, photos)
    with pytest.raises(RunFolderError, match="another --calibration"):
        job.predict(open_model(model), [str(photos)], str(whole), calibration="home")
    with pytest.raises(RunFolderError, match="another PHOTOS"):
        run(model, whole, photos / "0")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        run(model, tmp_path / "theirs", photos)
    assert os.listdir(tmp_path / "theirs") == ["thesis.txt"]


def test_a_manifest_names_photos(model: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (few / "list.csv").write_text("\ufefflabel;Path\r\nx;3.jpg\r\nx;1.jpg\r\nx;gone.jpg\r\n")  # saved by Excel
    run(model, "out", few / "list.csv")
    assert [row["path"] for row in rows(Path("out"))] == ["3.jpg", "1.jpg", "gone.jpg"]
    assert "No such file" in rows(Path("out"))[2]["error"]
    Path("run").mkdir()
    Path("run/manifest.csv").write_text((few / "list.csv").read_text())
    Path("run/audit.json").write_text(json.dumps({"root": str(few)}))
    run(model, "out2", "run/manifest.csv")
    assert [row["sha256"] for row in rows(Path("out2"))] == [row["sha256"] for row in rows(Path("out"))]
    Path("run/manifest.csv").write_text("path\nA/3.jpg\nA/1.jpg\nB/1.jpg\n")  # of two sources, one of them gone
    Path("run/audit.json").write_text(json.dumps({"root": "/", "roots": {"A": str(few), "B": "/gone"}}))
    run(model, "out4", "run/manifest.csv")
    assert [row["path"] for row in rows(Path("out4"))] == ["A/3.jpg", "A/1.jpg", "B/1.jpg"]
    first, second, gone = rows(Path("out4"))
    assert [first["sha256"], second["sha256"]] == [row["sha256"] for row in rows(Path("out"))][:2]
    assert "No such file" in gone["error"]
    once = run(model, "out3", few, few / "list.csv", few / "*.jpg")
    assert once.summary["photos"] == 7


@pytest.mark.parametrize("kind", ["bytes", "struct", "path"])
def test_parquet_holds_photos_or_names_them(model: Path, photos: Path, whole: Path, tmp_path: Path, kind: str) -> None:
    names = paths(photos)
    data = [Path(name).read_bytes() for name in names]
    columns = {
        "bytes": {"bytes": data, "path": names},
        "struct": {"image": [{"bytes": one, "path": name} for one, name in zip(data, names, strict=True)]},
        "path": {"path": names},
    }[kind]
    source = tmp_path / "d" / "p.parquet"
    source.parent.mkdir()
    pq.write_table(pa.table(columns), source, row_group_size=4)
    keys = ("sha256", "label", "probability", "verdict")
    expected = [{key: row[key] for key in keys} for row in rows(whole)]
    for number, named in enumerate([str(source), str(source.parent), f"file://{source.parent}"]):
        run(model, tmp_path / str(number), named)
        assert [{key: row[key] for key in keys} for row in rows(tmp_path / str(number))] == expected


def test_addresses_are_read_and_written(model: Path, few: Path, tmp_path: Path) -> None:
    run(model, f"file://{tmp_path}/out", f"file://{few}")
    assert [row["path"] for row in rows(tmp_path / "out")] == [str(path) for path in sorted(few.iterdir())]
    memory, _ = open_filesystem("memory://photos")
    for path in few.iterdir():
        memory.pipe_file(f"/photos/{path.name}", path.read_bytes())
    memory.pipe_file("/photos/.hidden/a.jpg", b"")
    for remaining in (6, 0):
        done = run(model, "memory://answers", "memory://photos")
        assert (done.photos, done.summary["photos"]) == (remaining, 6)


def test_secrets_in_an_address_are_not_written_down() -> None:
    assert without_secrets("s3://key:secret@bucket/folder?region=x") == "s3://bucket/folder?region=x"
    with pytest.raises(SpectraDermError) as caught:
        open_filesystem("nonsense://key:secret@bucket")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", "name\nx.jpg\n", "column path"),
        ("a.csv", "path\n", "none"),
        ("a.parquet", "PAR1", "no Parquet"),
        ("nothing", None, "nothing"),
        ("-", None, "stdin"),
    ],
)
def test_what_is_no_source_is_an_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(SpectraDermError, match=match):
        run(model, "out", name)
    assert not Path("out/predictions").exists()
    pq.write_table(pa.table({"words": ["a"]}), "x.parquet")
    with pytest.raises(DatasetError, match="none of the columns"):
        run(model, "out2", "x.parquet")


def test_the_command_counts(model: Path, photos: Path, tmp_path: Path) -> None:
    command = ["predict", str(photos), "--model", str(model), "--out", str(tmp_path / "out"), "--shard-size", "5"]
    first, again = (CliRunner().invoke(cli.app, command) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (1, 1)
    assert "23 photos, 22 predicted, 1 unreadable; 23 this time" in first.stderr
    assert "all of it before" in again.stderr
    assert first.stdout == again.stdout == ""
    for more in (["--format", "csv"], ["--engine", "ray", "--out", ""]):
        assert isinstance(CliRunner().invoke(cli.app, [*command, *more]).exception, SpectraDermError)


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the extra is not installed")
def test_ray_gives_the_same_rows_and_goes_on(model: Path, photos: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    parts = sorted((tmp_path / "out" / "predictions").iterdir())
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:100])  # as a killed worker leaves it
    done = run(model, tmp_path / "out", photos, engine="ray", workers=2)
    assert (done.photos, done.damaged) == (10, 1)
    assert sorted(rows(tmp_path / "out"), key=lambda row: row["path"]) == rows(whole)
    assert "RAY_AUTH_TOKEN" in os.environ


def test_a_cluster_that_is_not_there_or_not_installed(
    model: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, words in (("ray://127.0.0.1:1", "Ray Client"), ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1")):
        with pytest.raises(SpectraDermError, match=words):
            run(model, tmp_path / "out", few, engine="ray", address=address)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"\[ray\]"):
        run(model, tmp_path / "out", few, engine="ray")
