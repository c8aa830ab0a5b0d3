"""All photos of some sources -> an output folder of Parquet parts, however often that was interrupted.

job.json          what is asked for; written first, and the same command again goes on
photos.parquet    the plan: which photo belongs to which shard
predictions/      a part per shard; a shard is done when its part is there
unreadable/       what could not be read, and why
summary.json      counts and SHA-256 of all of it; written last
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from spectraderm.core import artifacts
from spectraderm.core import locks as locking
from spectraderm.core.errors import RunFolderError
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.inference import model_folder
from spectraderm.inference.bulk import parts, plan
from spectraderm.inference.bulk.filesystem import Place, is_url, without_secrets
from spectraderm.inference.bulk.parts import Answered
from spectraderm.inference.bulk.shard import PLAN, Worker
from spectraderm.inference.bulk.sources import Item, items

JOB, SUMMARY = "job.json", "summary.json"
SHARD_SIZE = 512
_FORMAT, _MOST_BYTES = 1, 2**31
_ANOTHER = "Give another --out"


@dataclass(frozen=True)
class Engine:
    """What does the work: this process (`local`) or Ray (`ray`), here or at `address`; so many `workers`, 0 for all."""

    name: str = "local"
    address: str = ""
    workers: int = 0


@dataclass(frozen=True)
class Done:
    """What is in an output folder, `where` that is, and how many `photos` took how many `seconds` this time."""

    where: str
    summary: dict[str, Any]
    photos: int
    seconds: float


def predict(
    model: model_folder.ModelFolder,
    sources: Sequence[str],
    out: str,
    engine: Engine = Engine(),
    shard_size: int = SHARD_SIZE,
    track: Track = no_track,
) -> Done:
    """Classify every photo of every source into `out`; what is there of an earlier, interrupted call stays.

    Args:
        model: the model, in the precision that it is to answer in.
        sources: folders, files, globs, manifests (`.csv`), Parquet files or folders of them, addresses.
        out: the output folder or its address.
        engine: what does the work.
        shard_size: photos per part; so many are done again after a crash, at most, by every worker.
        track: how progress is shown.

    Raises:
        RunFolderError: `out` holds something else, is being written to, or can't be completed.
        DatasetError: a source has no photos, or is none.
        SpectraDermError: `out` or a source can't be reached or written.
    """
    target, shown = Place.of(out), without_secrets(out)
    with _alone(target):
        _claim(target, model, sources, shard_size)
        if target.below(SUMMARY).kind():
            return Done(shown, _json(target.below(SUMMARY)), 0, 0.0)
        if not target.below(PLAN).kind():
            plan.write(target.below(PLAN), items(sources), shard_size)
        sizes = plan.Plan(target.below(PLAN)).sizes
        began, missing = time.perf_counter(), _missing(target, len(sizes))
        photos = sum(sizes[shard] for shard in missing)
        worker = (model, out if is_url(out) else shown, list(sources))
        if engine.name == "ray":
            _exhaust(track(_there(worker, missing, engine), "Classifying shards", len(missing)))
        elif missing:
            _exhaust(track(_here(Worker(*worker, engine.workers), missing), "Classifying", photos))
        seconds = time.perf_counter() - began
        return Done(shown, _finish(target, sizes, model), photos, seconds)


def _there(
    worker: tuple[model_folder.ModelFolder, str, list[str]], shards: list[int], engine: Engine
) -> Iterator[tuple[int, Any]]:
    """Every shard, when a worker of Ray has written it. Each worker has one thread: there is one per core."""
    from spectraderm.core.with_ray import spread  # noqa: PLC0415

    if shards:
        yield from spread(Worker, (*worker, 1), shards, address=engine.address, workers=engine.workers)


def _here(worker: Worker, shards: Iterable[int]) -> Iterator[Item]:
    """Every photo of these shards, when it is answered; a shard is written when its last one is.

    Threads go on with the next shard meanwhile: none waits for another's end.
    """
    threads = worker.for_many()

    def coming() -> Iterator[tuple[int, Item, Any]]:
        for shard in shards:
            yield from ((shard, item, photo) for item, photo in worker.photos(worker.plan.shard(shard)))

    answers = in_order(lambda job: worker.answer(job[1], job[2]), coming(), threads)
    for shard, own in groupby(answers, lambda pair: pair[0][0]):
        kept: list[Answered] = []
        for (_, item, _), answer in own:
            kept.append(answer)
            yield item
        worker.write(shard, kept)


def _exhaust(work: Iterable[object]) -> None:
    for _ in work:
        pass


def _alone(out: Place) -> AbstractContextManager[None]:
    """Nobody else writes here meanwhile. Object stores have no locks; there, two write the same bytes twice."""
    if out.local is None:
        return nullcontext()
    return locking.only_writer(out.local)


def _claim(out: Place, model: model_folder.ModelFolder, sources: Sequence[str], shard_size: int) -> None:
    """Say what the folder is for, or make sure that it is for the same."""
    asked = {
        "format": _FORMAT,
        "model_id": model.model_id,
        "model_sha256": artifacts.sha256(artifacts.json_bytes(model.facts)),
        "sources": [without_secrets(source) for source in sources],
        "shard_size": shard_size,
    }
    job = out.below(JOB)
    if job.kind():
        found = _json(job)
        if other := [key for key, value in asked.items() if found.get(key) != value]:
            raise RunFolderError(f"{out.path} was begun with another {', '.join(other)}", _ANOTHER)
        return
    if any(not path.rpartition("/")[2].startswith(".") for path, _ in out.entries()):
        raise RunFolderError(f"{out.path} is not empty, and not by predict --out", _ANOTHER)
    job.write(artifacts.json_bytes(asked))


def _missing(out: Place, shards: int) -> list[int]:
    there = {path.rpartition("/")[2] for path, _ in out.below(parts.PREDICTIONS).entries()}
    return [shard for shard in range(shards) if parts.name("", shard).lstrip("/") not in there]


def _json(place: Place) -> dict[str, Any]:
    return artifacts.json_object(place.read(_MOST_BYTES), place.path, _ANOTHER)


def _finish(out: Place, sizes: Sequence[int], model: model_folder.ModelFolder) -> dict[str, Any]:
    """Read every part again, count, and write the summary. A part that is not whole is deleted."""
    verdicts: Counter[str] = Counter()
    sums: dict[str, str] = {}
    unreadable, damaged = 0, []
    for shard, size in enumerate(sizes):
        part = parts.read(out, shard)
        if part is None or part.photos != size:
            out.below(parts.name(parts.PREDICTIONS, shard)).delete()
            damaged.append(shard)
            continue
        verdicts += part.verdicts
        unreadable += part.unreadable
        sums |= part.sha256
    if damaged:
        raise RunFolderError(
            f"{out.path}: {len(damaged)} parts were damaged and are deleted, the first {damaged[0]}",
            "Run the same command again: it does these once more",
        )
    summary = {
        "photos": sum(sizes),
        "predicted": sum(sizes) - unreadable,
        "unreadable": unreadable,
        "verdicts": dict(sorted(verdicts.items())),
        "model_id": model.model_id,
        "sha256": sums,
    }
    out.below(SUMMARY).write(artifacts.json_bytes(summary))
    return summary
