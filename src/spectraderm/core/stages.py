"""A stage at work in a run folder: alone there, on inputs that are whole, and noting what it writes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spectraderm.core import artifacts
from spectraderm.core.checksums import CHECKSUMS, altered, noting, read
from spectraderm.core.errors import RunFolderError
from spectraderm.core.locks import is_main, only_writer

ORDER = ("audit", "split", "train", "calibrate", "evaluate", "export")
_FOLD = re.compile(r"folds/([^/]+)/")
_AGAIN = {
    "audit": "Run `spectraderm audit PHOTOS --out {run}` again",
    "split": "Run `spectraderm split {run}` again",
    "train": "Delete {run}/folds and {file}, then run `spectraderm train {run} --resume`",
    "fold": "Delete {folder}, then run `spectraderm train {run} --resume`: that fold is trained again",
    "calibrate": "Run `spectraderm calibrate {run}` again",
}
_WRITTEN = {
    artifacts.MANIFEST: "audit",
    artifacts.MEASUREMENTS: "audit",
    artifacts.AUDIT: "audit",
    artifacts.SPLIT: "split",
    artifacts.CONFIG: "train",
    artifacts.FEATURES: "train",
    artifacts.CALIBRATION: "calibrate",
    artifacts.NOVELTY: "calibrate",
}
"""What later stages read, and which one writes it. Reports and the card are for people, who may change them."""


@contextmanager
def stage(run: Path, name: str) -> Iterator[None]:
    """Do the work of a stage, one of `ORDER`, in a run folder. Of processes that train together the first one locks it.

    Raises:
        FolderInUse: another process is at work there.
        RunFolderError: what an earlier stage wrote is damaged; or this is one of several processes, and no training.
        WriteError: the folder can't be written to.
    """
    if not is_main() and name != "train":
        raise RunFolderError(f"`{name}` is for one process", "Start it without torchrun or accelerate")
    if not is_main() or (name != "audit" and not run.is_dir()):  # the stage itself says best what lacks
        yield
        return
    with only_writer(run), noting(run):
        check(run, name)
        yield


def check(run: Path, name: str) -> None:
    """Compare what the stages before this one wrote with the checksums of then.

    Of a training that goes on, the folds that are done are compared, too. Files without a checksum pass.

    Raises:
        RunFolderError: a file was damaged, or changed by hand.
    """
    for file, expected in read(run).items():
        source = _source(run, file)
        before = source and ORDER.index("train" if source == "fold" else source) < ORDER.index(name)
        if (before or (name == "train" and source == "fold")) and _altered(run, file, expected):
            raise RunFolderError(
                f"{run / file} is damaged or was changed: its SHA-256 is not the one in {CHECKSUMS}",
                f"{_remedy(run, file, source)}; or, where it was changed on purpose, delete its line in "
                f"{run / CHECKSUMS}",
            )


def _source(run: Path, file: str) -> str:
    """The stage that wrote a file, `fold` for those of a fold that is done; empty where none reads it."""
    fold = _FOLD.match(file)
    if fold is None:
        return _WRITTEN.get(file, "")
    done = (artifacts.fold_folder(run, fold[1]) / artifacts.LOGITS).is_file()
    kept = (artifacts.LOGITS, artifacts.CHECKPOINT, artifacts.FEATURES, artifacts.HISTORY)
    return "fold" if done and file.endswith(kept) else ""


def _altered(run: Path, file: str, expected: str) -> bool:
    try:
        return altered(run, file, expected)
    except OSError as error:
        raise RunFolderError(f"{run / file} can't be read ({error.strerror})", "Look whether it is yours") from error


def _remedy(run: Path, file: str, source: str) -> str:
    return _AGAIN[source].format(run=run, file=run / file, folder=(run / file).parent)
