"""A run folder as one object: the names of its files, where they are, and how they are read and checked.

Stages meet only through these files. What their rows mean is for the stages to know; here they are columns.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import run_display, stages
from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import read_array, read_csv, read_json
from spectraderm.core.fold import Fold, Logits
from spectraderm.core.locks import is_main, only_writer
from spectraderm.core.roots import Root, from_facts

MANIFEST, AUDIT, SPLIT = "manifest.csv", "audit.json", "split.csv"
COPIES, MEASUREMENTS, GALLERY = "copies.csv", "measurements.npz", "gallery.html"
CONFIG, ENVIRONMENT = "config.json", "environment.json"
HISTORY, CURVES, LOGITS = "history.csv", "curves.png", "logits.csv"
STATE, CHECKPOINT = "state.safetensors", "checkpoint.safetensors"
FEATURES, HEATMAPS = "features.npy", "heatmaps.npz"
HEAD_STATISTICS, LEARNING_CURVE = "head_statistics.npz", "learning_curve.csv"
CALIBRATION = "calibration.json"
NOVELTY = "novelty.npy"
EVALUATION, REPORT, CARD = "evaluation.json", "report.html", "README.md"
CONFUSION_PNG, RELIABILITY_PNG = "confusion_matrix.png", "reliability.png"
ROC_PNG, LEARNING_PNG = "roc.png", "learning_curve.png"
CARD_PICTURES = (CONFUSION_PNG, RELIABILITY_PNG, ROC_PNG, LEARNING_PNG)
"""Pictures that the card shows. `export` copies them: they are plots, and hold no photo."""
MODEL, MODEL_INT8 = "model", "model-int8"
CACHE, EXTERNAL, LEDGER = "cache", "external", "test_ledger.csv"
FINAL = "final"
"""Name of the fold whose model is exported; the folds beside it only measure."""
ORIGINAL = "original"
"""Name of the measuring fold that keeps the folders as they came, copies and all, beside the honest ones."""


def measuring(protocol: str, folds: Sequence[str]) -> list[str]:
    """Those of a run's folds that measure the final one: of `grouped` and `by-source` all beside it but `original`.

    The other folds of the protocol `original` are draws of the final one, each with validation photos of its own.
    """
    several = protocol in ("grouped", "by-source")
    return [name for name in folds if several and name not in (FINAL, ORIGINAL)]


LOGIT_COLUMNS = ("path", "photo_group", "split", "label")
"""Of `logits.csv`; then one column `logit:<class>` per class, in the order of the model's outputs."""

_MADE_BY = {
    AUDIT: "Run `spectraderm audit PHOTOS --out RUN` first",
    MANIFEST: "Run `spectraderm audit PHOTOS --out RUN` first",
    SPLIT: "Run `spectraderm split RUN` first",
    CONFIG: "Run `spectraderm train RUN` first",
    CALIBRATION: "Run `spectraderm calibrate RUN` first",
    EVALUATION: "Run `spectraderm evaluate RUN` first",
}
_TRAIN = "Run `spectraderm train RUN --resume`"

STAGES = ("audit", "split", "train", "calibrate", "evaluate", "export")
_BEGINS_WITH = {
    "split": (MANIFEST, AUDIT),
    "train": (MANIFEST, AUDIT, SPLIT),
    "calibrate": (CONFIG,),
    **dict.fromkeys(("evaluate", "compare"), (CONFIG, CALIBRATION)),
    **dict.fromkeys(("reproduce", "export"), (CONFIG, CALIBRATION, EVALUATION)),
}  # the files without which a command can't begin
_WRITTEN_BY = {SPLIT: "split", **dict.fromkeys((MANIFEST, MEASUREMENTS, AUDIT), "audit")}
_WRITTEN_BY |= {CONFIG: "train", FEATURES: "train", CALIBRATION: "calibrate", NOVELTY: "calibrate"}
"""What later stages read, and which one writes it. Reports and the card are for people, who may change them."""
_FOLD_FILES = (LOGITS, CHECKPOINT, FEATURES, HISTORY, HEAD_STATISTICS, LEARNING_CURVE)
_OF_FOLD = re.compile(rf"folds/([^/]+)/(?:.*/)?(?:{'|'.join(map(re.escape, _FOLD_FILES))})")
_INPUTS = {"split": (MANIFEST,), "train": (MANIFEST, SPLIT), "calibrate": (CONFIG,), "evaluate": (CONFIG, CALIBRATION)}
"""Of a stage, beside logits."""
_AGAIN = {
    "audit": "Run `spectraderm audit PHOTOS --out {run}` again",
    "split": "Run `spectraderm split {run}` again",
    "train": "Delete {run}/folds and {file}, then run `spectraderm train {run} --resume`",
    "fold": "Delete {folder}, then run `spectraderm train {run} --resume`: that fold is trained again",
    "calibrate": "Run `spectraderm calibrate {run}` again",
    "evaluate": "Run `spectraderm evaluate {run}` again",
    "end": "Run `spectraderm train {run} --resume`",
    "anew": "Give another run folder; or delete {run}/config.json and {run}/folds, and run `spectraderm train {run}`",
}


@dataclass(frozen=True)
class Run:
    """A run folder. Every reader raises `RunFolderError` where its file lacks or is damaged, and says what to do.

    Attributes:
        folder: where it is.
    """

    folder: Path

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "folder", Path(folder))

    def __repr__(self) -> str:
        return run_display.to_line(self)

    def _repr_html_(self) -> str:
        return run_display.to_html(self)

    def path(self, name: str) -> Path:
        """Where a file of the run is, by one of the names of this module."""
        return self.folder / name

    @contextmanager
    def stage(self, name: str, *, part: bool = False) -> Iterator[None]:
        """Do the work of a stage, one of `STAGES`: alone here, on inputs that are whole, noting what is written.

        Of processes that train together the first one locks the folder. What is done beside a stage's work, with the
        inputs that it has, is a `part`: it says nothing of whether the stage ended, and of what inputs.

        Raises:
            FolderInUse: another process is at work here.
            RunFolderError: see `check`; or other photos or splits would take the place of those trained on; or this is
                one of several processes, and no training.
            WriteError: the folder can't be written to.
        """
        if not is_main() and name != "train":
            raise RunFolderError(f"`{name}` is for one process", "Start it without torchrun or accelerate")
        if not is_main() or (name != "audit" and not self.folder.is_dir()):  # the stage itself says best what lacks
            yield
            return
        with only_writer(self.folder):
            self.check(name)
            inputs = {file: digest for file in self._inputs(name) if (digest := stages.digest(self.path(file)))}
            with stages.noting(self.folder, "" if part else name, inputs, self._check_trained):
                yield

    def check_there(self, command: str) -> None:
        """Raise `RunFolderError`, before anything takes long, where what a command begins with is not there."""
        for name in _BEGINS_WITH[command]:
            if not self.folder.is_dir():
                raise RunFolderError(f"there is no run folder {self.folder}", _MADE_BY[AUDIT])
            if not self.path(name).is_file():
                raise RunFolderError(f"{self.folder} has no {name}", _MADE_BY[name])

    def check_untrained(self) -> None:
        """Raise `RunFolderError` where a training was begun."""
        if self.path(CONFIG).exists():
            raise RunFolderError(f"{self.folder} was trained in before", "Add --resume to go on, or give another --out")

    def check(self, stage: str) -> None:
        """Compare what the stages before this one wrote and read with what is there now.

        Of a training that goes on, the folds that are done are compared, too. Files without a checksum pass.

        Raises:
            RunFolderError: a file was damaged, deleted, or changed by hand; an earlier stage did not end; or what it
                was done from has changed since.
        """
        noted, before = stages.read(self.folder), STAGES[: STAGES.index(stage)]
        for earlier in before:
            if earlier in noted.unended:
                raise RunFolderError(
                    f"`{earlier}` did not end in {self.folder}", self._again("end" if earlier == "train" else earlier)
                )
        going_on = stage == "train" and any(self.folder.glob(f"folds/*/{LOGITS}"))
        for name, allowed in noted.files.items():
            source, file = self._source(name), self.folder / name
            if source in before or (source == "fold" and "train" in (*before, stage)) or (going_on and name == CONFIG):
                stages.check_file(self.folder, name, allowed, self._again(source, file))
        for earlier in (*before, *(["train"] if stage == "train" and self.path(CONFIG).is_file() else ())):
            for name, digest in noted.inputs[earlier].items():
                if stages.digest(self.path(name)) not in ("", digest):
                    problem = f"`{earlier}` was done from another {name} than {self.folder} has now"
                    raise RunFolderError(problem, self._again("anew" if earlier == "train" else earlier))

    def _again(self, source: str, file: Path = Path()) -> str:
        return _AGAIN[source].format(run=self.folder, file=file, folder=file.parent)

    def _inputs(self, stage: str) -> list[str]:
        """The files that a stage is done from, by relative name."""
        scored = sorted(path.relative_to(self.folder).as_posix() for path in self.folder.glob(f"folds/*/{LOGITS}"))
        return [*_INPUTS.get(stage, ()), *(scored if stage in ("calibrate", "evaluate") else ())]

    def _check_trained(self, name: str, digest: str) -> None:
        """Make sure, before a file gets its name, that it doesn't take the place of another that was trained on."""
        if name not in (MANIFEST, SPLIT) or not self.path(CONFIG).is_file():
            return
        noted = stages.read(self.folder)
        before = noted.inputs["train"].get(name) or next(iter(noted.files.get(name, [])), digest)
        if digest != before:
            raise RunFolderError(f"{self.folder} was trained with another {name}", "Give another run folder")

    def _source(self, name: str) -> str:
        """The stage that wrote a file, `fold` for those of a fold that is done; empty where none reads it."""
        fold = _OF_FOLD.fullmatch(name)
        if fold is None:
            return _WRITTEN_BY.get(name, "")
        return "fold" if self.fold(fold[1]).logits.is_file() else ""

    @property
    def config(self) -> dict[str, Any]:
        """How it was trained."""
        return self._json(CONFIG)

    @property
    def audit(self) -> dict[str, Any]:
        """What the audit found."""
        return self._json(AUDIT)

    @property
    def photos(self) -> Root:
        """The folder of photos that was audited, or the several."""
        return from_facts(self.audit)

    @property
    def calibration(self) -> dict[str, Any]:
        """The settings of its verdicts, at home and elsewhere."""
        return self._json(CALIBRATION)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Its scores."""
        return self._json(EVALUATION)

    @property
    def figures(self) -> dict[str, Path]:
        """Its pictures, PNG, by name: `confusion_matrix`, `reliability`, `risk_coverage`, `roc`, then `learning_curve`
        of a head in closed form, else `curves/<fold>` each.
        """
        return run_display.figures(self.folder)

    @property
    def manifest(self) -> Any:  # noqa: ANN401
        """`manifest.csv`, a row per photo: a pandas data frame, or where pandas isn't installed what `rows` are."""
        return run_display.table(self.rows)

    @property
    def rows(self) -> list[dict[str, str]]:
        """A row per photo, as `manifest.csv` has them."""
        return read_csv(self.path(MANIFEST), ("path",), _MADE_BY[MANIFEST])

    def fold(self, name: str) -> Fold:
        """The folder of a fold."""
        folder = self.folder / "folds" / name
        files = (HISTORY, CURVES, STATE, CHECKPOINT, LOGITS, FEATURES, HEATMAPS, HEAD_STATISTICS, LEARNING_CURVE)
        return Fold(folder, *(folder / file for file in files))

    def logits(self, fold: str) -> Logits:
        """The logits of all photos by the model of one fold; the one place where they are read."""
        path, classes = self.fold(fold).logits, [str(label) for label in self.config["labels"]]
        names = [f"logit:{label}" for label in classes]
        rows = read_csv(path, [*LOGIT_COLUMNS, *names], _TRAIN)
        if not rows:
            raise RunFolderError(f"{path} is empty", "Train again")
        paths, groups, splits, labels = (np.array([row[column] for row in rows]) for column in LOGIT_COLUMNS)
        try:
            values = np.array([[float(row[name]) for name in names] for row in rows])
            groups = groups.astype(np.int64)
        except ValueError as error:
            raise RunFolderError(f"{path} is damaged ({error})", "Train again") from error
        if unknown := set(labels.tolist()) - set(classes):
            raise RunFolderError(f"{path} is damaged ({min(unknown)!r} is no class of the run)", "Train again")
        if not np.isfinite(values).all():
            raise RunFolderError(f"{path} has logits that are no numbers: training diverged", "Lower the learning rate")
        return Logits(paths, groups, splits, labels, classes, values)

    def features(self, fold: str) -> npt.NDArray[np.float16]:
        """Features `float16[n, channels]` of all photos: the fold's own, or those of the frozen backbone."""
        own = self.fold(fold).features
        path = own if own.is_file() else self.path(FEATURES)
        return read_array(path, "Train again, into a new run folder")

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.path(name), _MADE_BY[name])
