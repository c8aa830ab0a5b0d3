"""Answers to one shard's photos -> two Parquet files, and back to how many there are.

The second, of what could not be read, is written first and only where there is some: a shard is done when its first is
there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.bulk.filesystem import Place
from spectraderm.inference.prediction import Prediction

PREDICTIONS, UNREADABLE = "predictions", "unreadable"
_BEFORE = (
    *(("path", pa.string()), ("sha256", pa.string()), ("verdict", pa.string()), ("reason", pa.string())),
    *(("label", pa.string()), ("display_name", pa.string()), ("probability", pa.float64())),
    *(("prediction_set", pa.list_(pa.string())), ("coverage", pa.float64()), ("novelty", pa.float64())),
    ("in_training", pa.bool_()),
)
_AFTER = (("heatmap", pa.list_(pa.list_(pa.float32()))), ("model_id", pa.string()))
_UNREADABLE = pa.schema([(name, pa.string()) for name in ("path", "sha256", "error", "problem", "remedy")])
_MOST_BYTES = 2**31


@dataclass(frozen=True)
class Answered:
    """What came of one photo. `sha256` is that of the file's bytes; None where these could not be had."""

    path: str
    sha256: str | None
    result: Prediction | SpectraDermError


@dataclass(frozen=True)
class Part:
    """Of one shard: how many photos have which verdict, how many could not be read, and its files' SHA-256 by name."""

    verdicts: Counter[str]
    unreadable: int
    sha256: dict[str, str]

    @property
    def photos(self) -> int:
        """All of them."""
        return self.verdicts.total() + self.unreadable


def name(kind: str, shard: int) -> str:
    """Of a file in the output folder."""
    return f"{kind}/part-{shard:06}.parquet"


def write(out: Place, shard: int, answers: Sequence[Answered], labels: Sequence[str]) -> None:
    """Write a shard's files."""
    bad = [_unreadable(one) for one in answers if isinstance(one.result, SpectraDermError)]
    good = [_flat(one, labels) for one in answers if isinstance(one.result, Prediction)]
    if bad:
        out.below(name(UNREADABLE, shard)).write(_parquet(bad, _UNREADABLE))
    probabilities = [(f"probability:{label}", pa.float64()) for label in labels]
    schema = pa.schema([*_BEFORE, *probabilities, *_AFTER])
    out.below(name(PREDICTIONS, shard)).write(_parquet(good, schema))


def read(out: Place, shard: int) -> Part | None:
    """What a shard's files hold; None where they are damaged or not there."""
    files = [name(kind, shard) for kind in (PREDICTIONS, UNREADABLE)]
    try:
        found = {file: out.below(file).read(_MOST_BYTES) for file in files if out.below(file).kind()}
        tables = [
            pq.read_table(pa.BufferReader(data), columns=["path", *extra]) if data else None
            for data, extra in ((found.get(files[0]), ["verdict"]), (found.get(files[1]), []))
        ]
    except (SpectraDermError, pa.ArrowException, OSError):
        return None
    predictions, unreadable = tables
    if predictions is None:
        return None
    sums = {file: artifacts.sha256(data) for file, data in found.items()}
    return Part(Counter(predictions.column("verdict").to_pylist()), unreadable.num_rows if unreadable else 0, sums)


def _flat(one: Answered, labels: Sequence[str]) -> dict[str, Any]:
    """A row of `predictions`: all fields of a `Prediction`, its probabilities a column each."""
    own = vars(one.result)
    each = {f"probability:{label}": own["probabilities"].get(label) for label in labels}
    return {"path": one.path, "sha256": one.sha256, **own, **each}


def _unreadable(one: Answered) -> dict[str, Any]:
    error = one.result
    assert isinstance(error, SpectraDermError)
    facts = {"error": type(error).__name__, "problem": error.problem, "remedy": error.remedy}
    return {"path": one.path, "sha256": one.sha256, **facts}


def _parquet(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> bytes:
    stream = pa.BufferOutputStream()
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), stream, compression="zstd")
    data: bytes = stream.getvalue().to_pybytes()
    return data
