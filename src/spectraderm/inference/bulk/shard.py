"""A shard's photos -> their answers, written: by any process that has the model and reaches the files."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.images.opening import open_photo
from spectraderm.images.preprocessing import MAX_BYTES
from spectraderm.inference import model_folder
from spectraderm.inference.bulk import parts
from spectraderm.inference.bulk.filesystem import Place, is_url
from spectraderm.inference.bulk.parts import Answered
from spectraderm.inference.bulk.plan import Plan
from spectraderm.inference.bulk.sources import FILE, Item
from spectraderm.inference.classifier import Classifier

PLAN = "photos.parquet"
_ROWS = 16
"""Of a Parquet file with photos, in memory at once."""


class Worker:
    """Answers shard after shard. Every engine uses this one, so that they write the same bytes.

    Args:
        model: its model folder.
        out: address of the output folder, with its plan.
        sources: addresses, in the order that the plan counts them.
        threads: for one photo's network; 0 is one per core.
    """

    def __init__(self, model: model_folder.ModelFolder, out: str, sources: Sequence[str], threads: int = 0) -> None:
        self.classifier = Classifier(model, threads)
        self.out = Place.of(out)
        self.plan = Plan(self.out.below(PLAN))
        self._sources = [Place.of(source) for source in sources]

    def for_many(self) -> int:
        """Get ready for so many threads at once, which is given; see `Classifier.for_many`."""
        self.classifier, threads = self.classifier.for_many()
        return threads

    def __call__(self, shard: int) -> int:
        """Answer a shard, and give how many photos it has."""
        answers = [self.answer(item, photo) for item, photo in self.photos(self.plan.shard(shard))]
        self.write(shard, answers)
        return len(answers)

    def write(self, shard: int, answers: Sequence[Answered]) -> None:
        """Write a shard's answers."""
        parts.write(self.out, shard, answers, self.classifier.labels)

    def photos(self, items: Iterable[Item]) -> Iterator[tuple[Item, bytes | SpectraDermError | None]]:
        """Photos with their bytes, where they lie in a Parquet file; None for those that are files of their own."""
        for (source, file, group), rows in groupby(items, attrgetter("source", "file", "group")):
            if group == FILE:
                yield from ((item, None) for item in rows)
            else:
                yield from self._held(self._sources[source].at(file), group, list(rows))

    def answer(self, item: Item, photo: bytes | SpectraDermError | None) -> Answered:
        """What the model says of a photo."""
        digest = None
        try:
            if isinstance(photo, SpectraDermError):
                raise photo
            data = photo if photo is not None else self._place(item).read()
            digest = artifacts.sha256(data)
            image = open_photo(data, self.classifier.preprocessing.shortest_side, item.path)
            return Answered(item.path, digest, self.classifier.predict(image))
        except SpectraDermError as error:
            return Answered(item.path, digest, error)

    def _place(self, item: Item) -> Place:
        return Place.of(item.file) if is_url(item.file) else self._sources[item.source].at(item.file)

    def _held(
        self, place: Place, group: int, items: list[Item]
    ) -> Iterator[tuple[Item, bytes | SpectraDermError | None]]:
        """The bytes of rows of a Parquet file's row group, a few at a time."""
        wanted, row = {item.row: item for item in items}, 0
        with place.open() as file:
            try:
                table = pq.ParquetFile(file)
                column = next(name for name in ("image", "bytes") if name in table.schema_arrow.names)
                for batch in table.iter_batches(_ROWS, row_groups=[group], columns=[column]):
                    for value in batch.column(0).to_pylist():
                        if row in wanted:
                            item = wanted.pop(row)
                            yield item, _bytes(value, item.path)
                        row += 1
                        if not wanted:
                            return
            except (pa.ArrowException, OSError, StopIteration) as error:
                raise SpectraDermError(f"{place.path} changed or is damaged ({error})", "Restore it") from error
        raise SpectraDermError(f"{place.path} changed: it has fewer rows", "Restore it, or give another --out")


def _bytes(value: object, path: str) -> bytes | SpectraDermError:
    """Of a cell: bytes, or a struct that has them, as Hugging Face data sets do."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        return UnreadablePhoto(f"{path}: the cell holds no photo", "Leave the row out")
    return data if len(data) <= MAX_BYTES else UnreadablePhoto(f"{path}: more than {MAX_BYTES / 1e6:g} MB")
