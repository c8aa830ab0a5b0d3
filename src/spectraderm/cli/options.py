"""What the options of the command line are called, and what they mean."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spectraderm import core

Photos = Annotated[
    list[Path], typer.Argument(help="Folder of <split>/<class>/* or <class>/*; of several each is a source.")
]
Other = Annotated[
    Path | None,
    typer.Option(
        "--other", help="Folder of photos of none of the classes, to be refused; as a class folder named `other` is."
    ),
]
Run = Annotated[Path, typer.Argument(help="Run folder.")]
Split = Annotated[
    core.Protocol,
    typer.Option(help="grouped: copies never cross. original: the folders as they came, copies and all. "
                      "deduplicated: the given test folder, training folders without copies of it. "
                      "by-source: each source is left out once."),
]  # fmt: skip
Folds = Annotated[
    int,
    typer.Option(help="grouped: k folds, or 1 for one held-out test set. original: random draws of validation. "
                      "0: 5 of grouped, else 1."),
]  # fmt: skip
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of everything random.")]
Recipe = Annotated[str, typer.Option(help="discriminant, notebook, finetune, or a TOML file.")]
Backbone = Annotated[
    str, typer.Option(help="Hub id (OWNER/NAME@REVISION), local folder in Hub layout, or open-nsfw-thin (offline).")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")]
Log = Annotated[
    core.Log | None,
    typer.Option(help="Also log curves, settings and scores, into RUN/log. Each is an extra of that name."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs, in place of tables.")]
Crops = Annotated[
    bool | None,
    typer.Option("--crops/--no-crops", help="Look for crops and zooms of photos: slow. By default up to 5,000 photos."),
]
Device = Annotated[core.Device, typer.Option(help="Where training runs.")]
External = Annotated[
    bool, typer.Option("--external", help="Find the settings for photos from elsewhere, on PHOTOS of other sources.")
]
ChosenOn = Annotated[
    bool, typer.Option("--chosen-on", help="With MODEL PHOTOS: a recipe was chosen by its score on them; told with it.")
]
Coverage = Annotated[float | None, typer.Option(min=0.5, max=0.999, help="Of prediction sets; by default 0.9.")]
Conformal = Annotated[
    core.Conformal | None, typer.Option(help="How sets are made: lac (smallest; the default) or raps.")
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Hold the coverage in every class: larger sets.")]
Promise = Annotated[
    float | None,
    typer.Option(
        min=0.5, max=0.999, help="Share of `predicted` that shall be right; by default the most that can be proved."
    ),
]
LabelMap = Annotated[
    Path | None,
    typer.Option("--label-map", help="CSV folder,label: which class each folder of PHOTOS is; empty: none."),
]
Calibration = Annotated[
    core.Choice,
    typer.Option(
        help="What photos are judged by. home: as photos of the clinic and camera it learned from. elsewhere: as "
        "photos of other places. auto: elsewhere where the model has that, but home for photos that are in training."
    ),
]
Runtime = Annotated[
    Literal["onnxruntime", "openvino"],
    typer.Option(help="onnxruntime: on an NVIDIA card where built for one. openvino: an extra."),
]
Precision = Annotated[
    Literal["fp32", "bf16"],
    typer.Option(help="bf16: 16-bit floats, by openvino, on processors with units for them; answers differ a little."),
]
Epochs = Annotated[int | None, typer.Option(help="Instead of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option(help="Instead of the recipe's.")]
Lr = Annotated[float | None, typer.Option(help="Learning rate of the head, instead of the recipe's.")]
Patience = Annotated[int | None, typer.Option(help="Instead of the recipe's.")]
