"""Parse, call one function, print. The only place that exits; data goes to stdout, everything else to stderr."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from spectraderm.errors import MissingExtra, SpectraDermError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A folder of skin photos in, a classifier out that says how far it can be believed. Not a medical device.",
)


class Protocol(StrEnum):
    """How photos are split."""

    by_photo = "by-photo"
    as_given = "as-given"


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"


class Device(StrEnum):
    """Where training runs."""

    auto = "auto"
    cpu = "cpu"


Photos = Annotated[Path, typer.Argument(help="Folder of <split>/<class>/* or <class>/*.")]
Run = Annotated[Path, typer.Argument(help="Run folder.")]
Split = Annotated[
    Protocol, typer.Option(help="by-photo: copies never cross. as-given: the folders as they came, copies and all.")
]
Folds = Annotated[
    int,
    typer.Option(help="by-photo: k folds, or 1 for one held-out test set. as-given: random draws of validation. "
                      "0: 5 by photo, 1 as given."),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Recipe = Annotated[str, typer.Option(help="mission, finetune, or a TOML file.")]
Backbone = Annotated[str, typer.Option(help="Hub id, local folder in Hub layout, or open-nsfw-thin (offline).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")]
Log = Annotated[str | None, typer.Option(help="Also log to tensorboard or mlflow, into RUN/log.")]
Epochs = Annotated[int | None, typer.Option(help="Instead of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option(help="Instead of the recipe's.")]
Lr = Annotated[float | None, typer.Option(help="Learning rate of the head, instead of the recipe's.")]
Patience = Annotated[int | None, typer.Option(help="Instead of the recipe's.")]
DEFAULT_BACKBONE = "microsoft/resnet-50"
DEFAULT_RECIPE = "mission"


@app.command()
def run(
    photos: Photos,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/<photos>-<recipe>-<split>.")] = None,
    recipe: Recipe = DEFAULT_RECIPE,
    backbone: Backbone = DEFAULT_BACKBONE,
    split: Split = Protocol.by_photo,
    folds: Folds = 0,
    seed: Seed = 0,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Lr = None,
    patience: Patience = None,
    device: Device = Device.auto,
    resume: Resume = False,
    log: Log = None,
) -> None:
    """All of it: audit, split, train, evaluate, export. What most people want."""
    pipeline, terminal = _stages()
    out = out or Path("runs") / f"{photos.resolve().name}-{Path(recipe).stem}-{split.value}"
    changes = _changes(epochs, batch_size, lr, patience)
    options = pipeline.Options(recipe, backbone, split.value, folds, seed, resume, device.value, log, changes)
    with terminal.progress() as track:
        evaluation = pipeline.run(photos, out, options, track)
    terminal.say_audit(out)
    terminal.say_scores([out], [evaluation])
    terminal.say_warning(out, evaluation)
    _say(f"Report  {out / 'report.html'}\nModel   {out / 'model'}")
    _say(f"Next    spectraderm predict PHOTO --model {out / 'model'}")


@app.command()
def audit(
    photos: Photos, out: Annotated[Path, typer.Option(help="Run folder to write manifest.csv and audit.json into.")]
) -> None:
    """Read every photo; find copies, leaks and flaws."""
    pipeline, terminal = _stages()
    with terminal.progress() as track:
        pipeline.auditing.audit(photos, out, track)
    terminal.say_audit(out)
    _say(f"Next    spectraderm split {out}")


@app.command()
def split(run: Run, split: Split = Protocol.by_photo, folds: Folds = 0, seed: Seed = 0) -> None:
    """Split an audited run folder, and prove that the split holds."""
    made = _stages()[0].split(run, split.value, folds, seed)
    _say(f"{made.protocol}: {len(made.folds)} trainings\nNext    spectraderm train {run}")


@app.command()
def train(
    run: Run,
    recipe: Recipe = DEFAULT_RECIPE,
    backbone: Backbone = DEFAULT_BACKBONE,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Lr = None,
    patience: Patience = None,
    device: Device = Device.auto,
    resume: Resume = False,
    log: Log = None,
) -> None:
    """Train every fold of a split run folder."""
    pipeline, terminal = _stages()
    changes = _changes(epochs, batch_size, lr, patience)
    options = pipeline.Options(recipe, backbone, resume=resume, device=device.value, log=log, changes=changes)
    with terminal.progress() as track:
        pipeline.train(run, options, track)
    _say(f"Next    spectraderm evaluate {run}")


@app.command()
def evaluate(runs: Annotated[list[Path], typer.Argument(help="Run folders, to be shown side by side.")]) -> None:
    """Score trained run folders; write evaluation.json, report.html and the model card."""
    pipeline, terminal = _stages()
    evaluations = [pipeline.evaluate(run) for run in runs]
    terminal.say_scores(runs, evaluations)
    for run, evaluation in zip(runs, evaluations, strict=True):
        terminal.say_warning(run, evaluation)
    _say("\n".join(f"Report  {run / 'report.html'}" for run in runs) + f"\nNext    spectraderm export {runs[0]}")


@app.command()
def export(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Model folder; by default RUN/model.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store ONNX weights as 16-bit floats.")] = False,
    onnx_only: Annotated[bool, typer.Option("--onnx-only", help="Leave model.safetensors out.")] = False,
    notes: Annotated[Path | None, typer.Option(help="Markdown file to put at the end of the model card.")] = None,
) -> None:
    """Write the model folder, after measuring that it gives training's logits."""
    pipeline, terminal = _stages()
    with terminal.progress() as track:
        parity = pipeline.export_model(run, out, half, onnx_only, notes, track)
    _say(
        f"Parity on {parity['photos']} photos: largest difference of a logit {parity['max_logit_difference']:.2g} "
        f"(bound {parity['bound']:g}), changed first guesses {parity['changed_top1']}\nModel   {out or run / 'model'}"
    )


@app.command()
def predict(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for a photo on stdin.")],
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub id; by default the one that comes along.")
    ] = None,
    format: Annotated[  # noqa: A002
        Format | None, typer.Option(help="By default a table on a terminal, jsonl into a pipe.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Classes to show per photo, in the table.")] = 3,
) -> None:
    """Classify photos. Exit code 1 where some could not be read; the others are done."""
    from spectraderm.serving import batch  # noqa: PLC0415
    from spectraderm.serving.classifier import load_model  # noqa: PLC0415

    classifier = load_model(model)
    failed = 0
    with _stdout() as stdout:
        chosen = format or (Format.table if stdout.isatty() else Format.jsonl)
        writer = batch.writer(chosen.value, stdout, classifier, top_k)
        for path, result in batch.predict(classifier, photos, sys.stdin.buffer):
            if isinstance(result, SpectraDermError):
                failed += 1
                _say(f"error: {result}")
            else:
                writer.write(path, result)
        writer.close()
    if failed:
        _say(f"{failed} of the photos could not be read")
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to paint and work in.")] = Path("spectraderm-demo"),
    data: Annotated[Path | None, typer.Option(help="A folder of your own photos instead of painted ones.")] = None,
    seed: Seed = 0,
) -> None:
    """Paint a small flawed data set, run the whole way on it, and classify photos. Needs no network and no data."""
    from spectraderm.serving import batch  # noqa: PLC0415
    from spectraderm.serving.classifier import load_model  # noqa: PLC0415

    pipeline, terminal = _stages()
    with terminal.progress() as track:
        result = pipeline.demo(out, data, seed, track)
    terminal.say_audit(result.run)
    terminal.say_scores([result.run], [result.evaluation])
    with _stdout() as stdout:
        table = batch.TableWriter(stdout, load_model(), top_k=2)
        for path, prediction in result.predictions.items():
            table.write(path, prediction)
        table.close()
    _say(result.story)


def main() -> None:
    """The console script: errors that are expected become one line and exit code 2."""
    signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except (SpectraDermError, OSError) as error:  # OSError: a full disk, or a folder that can't be written into
        _say(f"error: {error}")
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:
            _say("stopped; --resume goes on where training was")
        raise


def _stop(*_: object) -> None:
    """Of Ctrl-C. Prints nothing itself: it may come in the middle of another line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(130)


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """Where data goes, flushed at the end. Leaves quietly when its reader has gone, as in `predict ... | head -1`."""
    if sys.stdout is None:  # Python's, where it was closed before the start
        raise SpectraDermError("stdout is closed", "Nothing can be printed")
    if isinstance(sys.stdout, TextIOWrapper):  # names of files need not be text in its encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:  # a photo's own are `SpectraDermError`s
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries, and fails, again at its end
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(141) from None
        raise SpectraDermError(f"stdout can't be written to ({error.strerror})") from error


def _stages() -> tuple[Any, Any]:
    """The pipeline and how its work is shown; imported only by commands that need the `train` extra."""
    try:
        from spectraderm import pipeline, terminal  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra(f"what audits and trains ({error.name})", "train") from error
    return pipeline, terminal


def _changes(epochs: int | None, batch_size: int | None, lr: float | None, patience: int | None) -> dict[str, Any]:
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": lr, "patience": patience}
    return {name: value for name, value in given.items() if value is not None}


def _say(text: str) -> None:
    if sys.stderr is not None:  # closed before the start
        sys.stderr.write(text + "\n")
