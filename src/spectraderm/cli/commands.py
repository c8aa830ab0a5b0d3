"""Parse, call one function, print. The only place that exits; data goes to stdout, everything else to stderr."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from spectraderm.cli import console, options
from spectraderm.cli import inference_commands as doors
from spectraderm.cli.console import stdout
from spectraderm.core import DEFAULT_BACKBONE, DEFAULT_RECIPE
from spectraderm.core.errors import SpectraDermError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # noqa: PLC0415 - takes a while

        with stdout() as stream:
            stream.write(f"spectraderm {metadata.version('spectraderm')}\n")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """A folder of skin photos in, a classifier out that says how far it can be believed. Not a medical device."""


@app.command()
def run(
    photos: options.Photos,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/<photos>-<recipe>-<split>.")] = None,
    recipe: options.Recipe = DEFAULT_RECIPE,
    backbone: options.Backbone = DEFAULT_BACKBONE,
    split: options.Split = "grouped",
    folds: options.Folds = 0,
    seed: options.Seed = 0,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    patience: options.Patience = None,
    device: options.Device = "auto",
    resume: options.Resume = False,
    log: options.Log = None,
    crops: options.Crops = None,
    other: options.Other = None,
    as_json: options.Json = False,
) -> None:
    """All of it: audit, split, train, calibrate, evaluate, export. What most people want."""
    given = locals()
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.run(**given)


@app.command()
def audit(
    photos: options.Photos,
    out: Annotated[Path, typer.Option(help="Run folder to write manifest, findings, copies and gallery into.")],
    fail_on: Annotated[
        str,
        typer.Option(
            help="Exit with code 3 where one of these was found: ids of findings, as in leakage,"
            "label_conflict, or high, medium, low for that severity and worse."
        ),
    ] = "",
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Also write split.csv, as split --split deduplicated does. Photos stay untouched."),
    ] = False,
    crops: options.Crops = None,
    other: options.Other = None,
    as_json: options.Json = False,
) -> None:
    """Read every photo; find copies, leaks, shortcuts and flaws. Exit code 3 where --fail-on was met."""
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.audit(photos, out, fail_on, {"fix": fix, "crops": crops, "other": other}, as_json)


@app.command()
def split(
    run: options.Run,
    split: options.Split = "grouped",
    folds: options.Folds = 0,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Split an audited run folder, and prove that the split holds."""
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.split(run, split, folds, seed, as_json)


@app.command()
def train(
    run: options.Run,
    recipe: options.Recipe = DEFAULT_RECIPE,
    backbone: options.Backbone = DEFAULT_BACKBONE,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    patience: options.Patience = None,
    device: options.Device = "auto",
    resume: options.Resume = False,
    log: options.Log = None,
) -> None:
    """Train every fold of a split run folder."""
    given = locals()
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.train(**given)


@app.command()
def calibrate(
    target: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="Run folder; with --external also a model.")],
    photos: Annotated[
        list[str] | None,
        typer.Argument(metavar="PHOTOS...", help="With --external: each folder or NAME=FOLDER is a source."),
    ] = None,
    external: options.External = False,
    other: Annotated[
        list[str] | None,
        typer.Option("--other", help="With --external: photos of none of the classes, as PHOTOS; may be repeated."),
    ] = None,
    label_map: options.LabelMap = None,
    out: Annotated[Path | None, typer.Option(help="With --external: another model folder to write.")] = None,
    coverage: options.Coverage = None,
    conformal: options.Conformal = None,
    per_class: options.PerClass = False,
    promise: options.Promise = None,
    as_json: options.Json = False,
) -> None:
    """Find temperature, prediction sets, and the thresholds of "I don't know": on photos held out of training, or, with
    --external, for photos from elsewhere, on labelled photos of other sources.
    """
    from spectraderm.api.options import check_calibrate  # noqa: PLC0415
    from spectraderm.cli import stages  # noqa: PLC0415

    there = {"other": other, "out": out, "label_map": label_map}
    here = {"coverage": coverage, "conformal": conformal, "per_class": per_class}
    check_calibrate(bool(photos), external, any(there.values()), any(here.values()))
    if external:
        stages.calibrate_elsewhere(target, photos or (), there | {"promise": promise}, as_json)
    else:
        stages.calibrate(target, here | {"promise": promise}, as_json)


@app.command()
def evaluate(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...|MODEL PHOTOS...",
            help="Run folders; or a model folder (or `default`) and photos, each folder or NAME=FOLDER a source.",
        ),
    ],
    label_map: options.LabelMap = None,
    out: Annotated[Path | None, typer.Option(help="With MODEL PHOTOS: also write the result as JSON.")] = None,
    other: options.Other = None,
    chosen_on: options.ChosenOn = False,
    calibration: options.Calibration = "auto",
    as_json: options.Json = False,
) -> None:
    """Score run folders side by side and write their reports; or a model on photos that it was not made from."""
    from spectraderm.cli import stages  # noqa: PLC0415

    about = {"label_map": label_map, "out": out, "other": other, "chosen_on": chosen_on}
    stages.evaluate(targets, about | {"calibration": calibration}, as_json)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another, tested on the same photos.")],
    as_json: options.Json = False,
) -> None:
    """Which of two runs is better, photo by photo, and whether that is more than noise."""
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.compare(run_a, run_b, as_json)


@app.command()
def reproduce(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|notebook PHOTOS", help="A run folder; or the word `notebook` and its photos."),
    ],
    photos: Annotated[
        Path | None, typer.Option(help="With RUN: where the photos are now; by default where they were.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="With notebook: how many draws.")] = 20,
    seed: options.Seed = 0,
    backbone: options.Backbone = DEFAULT_BACKBONE,
    out: Annotated[
        Path | None, typer.Option(help="With notebook: run folder to keep; by default none is kept.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train and score a run again from its manifest; exit code 3 where a published number differs. Or train the
    notebook's recipe for many seeds, and show its three numbers beside their mean, lowest and highest.
    """
    from spectraderm.cli import stages  # noqa: PLC0415

    if len(targets) == 2 and str(targets[0]) == "notebook":
        stages.reproduce_notebook(targets[1], seeds, backbone, out, seed, as_json)
    elif len(targets) != 1:
        raise SpectraDermError("one run is reproduced at a time", "Give RUN, or: notebook PHOTOS")
    else:
        stages.reproduce(targets[0], photos, as_json)


@app.command()
def export(
    run: options.Run,
    out: Annotated[Path | None, typer.Option(help="Model folder; by default RUN/model, or RUN/model-int8.")] = None,
    onnx_only: Annotated[bool, typer.Option("--onnx-only", help="Leave model.safetensors out.")] = False,
    notes: Annotated[Path | None, typer.Option(help="Markdown file to put at the end of the model card.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write another model folder, which computes in 8-bit integers.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Write the model folder, after measuring that it gives training's logits."""
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.export(run, out, {"onnx_only": onnx_only, "notes": notes, "int8": int8}, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to paint and work in.")] = Path("spectraderm-demo"),
    data: Annotated[Path | None, typer.Option(help="A folder of your own photos instead of painted ones.")] = None,
    seed: options.Seed = 0,
) -> None:
    """Paint a small flawed data set, run the whole way on it, and classify photos. Needs no network and no data."""
    from spectraderm.cli import stages  # noqa: PLC0415

    stages.demo(out, data, seed)


app.add_typer(doors.app)


def main() -> None:
    """The console script."""
    console.run(_with_only(*sys.argv[1:2]))


def _with_only(name: str = "") -> typer.Typer:
    """The command line with no command but this one: to make them all takes as long as two photos. With all of them
    where there is none of this name, and what was typed is an option or a mistake.
    """
    commands = [*app.registered_commands, *doors.app.registered_commands]
    named = [each for each in commands if each.callback and name == (each.name or each.callback.__name__)]
    if not named:
        return app
    alone = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    alone.registered_callback, alone.registered_commands = app.registered_callback, named
    return alone
