"""The commands that need nothing of training: the doors to a trained model, on the terminal, over HTTP, as a Space; and
the import of public photo sets.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectraderm.cli.console import going_on, show, starting, stdout, write_predictions
from spectraderm.cli.options import Calibration, Json, Precision, Runtime, Seed
from spectraderm.core.errors import SpectraDermError, needs
from spectraderm.core.printable import say

if TYPE_CHECKING:
    from spectraderm.inference.prediction import Prediction

app = typer.Typer()

MODEL_HELP = "Model folder, Hub id (OWNER/NAME@REVISION), or `default` for the one that comes along."
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Repo = Annotated[str, typer.Option(help="OWNER/NAME on the Hugging Face Hub.")]
Private = Annotated[bool, typer.Option("--private", help="Make it visible to its owner only.")]
Restricted = Annotated[
    bool,
    typer.Option("--allow-restricted", help="Also upload what learned from photos whose licence does not allow it."),
]


@app.command()
def predict(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for a photo on stdin.")],
    model: Annotated[str | None, typer.Option(help=f"{MODEL_HELP} It is the default.")] = None,
    format: Annotated[  # noqa: A002
        Literal["table", "jsonl", "csv"] | None,
        typer.Option(help="By default a table on a terminal, jsonl into a pipe."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Classes to show per photo, in the table.")] = 3,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="With jsonl: also where the evidence lies, as rows of numbers.")
    ] = False,
    runtime: Runtime = "onnxruntime",
    precision: Precision = "fp32",
    calibration: Calibration = "auto",
    out: Annotated[
        str,
        typer.Option(
            help="Folder or address (s3://...) for Parquet parts, for any number of photos; "
            "the same command goes on where it was stopped. PHOTOS may also be manifests (.csv), "
            "Parquet files and addresses then."
        ),
    ] = "",
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: this process. ray: Ray, on this machine or a cluster.")
    ] = "local",
    address: Annotated[
        str, typer.Option(help="Of a Ray cluster: auto, or HOST:PORT of its head; by default one is started.")
    ] = "",
    workers: Annotated[int, typer.Option(min=0, help="With --out: threads, or Ray's workers. 0: one per core.")] = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="With --out: photos per part.")] = 512,
) -> None:
    """Classify photos. Exit code 1 where some could not be read; the others are done."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: its threads would wait beside the network's
    if out:
        if format or heatmap:
            raise SpectraDermError("--out writes Parquet, heatmaps and all", "Leave --format and --heatmap out")
        _write_to(out, photos, model, (runtime, precision, calibration), (engine, address, workers), shard_size)
        return
    if engine != "local" or address or workers:
        raise SpectraDermError("--engine, --address and --workers go with --out", "Give --out DIR")
    with starting():
        from spectraderm.images.photo_files import LeftOut, lines  # noqa: PLC0415
        from spectraderm.inference.classifier import load_model  # noqa: PLC0415
        from spectraderm.inference.photo_paths import photos as photos_of  # noqa: PLC0415

        classifier = load_model(model, 0, runtime, calibration, precision)
    failed, left = 0, LeftOut(list)

    def readable() -> Iterator[tuple[str, "Prediction"]]:
        nonlocal failed
        for path, result in classifier.predict_each(photos_of(photos, sys.stdin.buffer, left)):
            if isinstance(result, SpectraDermError):
                failed += 1
                say(f"error: {result}")
            else:
                yield path, result

    with stdout() as stream:
        kind = format or ("table" if stream.isatty() else "jsonl")
        if heatmap and kind != "jsonl":
            raise SpectraDermError(f"a {kind} has no heatmaps", "Give --format jsonl, or leave --heatmap out")
        write_predictions(readable(), kind, stream, classifier, top_k, heatmap=heatmap)
    say(*lines(left))
    if failed:
        say(f"{failed} of the photos could not be read")
        raise typer.Exit(1)


def _write_to(
    out: str,
    photos: list[str],
    model: str | None,
    how: tuple[str, str, Calibration],
    engine: tuple[Literal["local", "ray"], str, int],
    shard_size: int,
) -> None:
    with needs("scale", "what reads and writes Parquet"):
        from spectraderm.inference.bulk import job  # noqa: PLC0415
    from spectraderm.core.progress import progress  # noqa: PLC0415
    from spectraderm.inference import engine as engines  # noqa: PLC0415
    from spectraderm.inference.model_folder import open_model  # noqa: PLC0415

    runtime, calibration = engines.Runtime(*how[:2]), how[2]
    with going_on("the same command goes on where it was"), progress() as track:
        done = job.predict(open_model(model), photos, out, *engine, shard_size, track, runtime, calibration)
    summary = done.summary
    rate = f"{done.photos} this time, {done.photos / done.seconds:.1f} a second" if done.photos else "all of it before"
    counts = f"{summary['photos']} photos, {summary['predicted']} predicted, {summary['unreadable']} unreadable"
    say(f"Done    {done.out}: {counts}; {rate}", *(f"        {note}" for note in done.notes))
    if summary["unreadable"]:
        raise typer.Exit(1)


@app.command()
def adapt(
    model: Model,
    photos: Annotated[Path, typer.Argument(metavar="MY_PHOTOS", help="Folder of <class>/*: your own photos.")],
    out: Annotated[Path, typer.Option(help="The new model folder.")],
    label_map: Annotated[
        Path | None, typer.Option("--label-map", help="CSV folder,label: which class each folder is; empty: other.")
    ] = None,
    add_classes: Annotated[
        bool, typer.Option("--add-classes", help="Folders that are no class of the model become new ones.")
    ] = False,
    other: Annotated[
        Path | None,
        typer.Option(help="Photos of none of the classes, to be refused; as a folder `other` in MY_PHOTOS."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even where it is no better.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make a model better on photos like yours, from a few of them, in a minute. Exit code 3: it was no better."""
    from spectraderm.cli import checks  # noqa: PLC0415

    checks.model(model)
    checks.there([photos, *([other] if other else [])], label_map, out)
    from spectraderm.adaptation import NotBetter  # noqa: PLC0415
    from spectraderm.adaptation import adapt as run  # noqa: PLC0415
    from spectraderm.cli.reports import say_adapted, say_measured  # noqa: PLC0415
    from spectraderm.core.progress import progress  # noqa: PLC0415

    try:
        with progress() as track:
            result = run(
                model, photos, out, label_map, add_classes=add_classes, other=other, force=force, seed=seed, track=track
            )
    except NotBetter as error:
        show(error.result, as_json, say_measured)
        say(f"error: {error}")
        raise typer.Exit(3) from None
    show(result, as_json, lambda result: say_adapted(result, out))


@app.command()
def serve(
    model: Annotated[str | None, typer.Argument(help=MODEL_HELP)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    workers: Annotated[int, typer.Option(min=0, help="Processes that classify; 0: one per core.")] = 0,
    queue: Annotated[int, typer.Option(min=0, help="Photos that may wait; past it 429. 0: 16 per process.")] = 0,
    max_mb: Annotated[int, typer.Option(min=1, max=100, help="Size of a request, in MB.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time that one photo may take.")] = 10,
    grace: Annotated[int, typer.Option(min=0, help="Seconds after SIGTERM to finish what was accepted.")] = 20,
    api_key: Annotated[str, typer.Option(envvar="SPECTRADERM_API_KEY", help="All but /health, /ready need it.")] = "",
    cors: Annotated[list[str] | None, typer.Option(help="Origin whose pages may call it; may be repeated.")] = None,
    frame_ancestors: Annotated[
        list[str] | None, typer.Option(help="Origin that may frame it; may be repeated.")
    ] = None,
    runtime: Runtime = "onnxruntime",
    precision: Precision = "fp32",
    calibration: Calibration = "auto",
) -> None:
    """Serve predictions over HTTP: POST /predict, and a page at /. Stores no photo."""
    given = locals()
    from spectraderm.inference.model_folder import check_model  # noqa: PLC0415

    check_model(model)
    with needs("serve", "the server"):
        from spectraderm.serving.server import ServeOptions, serve  # noqa: PLC0415
    serve(ServeOptions(**given | {"cors": tuple(cors or ()), "frame_ancestors": tuple(frame_ancestors or ())}))


@app.command()
def deploy(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    target: Annotated[
        Literal["static", "docker", "gradio"],
        typer.Option(
            help="static: the page, free, in the visitor's browser. docker: what serve serves. gradio: a Gradio app."
        ),
    ] = "static",
    title: Annotated[str, typer.Option(help="Of the Space.")] = "SpectraDerm",
    upload: Annotated[bool, typer.Option("--push", help="Also upload it, as --repo-id.")] = False,
    repo_id: Repo = "",
    private: Private = False,
    allow_restricted: Restricted = False,
) -> None:
    """Write a complete Hugging Face Space folder; upload it only if told to."""
    from spectraderm.inference.model_folder import open_model  # noqa: PLC0415
    from spectraderm.serving.spaces.deploy import deploy as write  # noqa: PLC0415
    from spectraderm.serving.spaces.push import check_licences, push_space  # noqa: PLC0415

    if upload != bool(repo_id):
        raise SpectraDermError("--push and --repo-id go together", "Give both, or neither")
    if upload and not allow_restricted:
        check_licences(open_model(model).facts)
    write(model, target, out, title, repo_id)
    say(f"Space   {out}")
    if upload:
        say(f"Pushed  {push_space(out, repo_id, target, private)}")


@app.command()
def push(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    repo_id: Repo,
    private: Private = False,
    allow_restricted: Restricted = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub, whole and in one commit."""
    from spectraderm.serving.spaces.push import push_model  # noqa: PLC0415

    say(f"Pushed  {push_model(model, repo_id, private, allow_restricted=allow_restricted)}")


@app.command("import")
def import_(
    name: Annotated[
        str, typer.Argument(help="scin, fitzpatrick17k, pad-ufes-20, ddi, ham10000, isic or reference (Kaggle's copy).")
    ],
    folder: Annotated[Path, typer.Argument(help="What the set's owner publishes, unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder of photos to make: <class>/*, metadata.csv, dataset.json.")],
    label_map: Annotated[
        Path | None, typer.Option("--label-map", help="CSV original,label: lines that take the place of the set's own.")
    ] = None,
    min_weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="scin: what the likeliest label must weigh; 0.5 by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Lay out a public photo set by class, with its patients, cases, skin tones, licence and citation."""
    from spectraderm.cli.reports import say_imported  # noqa: PLC0415
    from spectraderm.core.progress import progress  # noqa: PLC0415
    from spectraderm.data.importers import import_set  # noqa: PLC0415

    with progress() as track:
        facts = import_set(name, folder, out, label_map, min_weight, track)
    show(facts, as_json, say_imported)
    say(f"Photos  {out}", f"Next    spectraderm audit {out} --out RUN")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs and for bug reports.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Don't ask whether the Hub is there.")] = False,
) -> None:
    """Say what works here, what will be used, and what is missing. Exit code 1 where predictions don't work."""
    from spectraderm.cli.check_tables import show_checks  # noqa: PLC0415
    from spectraderm.cli.doctor import examine, is_broken  # noqa: PLC0415

    checks = examine(offline)
    content = {"broken": is_broken(checks), "checks": [vars(check) for check in checks]}
    with nullcontext(sys.stdout) if as_json else stdout() as stream:
        show(content, as_json, lambda _: show_checks(checks, stream))
    if is_broken(checks):
        raise typer.Exit(1)
