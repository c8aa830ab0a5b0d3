"""All photos of some sources -> an output folder, however often that is interrupted, or photos come and go.

job.json            what is asked for; the same command again goes on
predictions/        Parquet files with a row per photo, whole or not there
remaining.parquet   while photos are left: which
summary.json        counts, and the SHA-256 of every file; written last
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from spectraderm.core import Choice, locks
from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import json_bytes, json_object, sha256
from spectraderm.core.parallel import chunks, in_chunks
from spectraderm.core.progress import Track, no_track
from spectraderm.images.photo_files import LeftOut, lines
from spectraderm.inference.bulk import table
from spectraderm.inference.bulk.filesystem import local_path, open_filesystem, without_secrets, write_whole
from spectraderm.inference.bulk.sources import Item, list_photos, read_photos
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.engine import FLOATS, Runtime
from spectraderm.inference.model_folder import ModelFolder

Engine = Literal["local", "ray"]
JOB, PREDICTIONS, REMAINING, SUMMARY = "job.json", "predictions", "remaining.parquet", "summary.json"
SHARD_SIZE = 512
Answered = Counter[tuple[str, str]]
"""How many rows there are, by path and version."""
_ANOTHER = "Give another --out"
_ASKED = {
    "model_id": "model",
    "model_sha256": "model",
    "calibration": "--calibration",
    "precision": "--precision",
    "sources": "PHOTOS",
}
"""What `job.json` says, in the words of the command."""


@dataclass(frozen=True)
class Done:
    """What an output folder holds, and what was done this time.

    Attributes:
        out: its address, without secrets.
        summary: `summary.json`.
        photos: how many were answered this time.
        dropped: how many rows went, because their photo changed or is gone.
        damaged: how many files of rows were damaged, and deleted.
        seconds: how long that took.
        left_out: what of the sources' folders was left out, a line for each reason.
    """

    out: str
    summary: dict[str, Any]
    photos: int
    dropped: int
    damaged: int
    seconds: float
    left_out: list[str]

    @property
    def notes(self) -> list[str]:
        """What became of earlier answers, and what was left out, a line each."""
        dropped = f"{self.dropped} earlier answers were dropped: their photos changed or are gone"
        damaged = f"{self.damaged} damaged files of earlier answers were deleted: their photos were done again"
        return [line for number, line in ((self.dropped, dropped), (self.damaged, damaged)) if number] + self.left_out


def predict(
    model: ModelFolder,
    sources: Sequence[str],
    out: str,
    engine: Engine = "local",
    address: str = "",
    workers: int = 0,
    shard_size: int = SHARD_SIZE,
    track: Track = no_track,
    runtime: Runtime = FLOATS,
    calibration: Choice = "auto",
) -> Done:
    """Classify every photo of every source into `out`. Photos that were answered before, and did not change, stay.

    For the sources see `list_photos`; `out` is a path or a URL. The engine `local` is threads of this process; of `ray`
    a cluster on this machine is started where the `address` is empty. `workers` are threads, or Ray's; 0 is one per
    core. After a crash at most `shard_size` photos, those of a file, are answered again by every worker.

    Raises:
        RunFolderError: `out` holds something else, or another process writes to it.
        SpectraDermError: a source has no photos, or something can't be reached or written.
    """
    model.check_network()  # before anything is written
    filesystem, folder = open_filesystem(out)
    began = time.perf_counter()
    here = local_path(filesystem, folder)  # object stores have no locks; two would do the same work twice there
    with locks.only_writer(here) if here else nullcontext():
        _claim(filesystem, folder, model, sources, (calibration, runtime.precision))
        left = LeftOut(list)
        answered, damaged = _answered(filesystem, folder)
        if filesystem.exists(f"{folder}/{SUMMARY}"):  # or one that is killed from here on would look done
            filesystem.rm(f"{folder}/{SUMMARY}")
        remaining, dropped = _remaining(filesystem, folder, list_photos(sources, left), answered, shard_size)
        if remaining and engine == "ray":
            from spectraderm.inference.bulk import ray_engine  # noqa: PLC0415 - an extra

            ray_engine.predict(model, filesystem, folder, shard_size, address, workers, runtime, calibration)
        elif remaining:
            classifier = Classifier(model, workers, runtime, calibration)
            _predict_here(classifier, filesystem, folder, shard_size, remaining, track)
        if filesystem.exists(f"{folder}/{REMAINING}"):
            filesystem.rm(f"{folder}/{REMAINING}")
        summary = _summarize(filesystem, folder, model.model_id)
    seconds = time.perf_counter() - began
    return Done(without_secrets(out), summary, remaining, dropped, damaged, seconds, lines(left))


def _claim(
    filesystem: AbstractFileSystem, folder: str, model: ModelFolder, sources: Sequence[str], how: tuple[Choice, str]
) -> None:
    """Write `job.json`, or make sure that the one that is there asks for the same."""
    job = {
        "model_id": model.model_id,
        "model_sha256": sha256(json_bytes(model.facts)),
        "calibration": how[0],
        "precision": how[1],
        "sources": [without_secrets(source) for source in sources],
    }
    path = f"{folder}/{JOB}"
    if filesystem.exists(path):
        before = json_object(filesystem.cat_file(path), path, _ANOTHER)
        if other := dict.fromkeys(_ASKED[key] for key, value in job.items() if before.get(key) != value):
            raise RunFolderError(f"{folder} was begun with another {' and another '.join(other)}", _ANOTHER)
        return
    names = filesystem.ls(folder, detail=False) if filesystem.isdir(folder) else []
    if any(not name.rpartition("/")[2].startswith(".") for name in names):
        raise RunFolderError(f"{folder} is not empty, and not by predict --out", _ANOTHER)
    write_whole(filesystem, path, json_bytes(job))


def _remaining(
    filesystem: AbstractFileSystem, folder: str, photos: Iterable[Item], answered: Answered, shard_size: int
) -> tuple[int, int]:
    """Write `remaining.parquet`, and drop the rows of photos that changed or are gone: how many of each."""
    dropped = 0

    def new() -> Iterator[dict[str, Any]]:
        for item in photos:
            key = _key(item.path, item.version, item.row)
            if answered.get(key):
                answered[key] -= 1  # what stays in there is gone, or changed
            else:
                yield {**item._asdict(), "version": key[1]}

    def stays(path: str, version: str) -> bool:
        gone = answered[path, version] > 0
        answered[path, version] -= gone
        return not gone

    schema = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in Item._fields])
    buffer, count = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for shard in chunks(new(), shard_size):
            writer.write_table(pa.Table.from_pylist(shard, schema=schema))
            count += len(shard)
    for path in table.parts(filesystem, f"{folder}/{PREDICTIONS}") if answered else []:
        part = table.read(filesystem, path)
        pairs = zip(part["path"].to_pylist(), part["version"].to_pylist(), strict=True)
        kept = part.filter(pa.array([stays(*pair) for pair in pairs], pa.bool_()))
        dropped += part.num_rows - kept.num_rows
        if not kept.num_rows:
            filesystem.rm(path)
        elif kept.num_rows < part.num_rows:
            table.write(filesystem, path, kept)
    if count:
        write_whole(filesystem, f"{folder}/{REMAINING}", buffer.getvalue().to_pybytes())
    return count, dropped


def _key(path: str, version: str, row: int) -> tuple[str, str]:
    """What a row is found by: rows of one Parquet file may have one name."""
    return path, f"{version} {row}" if row >= 0 else version


def _answered(filesystem: AbstractFileSystem, folder: str) -> tuple[Answered, int]:
    """How many rows there are of a path and version, and how many files were lost: a damaged file is deleted.

    Damaged is what is no Parquet file, or not what the summary says.
    """
    answered, lost, sums = Answered(), 0, {}
    if filesystem.exists(f"{folder}/{SUMMARY}"):
        with suppress(RunFolderError):
            sums = dict(json_object(filesystem.cat_file(f"{folder}/{SUMMARY}"), SUMMARY, "").get("sha256", {}))
    for path in table.parts(filesystem, f"{folder}/{PREDICTIONS}"):
        try:
            part = table.read(filesystem, path, ["path", "version"])
            rows = list(zip(part["path"].to_pylist(), part["version"].to_pylist(), strict=True))
            whole = path.rpartition("/")[2] not in sums or sha256(filesystem.cat_file(path)) in sums.values()
        except (pa.ArrowException, OSError, KeyError):
            rows, whole = [], False
        if whole:
            answered.update(rows)
        else:
            filesystem.rm(path)
            lost += 1
    return answered, lost


def _predict_here(
    model: Classifier, filesystem: AbstractFileSystem, folder: str, shard_size: int, remaining: int, track: Track
) -> None:
    """Answer what remains by threads of this process, and write a part per shard."""
    classifier, threads = model.for_many()
    items = chain.from_iterable(table.batches(filesystem, f"{folder}/{REMAINING}", shard_size))
    answered = in_chunks(lambda photos: table.answers(classifier, photos), read_photos(items), threads)
    number = len(table.parts(filesystem, f"{folder}/{PREDICTIONS}"))
    for shard in chunks(track(answered, "Classifying", remaining), shard_size):
        while filesystem.exists(path := f"{folder}/{PREDICTIONS}/part-{number:06}.parquet"):
            number += 1
        table.write(filesystem, path, table.to_table([row for _, row in shard], classifier.labels))


def _summarize(filesystem: AbstractFileSystem, folder: str, model_id: str) -> dict[str, Any]:
    """Read every part, count, and write `summary.json`."""
    verdicts: Counter[str | None] = Counter()
    sums: dict[str, str] = {}
    for path in table.parts(filesystem, f"{folder}/{PREDICTIONS}"):
        verdicts += Counter(table.read(filesystem, path, ["verdict"])["verdict"].to_pylist())
        sums[path.rpartition("/")[2]] = sha256(filesystem.cat_file(path))
    unreadable = verdicts.pop(None, 0)
    summary = {
        "photos": verdicts.total() + unreadable,
        "predicted": verdicts.total(),
        "unreadable": unreadable,
        "verdicts": dict(sorted(verdicts.items())),
        "model_id": model_id,
        "sha256": sums,
    }
    write_whole(filesystem, f"{folder}/{SUMMARY}", json_bytes(summary))
    return summary
