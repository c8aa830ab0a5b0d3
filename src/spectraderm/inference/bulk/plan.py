"""Which photo belongs to which shard: a Parquet file with a row group per shard, written once and never changed."""

from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from spectraderm.core.errors import RunFolderError
from spectraderm.inference.bulk.filesystem import Place
from spectraderm.inference.bulk.sources import Item

_COLUMNS = pa.schema(
    [("path", pa.string()), ("source", pa.int32()), ("file", pa.string()), ("group", pa.int32()), ("row", pa.int32())]
)


def write(place: Place, items: Iterable[Item], shard_size: int) -> None:
    """Write the plan, so that there is all of it or nothing; it is never in memory whole."""
    with place.written_whole() as file, pq.ParquetWriter(file, _COLUMNS, compression="zstd") as writer:
        for shard in _cut(items, shard_size):
            columns = [
                pa.array(values, kind.type) for values, kind in zip(zip(*shard, strict=True), _COLUMNS, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=_COLUMNS), row_group_size=shard_size)


class Plan:
    """A plan that was written, opened.

    Attributes:
        sizes: how many photos each shard has.

    Raises:
        RunFolderError: it is damaged.
    """

    def __init__(self, place: Place) -> None:
        self._path = place.path
        try:
            self._table = pq.ParquetFile(place.open())
            groups = range(self._table.num_row_groups)
            self.sizes = [self._table.metadata.row_group(number).num_rows for number in groups]
        except pa.ArrowException as error:
            raise self._damaged(error) from error

    def shard(self, number: int) -> list[Item]:
        """The photos of a shard."""
        try:
            columns = self._table.read_row_group(number).to_pydict()
            return [Item(*row) for row in zip(*(columns[name] for name in _COLUMNS.names), strict=True)]
        except (pa.ArrowException, OSError, KeyError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> RunFolderError:
        return RunFolderError(f"{self._path} is damaged ({error})", "Give another --out, and delete this one")


def _cut(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while shard := list(islice(rest, size)):
        yield shard
