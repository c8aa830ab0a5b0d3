"""`test_ledger.csv`: every time a run's test photos were scored. A test that was used to choose is no test any more."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from spectraderm.core import files
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import LEDGER, LOGITS, Run

COLUMNS = ("when", "what", "with", "logits_sha256")
Entry = dict[str, str]


def entry(run: Run, command: str, beside: str = "") -> Entry:
    """The line for a scoring of the test photos by `command`, with the runs `beside` which they were compared with.

    It is for `write`, once the scores are out: then a scoring that is killed and done again is one line.

    Raises:
        RunFolderError: nothing was trained that could be scored.
    """
    logits = sorted(run.folder.glob(f"folds/*/{LOGITS}"))
    if not logits:
        raise RunFolderError(f"{run.folder} has no trained fold", "Run `spectraderm train RUN` first")
    digest = files.sha256(b"".join(path.read_bytes() for path in logits))
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"when": when, "what": command, "with": beside, "logits_sha256": digest}


def write(run: Run, new: Entry) -> None:
    """Add a line. Raises `RunFolderError` where the ledger is damaged."""
    files.write_csv(run.path(LEDGER), COLUMNS, [*_read(run), new])


def summary(run: Run, new: Sequence[Entry] = ()) -> dict[str, Any]:
    """How often the test photos were scored, by how many different models, and with which runs they were compared.

    `new` are lines that will be written when the scores are out.
    """
    lines = [*_read(run), *new]
    return {
        "opened": len(lines),
        "first": lines[0]["when"] if lines else None,
        "models": len({line["logits_sha256"] for line in lines}),
        "compared_with": sorted({line["with"] for line in lines} - {""}),
    }


def _read(run: Run) -> list[Entry]:
    path = run.path(LEDGER)
    lines = files.read_csv(path, COLUMNS, "Delete it only if it is not this run's") if path.is_file() else []
    return [{name: line[name] for name in COLUMNS} for line in lines]
