"""`test_ledger.csv`: every time a run's test photos were scored. A test that was used to choose is no test any more."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError

COLUMNS = ("when", "what", "with", "logits_sha256")
_REMEDY = "Delete it only if it is not this run's"


def enter(run: Path, what: str, beside: str = "") -> None:
    """Add a line: `what` is the command that scored the test photos, `beside` the run that it was compared with.

    Raises `RunFolderError` where nothing was trained that could be scored, or the ledger is damaged.
    """
    logits = sorted(run.glob(f"folds/*/{artifacts.LOGITS}"))
    if not logits:
        raise RunFolderError(f"{run} has no trained fold", "Run `spectraderm train RUN` first")
    digest = artifacts.sha256(b"".join(path.read_bytes() for path in logits))
    when = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [*_read(run), {"when": when, "what": what, "with": beside, "logits_sha256": digest}]
    artifacts.write_csv(run / artifacts.LEDGER, COLUMNS, lines)


def summary(run: Path) -> dict[str, Any]:
    """How often the test photos were scored, by how many different models, and with which runs they were compared."""
    lines = _read(run)
    return {
        "opened": len(lines),
        "first": lines[0]["when"] if lines else None,
        "models": len({line["logits_sha256"] for line in lines}),
        "compared_with": sorted({line["with"] for line in lines} - {""}),
    }


def _read(run: Path) -> list[dict[str, str]]:
    path = run / artifacts.LEDGER
    lines = artifacts.read_csv(path, COLUMNS, _REMEDY) if path.is_file() else []
    return [{name: line[name] for name in COLUMNS} for line in lines]
