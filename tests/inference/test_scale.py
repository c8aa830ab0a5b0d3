"""Photos -> Parquet parts: all of them, once, however often it was stopped, and the same bytes whoever wrote them."""

import hashlib
import json
from collections.abc import Callable
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
from spectraderm.core.errors import DatasetError, RunFolderError, SpectraDermError
from spectraderm.inference.bulk import job, parts
from spectraderm.inference.bulk.filesystem import Place, without_secrets
from spectraderm.inference.bulk.parts import Answered
from spectraderm.inference.bulk.shard import Worker
from spectraderm.inference.bulk.sources import Item
from spectraderm.inference.model_folder import open_model

MANY = 23


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("p") / "photos"
    for number in range(MANY):
        path = folder / f"{number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(paint(number)) if number != 7 else b"no photo")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(model: Path, out: Path | str, *sources: Path | str, shard_size: int = 5) -> job.Done:
    return job.predict(
        open_model(model).in_precision("auto"), [str(one) for one in sources], str(out), shard_size=shard_size
    )


def rows(out: Path, kind: str = parts.PREDICTIONS) -> list[dict[str, Any]]:
    return [row for path in sorted((out / kind).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def files(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_every_photo_is_answered_as_predict_answers_it(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run(model, tmp_path / "out", photos)
    assert (done.photos, done.summary["photos"], done.summary["predicted"], done.summary["unreadable"]) == (
        23,
        23,
        22,
        1,
    )
    loaded, found = spectraderm.load_model(model), rows(tmp_path / "out")
    assert [row["path"] for row in found] == [str(p) for p in sorted(photos.rglob("*.jpg")) if p.name != "07.jpg"]
    for row in found:
        expected = loaded.predict(row["path"])
        assert row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
        for name in (
            "verdict",
            "reason",
            "label",
            "probability",
            "prediction_set",
            "novelty",
            "in_training",
            "model_id",
        ):
            assert row[name] == getattr(expected, name)
        assert {label: row[f"probability:{label}"] for label in LABELS} == expected.probabilities
        assert row["heatmap"] == [pytest.approx(line, abs=1e-6) for line in expected.heatmap]


def test_what_is_no_photo_stands_apart_with_its_reason(model: Path, photos: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "out", photos)
    (bad,) = rows(tmp_path / "out", parts.UNREADABLE)
    assert bad["path"].endswith("07.jpg")
    assert bad["error"] == "UnreadablePhoto"
    assert bad["path"] in bad["problem"]
    assert bad["sha256"] == hashlib.sha256(b"no photo").hexdigest()


def test_the_summary_counts_and_sums_what_is_there(model: Path, photos: Path, tmp_path: Path) -> None:
    told = run(model, tmp_path / "out", photos).summary
    assert told == json.loads((tmp_path / "out" / job.SUMMARY).read_text())
    assert sum(told["verdicts"].values()) == told["predicted"]
    assert told["sha256"] == {name: sum_ for name, sum_ in files(tmp_path / "out").items() if "/" in name}


def test_a_stopped_one_goes_on_to_the_same_bytes(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, tmp_path / "whole", photos)
    answer = Worker.answer
    asked = 0

    def until(limit: int) -> Callable[[Worker, Item, bytes | None], Answered]:
        def stop(self: Worker, item: Item, photo: bytes | None) -> Answered:
            nonlocal asked
            asked += 1
            if asked > limit:
                raise KeyboardInterrupt
            return answer(self, item, photo)

        return stop

    for limit in (3, 7, 12):
        asked = 0
        with monkeypatch.context() as patch:
            patch.setattr(Worker, "answer", until(limit))
            with pytest.raises(KeyboardInterrupt):
                run(model, tmp_path / "out", photos)
        assert not (tmp_path / "out" / job.SUMMARY).exists()
    assert 0 < len(rows(tmp_path / "out")) < MANY
    done = run(model, tmp_path / "out", photos)
    assert done.photos < MANY
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_finished_one_does_nothing(model: Path, photos: Path, tmp_path: Path) -> None:
    first = run(model, tmp_path / "out", photos)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    again = run(model, tmp_path / "out", photos)
    assert (again.photos, again.summary) == (0, first.summary)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}


def test_photos_that_come_later_do_not_move_the_others(model: Path, here: Path) -> None:
    for number in range(6):
        Path("p").mkdir(exist_ok=True)
        Path(f"p/{number}.jpg").write_bytes(encode(paint(number)))
    run(model, "out", "p", shard_size=2)
    Path("out/summary.json").unlink()
    Path("out/predictions/part-000001.parquet").unlink()
    Path("p/00.jpg").write_bytes(encode(paint(9)))
    run(model, "out", "p", shard_size=2)
    assert [row["path"] for row in rows(Path("out"))] == [f"p/{number}.jpg" for number in range(6)]


def test_a_photo_that_vanished_is_said(model: Path, here: Path) -> None:
    Path("p").mkdir()
    for number in range(3):
        Path(f"p/{number}.jpg").write_bytes(encode(paint(number)))
    run(model, "out", "p")
    for name in ("summary.json", "predictions/part-000000.parquet"):
        Path("out", name).unlink()
    Path("p/1.jpg").unlink()
    assert run(model, "out", "p").summary["unreadable"] == 1
    assert "No such file" in rows(Path("out"), parts.UNREADABLE)[0]["problem"]


@pytest.mark.parametrize("damage", [b"", b"PAR1 cut"])
def test_a_damaged_part_is_told_and_made_again(model: Path, photos: Path, tmp_path: Path, damage: bytes) -> None:
    out = tmp_path / "out"
    run(model, out, photos)
    whole = files(out)
    (out / job.SUMMARY).unlink()
    (out / "predictions/part-000002.parquet").write_bytes(damage)
    with pytest.raises(RunFolderError, match=r"1 parts were damaged.*again"):
        run(model, out, photos)
    run(model, out, photos)
    assert files(out) == whole


def test_another_job_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(model, out, photos)
    changed = write_model(tmp_path / "changed", facts={"calibration": calibration(len(LABELS), coverage=0.8)})
    with pytest.raises(RunFolderError, match="another model_sha256"):
        run(changed, out, photos)
    with pytest.raises(RunFolderError, match="another sources"):
        run(model, out, photos / "0")
    with pytest.raises(RunFolderError, match="another shard_size"):
        run(model, out, photos, shard_size=6)


def test_a_folder_with_other_things_is_not_written_into(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        run(model, tmp_path, photos)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["thesis.txt"]


def test_a_manifest_names_photos(model: Path, photos: Path, here: Path) -> None:
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))[:4]
    (photos / "list.csv").write_text("label,path\n" + "".join(f"x,{name}\n" for name in names))
    run(model, "out", photos / "list.csv")
    assert [row["path"] for row in rows(Path("out"))] == names
    Path("run").mkdir()
    Path("run/manifest.csv").write_text((photos / "list.csv").read_text())
    Path("run/audit.json").write_text(json.dumps({"root": str(photos)}))
    run(model, "out2", "run/manifest.csv")
    assert [row["sha256"] for row in rows(Path("out2"))] == [row["sha256"] for row in rows(Path("out"))]
    (photos / "list.csv").unlink()


def as_parquet(target: Path, **columns: list[Any]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), target, row_group_size=4)
    return target


@pytest.mark.parametrize("kind", ["bytes", "struct", "path"])
def test_parquet_holds_photos_or_names_them(model: Path, photos: Path, here: Path, kind: str) -> None:
    found = sorted(photos.rglob("*.jpg"))
    data, names = [path.read_bytes() for path in found], [str(path) for path in found]
    if kind == "struct":
        table = as_parquet(
            here / "d" / "p.parquet", image=[{"bytes": b, "path": n} for b, n in zip(data, names, strict=True)]
        )
    else:
        table = as_parquet(here / "d" / "p.parquet", **({"bytes": data} if kind == "bytes" else {}), path=names)
    run(model, "plain", photos)
    for source, out in ((table, "one"), (table.parent, "folder")):
        run(model, out, source)
        keys = ("sha256", "label", "probability", "verdict")
        expected = [{key: row[key] for key in keys} for row in rows(Path("plain"))]
        assert [{key: row[key] for key in keys} for row in rows(Path(out))] == expected
        assert len(rows(Path(out), parts.UNREADABLE)) == 1


def test_an_address_is_read_and_written(model: Path, photos: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "plain", photos)
    run(model, f"file://{tmp_path}/out", f"file://{photos}")
    assert [row["sha256"] for row in rows(tmp_path / "out")] == [row["sha256"] for row in rows(tmp_path / "plain")]


def test_secrets_in_an_address_are_not_written_down() -> None:
    assert without_secrets("s3://key:secret@bucket/folder?region=x") == "s3://bucket/folder?region=x"
    with pytest.raises(SpectraDermError) as told:
        Place.of("nonsense://key:secret@bucket")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", "file\nx.jpg\n", "column path"),
        ("a.csv", "path\n", "none"),
        ("a.parquet", "PAR1", "no Parquet"),
        ("nothing", None, "nothing"),
        ("-", None, "stdin"),
    ],
)
def test_what_is_no_source_is_said(model: Path, here: Path, name: str, content: str | None, match: str) -> None:
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(SpectraDermError, match=match):
        run(model, "out", name)
    assert not Path("out/photos.parquet").exists()


def test_parquet_without_photos_is_said(model: Path, here: Path) -> None:
    with pytest.raises(DatasetError, match="none of the columns"):
        run(model, "out", as_parquet(here / "x.parquet", words=["a"]))


@pytest.fixture
def command(model: Path, photos: Path, tmp_path: Path) -> list[str]:
    return ["predict", str(photos), "--model", str(model), "--out", str(tmp_path / "out"), "--shard-size", "5"]


def test_the_command_says_what_is_done(command: list[str]) -> None:
    first, again = (CliRunner().invoke(cli.app, command) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (1, 1)
    assert "23 photos, 22 predicted, 1 unreadable" in first.stderr
    assert "all of it before" in again.stderr
    assert first.stdout == again.stdout == ""


@pytest.mark.parametrize("more", [["--format", "csv"], ["--engine", "ray", "--out", ""]])
def test_options_that_do_not_go_together(command: list[str], more: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*command, *more])
    assert isinstance(result.exception, SpectraDermError)
