"""Parse, call one function, print. The only place that exits; data goes to stdout, everything else to stderr."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from spectraderm.cli import console, options
from spectraderm.cli import inference_commands as doors
from spectraderm.cli.console import say, stdout
from spectraderm.core import DEFAULT_BACKBONE, DEFAULT_RECIPE
from spectraderm.core.errors import SpectraDermError, needs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A folder of skin photos in, a classifier out that says how far it can be believed. Not a medical device.",
)


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
) -> None:
    """All of it: audit, split, train, calibrate, evaluate, export. What most people want."""
    pipeline, terminal = _stages()
    out = out or Path("runs") / f"{'-'.join(each.resolve().name for each in photos)}-{Path(recipe).stem}-{split}"
    changes = options.recipe_changes(epochs, batch_size, lr, patience)
    settings = pipeline.Options(recipe, backbone, split, folds, seed, resume, device, log, changes, crops)
    with console.going_on("--resume goes on where training was"), terminal.progress() as track:
        evaluation = pipeline.run(_all_photos(photos, other), out, settings, track)
    terminal.say_audit(out)
    terminal.say_scores([out], [evaluation])
    terminal.say_robustness(out / "model")
    say(f"Report  {out / 'report.html'}\nModel   {out / 'model'}")
    say(f"Next    spectraderm predict PHOTO --model {out / 'model'}")


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
) -> None:
    """Read every photo; find copies, leaks, shortcuts and flaws. Exit code 3 where --fail-on was met."""
    pipeline, terminal = _stages()
    from spectraderm.data import findings  # noqa: PLC0415

    wanted = findings.parse_fail_on(fail_on) if fail_on else []
    with terminal.progress() as track:
        facts = pipeline.audit(_all_photos(photos, other), out, track, look_for_crops=crops).facts
    terminal.say_audit(out)
    if fix:
        pipeline.split(out, "deduplicated", 0, 0)
    say(f"Copies  {out / 'gallery.html'}\nNext    spectraderm {'train' if fix else 'split'} {out}")
    met = findings.failing(facts["findings"], wanted)
    if met:
        say(f"failed: {', '.join(met)}")
        raise typer.Exit(3)


@app.command()
def split(run: options.Run, split: options.Split = "grouped", folds: options.Folds = 0, seed: options.Seed = 0) -> None:
    """Split an audited run folder, and prove that the split holds."""
    pipeline, terminal = _stages()
    terminal.say_split(pipeline.split(run, split, folds, seed))
    say(f"Next    spectraderm train {run}")


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
    pipeline, terminal = _stages()
    changes = options.recipe_changes(epochs, batch_size, lr, patience)
    settings = pipeline.Options(recipe, backbone, resume=resume, device=device, log=log, changes=changes)
    with console.going_on("--resume goes on where it was"), terminal.progress() as track:
        pipeline.train(run, settings, track)
    say(f"Next    spectraderm calibrate {run}")


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
) -> None:
    """Find temperature, prediction sets, and the thresholds of "I don't know": on photos held out of training, or, with
    --external, for photos from elsewhere, on labelled photos of other sources.
    """
    pipeline, terminal = _stages()
    from spectraderm.cli import calibrate_report as report  # noqa: PLC0415
    from spectraderm.evaluation.calibrate_external import calibrate_external  # noqa: PLC0415

    report.check(photos, external, (other, out, label_map), (coverage, conformal, per_class))
    if external:
        with terminal.progress() as track:
            report.say_elsewhere(calibrate_external(target, photos or (), other or (), out, promise, label_map, track))
        return
    settings = pipeline.Settings(coverage or 0.9, conformal or "lac", per_class, promise)
    before = report.has_elsewhere(target)
    result = pipeline.calibrate(target, settings)
    terminal.say_calibration(result)
    report.say_dropped(before and "elsewhere" not in result)
    say(f"Next    spectraderm evaluate {target}")


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
) -> None:
    """Score run folders side by side and write their reports; or a model on photos that it was not made from."""
    pipeline, terminal = _stages()
    from spectraderm.inference.model_folder import is_model_folder  # noqa: PLC0415

    if is_model_folder(targets[0]):
        if len(targets) < 2:
            raise SpectraDermError("a model is evaluated on folders of photos", "Give MODEL PHOTOS")
        from spectraderm.evaluation.external import evaluate_external  # noqa: PLC0415

        with terminal.progress() as track:
            photos = _all_photos(targets[1:], other)
            result = evaluate_external(targets[0], photos, label_map, out, track, calibration, chosen_on=chosen_on)
        terminal.say_external(result)
        return
    if label_map or out or other or chosen_on or calibration != "auto":
        given = "--label-map, --out, --other, --chosen-on and --calibration"
        raise SpectraDermError(f"{given} go with MODEL PHOTOS", "Leave them out for run folders")
    others = [", ".join(sorted(str(other) for other in targets if other != run)) for run in targets]
    evaluations = [pipeline.evaluate(run, beside=beside) for run, beside in zip(targets, others, strict=True)]
    terminal.say_scores(targets, evaluations)
    say("\n".join(f"Report  {run / 'report.html'}" for run in targets) + f"\nNext    spectraderm export {targets[0]}")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another, tested on the same photos.")],
) -> None:
    """Which of two runs is better, photo by photo, and whether that is more than noise."""
    pipeline, terminal = _stages()
    terminal.say_comparison(run_a, run_b, pipeline.compare(run_a, run_b))


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
) -> None:
    """Train and score a run again from its manifest; exit code 3 where a published number differs. Or train the
    notebook's recipe for many seeds, and show its three numbers beside their mean, lowest and highest.
    """
    _, terminal = _stages()
    from spectraderm.cli import reproduce as again  # noqa: PLC0415

    if len(targets) == 2 and str(targets[0]) == again.NOTEBOOK:
        with terminal.progress() as track:
            terminal.say_draws(again.reproduce_notebook(targets[1], seeds, backbone, out, seed, track))
        return
    if len(targets) != 1:
        raise SpectraDermError("one run is reproduced at a time", "Give RUN, or: notebook PHOTOS")
    with terminal.progress() as track:
        lines = again.reproduce(targets[0], photos, track)
    say("\n".join([*lines, f"{len(lines)} values differ"]) if lines else "Every published number came out the same")
    if lines:
        raise typer.Exit(3)


@app.command()
def export(
    run: options.Run,
    out: Annotated[Path | None, typer.Option(help="Model folder; by default RUN/model, or RUN/model-int8.")] = None,
    onnx_only: Annotated[bool, typer.Option("--onnx-only", help="Leave model.safetensors out.")] = False,
    notes: Annotated[Path | None, typer.Option(help="Markdown file to put at the end of the model card.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write another model folder, which computes in 8-bit integers.")
    ] = False,
) -> None:
    """Write the model folder, after measuring that it gives training's logits."""
    pipeline, terminal = _stages()
    with terminal.progress() as track:
        measured = pipeline.export(run, out, onnx_only, notes, int8, track)
    folder = out or run / ("model-int8" if int8 else "model")
    terminal.say_export(measured)
    terminal.say_robustness(folder)
    say(f"Model   {folder}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to paint and work in.")] = Path("spectraderm-demo"),
    data: Annotated[Path | None, typer.Option(help="A folder of your own photos instead of painted ones.")] = None,
    seed: options.Seed = 0,
) -> None:
    """Paint a small flawed data set, run the whole way on it, and classify photos. Needs no network and no data."""
    from spectraderm.inference.classifier import load_model  # noqa: PLC0415

    pipeline, terminal = _stages()
    with terminal.progress() as track:
        result = pipeline.demo(out, data, seed, track)
    terminal.say_audit(result.run)
    terminal.say_scores([result.run], [result.evaluation])
    with stdout() as stream:
        console.write_table(result.predictions.items(), stream, load_model(result.run / "model"), top_k=2)
    say(result.story)


app.add_typer(doors.app)


def main() -> None:
    """The console script."""
    console.run(app)


def _all_photos(photos: list[Path], other: Path | None) -> Any:  # noqa: ANN401
    from spectraderm.core.roots import with_other  # noqa: PLC0415 - of no use to those who predict

    return with_other(photos, other)


def _stages() -> tuple[Any, Any]:
    """The pipeline, and how its work is shown; only for commands that need the `train` extra."""
    with needs("train", "what audits, trains and scores"):
        return import_module("spectraderm.pipeline"), import_module("spectraderm.cli.tables")
