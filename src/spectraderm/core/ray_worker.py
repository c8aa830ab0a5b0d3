"""What Ray runs in its worker processes, on every machine of a cluster."""

import importlib
import json
from collections.abc import Callable
from typing import Any

from spectraderm.core.errors import SpectraDermError, of_system

COLUMNS = {"number": "int64", "text": "large_string", "data": "large_binary", "failed": "large_string"}
"""Of an answer, by pyarrow's types: its task's number, and JSON, or bytes, or JSON of the `parts` of an error."""


def parts(error: SpectraDermError) -> list[str]:
    """An error in words: its kind, its problem and its remedy."""
    return [type(error).__name__, error.problem, error.remedy]


class Worker:
    """What Ray runs in its worker processes.

    Args:
        made: where Ray keeps `make` and its arguments.
    """

    def __init__(self, made: object) -> None:
        self._made = made
        self._do: Callable[[Any], Any] | None = None

    def __call__(self, table: Any) -> object:  # noqa: ANN401  # of pyarrow, which need not be installed
        """A table of `number` and `task` -> one of `number` and either `text`, `data` or `failed`."""
        arrow = importlib.import_module("pyarrow")
        schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in COLUMNS.items()])
        rows = [{"number": row["number"], **self._answer(json.loads(row["task"]))} for row in table.to_pylist()]
        return arrow.Table.from_pylist(rows, schema=schema)

    def _answer(self, task: object) -> dict[str, str | bytes]:
        try:
            if self._do is None:
                make, arguments = importlib.import_module("ray").get(self._made)
                self._do = make(*arguments)
            answer = self._do(task)
        except (SpectraDermError, OSError) as error:
            told = error if isinstance(error, SpectraDermError) else of_system(error)
            return {"failed": json.dumps(parts(told))}
        return {"data": answer} if isinstance(answer, bytes) else {"text": json.dumps(answer)}
