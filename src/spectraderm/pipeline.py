"""The stages in order: the table of contents of the whole system. Each command is one function here.

The stages themselves know nothing of each other; they meet through the files of a run folder. Only `train`, `export`
and `run` wait for torch: `_training` imports what they need of the training room.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spectraderm.core import OFFLINE_BACKBONE, Protocol
from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.locks import is_main, only_writer
from spectraderm.core.progress import Track, as_one, no_track
from spectraderm.core.roots import Given, root_of, to_facts
from spectraderm.core.run import CONFIG, MANIFEST, MODEL, REPORT, SPLIT, Run
from spectraderm.data import audit as auditing
from spectraderm.data import manifest, synthetic
from spectraderm.data import split as splitting
from spectraderm.data.measurements import Embedding
from spectraderm.evaluation import calibrate as calibration
from spectraderm.evaluation import evaluate as evaluation
from spectraderm.evaluation import ledger
from spectraderm.evaluation.calibrate_external import section
from spectraderm.evaluation.compare import compare_photos, compare_runs
from spectraderm.evaluation.figures import write_curves
from spectraderm.evaluation.fitting import Settings
from spectraderm.evaluation.outputs import read_outputs
from spectraderm.evaluation.report import write_report
from spectraderm.evaluation.robustness import measure_robustness, to_markdown
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.classifier import Prediction, load_model
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import open_model
from spectraderm.training.options import Options, check_run, check_train

GROUPED_FOLDS = 5
DEMO_FOLDS, DEMO_SHOWN = 3, 3


def run(photos: Given, out: Path, options: Options, track: Track = no_track) -> dict[str, Any]:
    """Photos, one folder or several sources -> a run folder with report and model. Returns `evaluation.json`'s content.

    Raises:
        SpectraDermError: of any stage; what was done before it stays, and `resume` goes on from there.
    """
    check_run(photos, out, options)  # what can fail early, fails early
    trained = (out / CONFIG).exists()
    training, recipe, backbone = as_one(track, "Loading the backbone", lambda: _load(options))
    with only_writer(out):
        if trained:
            Run(out).check("train")
            _check_same(photos, out, options)
        else:
            audit(photos, out, track, look_for_crops=options.crops)
            split(out, options.protocol, options.folds, options.seed)
        with Run(out).stage("train"):
            training.train(Run(out), recipe, backbone, options.resume, options.device, options.log, track)
        calibrate(out)
        result = evaluate(out, "run", track=track)
        export(out, track=track)
    return result


def audit(photos: Given, out: Path, track: Track = no_track, *, look_for_crops: bool | None = None) -> auditing.Audit:
    """Audit a folder of photos into a run folder; see `data.audit.audit`. The default model's features find crops."""
    embedding = None
    auditing.check_out(photos, out)
    if Run(out).path(CONFIG).is_file():  # before it takes long; `Run.stage` looks at what is written
        auditing.check_same(photos, Run(out))
    if look_for_crops is not False:
        folder = open_model()
        engine = Engine(folder.network, folder.preprocessing, threads=1)  # it is called by several
        embedding = Embedding(folder.preprocessing, lambda pixels: engine(pixels).features)
    with Run(out).stage("audit"):
        return auditing.audit(photos, Run(out), track, embedding, look_for_crops=look_for_crops)


def split(run_folder: Path, protocol: Protocol, folds: int, seed: int) -> splitting.Split:
    """Read a run folder's manifest, write its `split.csv`."""
    with Run(run_folder).stage("split"):
        rows = manifest.read(run_folder / MANIFEST)
        made = _make_split(rows, protocol, folds, seed)
        splitting.write(run_folder / SPLIT, made, rows)
    return made


def train(run_folder: Path, options: Options, track: Track = no_track) -> None:
    """Train a run folder's split and draw the curves."""
    check_train(run_folder, options)
    made = Run(run_folder)
    training, recipe, backbone = as_one(track, "Loading the backbone", lambda: _load(options))
    with made.stage("train"):
        training.train(made, recipe, backbone, options.resume, options.device, options.log, track)
        if is_main():
            write_curves(made)


def calibrate(run_folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Find a trained run folder's settings; see `evaluation.calibrate`. By default those of before, or the usual."""
    made = Run(run_folder)
    with made.stage("calibrate"):
        return calibration.calibrate(made, settings)


def score(run_folder: Path) -> dict[str, Any]:
    """Score a calibrated run folder and write `evaluation.json`, without a line in the ledger."""
    made = Run(run_folder)
    with made.stage("evaluate"):
        return evaluation.evaluate(made)


def evaluate(run_folder: Path, command: str = "evaluate", beside: str = "", track: Track = no_track) -> dict[str, Any]:
    """Score a calibrated run folder, write its report and card, and note that its test photos were used.

    The ledger is written last: a scoring that is killed and done again is one line.
    """
    made = Run(run_folder)
    with made.stage("evaluate"):
        result = as_one(track, "Scoring", lambda: evaluation.evaluate(made))
        entry = ledger.entry(made, command, beside)
        as_one(track, "Writing the report", lambda: write_report(made, result, [entry]))
        ledger.write(made, entry)
    return result


def compare(run_a: Path, run_b: Path) -> dict[str, Any]:
    """Two runs on the same test photos, paired by photo; both ledgers note that their tests were used to choose.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    a, b = Run(run_a), Run(run_b)
    with a.stage("evaluate", part=True), b.stage("evaluate", part=True):
        return compare_runs(a, b)


def export(
    run_folder: Path,
    out: Path | None = None,
    onnx_only: bool = False,
    notes: Path | None = None,
    int8: bool = False,
    track: Track = no_track,
) -> dict[str, Any]:
    """Write a run folder's model folder, from the backbone that the run was trained from; see `export.export`.

    With `int8` it is another folder, of a network in 8-bit integers, calibrated anew; its loss is measured out of fold.
    """
    made = Run(run_folder)
    training = as_one(track, "Loading PyTorch", _training)
    backbone = training.load_backbone(made.config["backbone_name"])
    try:
        text = notes.read_text(encoding="utf-8") if notes else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{notes} can't be read ({error})", "Give a Markdown file") from error

    def robustness(engine: Callable[[str], Engine | None], preprocessing: Preprocessing) -> tuple[dict[str, Any], str]:
        found, calibrated = measure_robustness(made, engine, preprocessing, track), (integers.run if integers else made)
        return found, "\n".join(filter(None, (to_markdown(found), section(calibrated.calibration))))

    with made.stage("export"), tempfile.TemporaryDirectory() as folder:
        integers = None
        if int8:
            quantized = Run(Path(folder))
            training.quantize(made, backbone, quantized, track)
            calibration.calibrate(quantized, calibration.settings_of(made))
            integers = training.Integers(quantized, _loss(made, quantized))
        return training.export(made, backbone, robustness, out, onnx_only, text, integers, track)  # type: ignore[no-any-return]


def _loss(run: Run, integers: Run) -> dict[str, Any]:
    """How a run's held-out photos fare in 8-bit integers, against floats."""
    quantised, floats = (calibration.held_out(read_outputs(each)[1])[1].scored() for each in (integers, run))
    found = compare_photos(quantised, floats)
    names = {"value": "difference", "low": "low", "high": "high"}
    return {
        "photos": found["n_photos"],
        "photo_groups": found["n_groups"],
        "accuracy_difference": {name: found["group_accuracy"][own] for name, own in names.items()},
        "changed_top1": float((quantised.guesses != floats.guesses).mean()),
    }


def _load(options: Options) -> tuple[SimpleNamespace, Any, Any]:
    """The training room, a recipe, and a backbone that goes with it."""
    training = _training()
    return training, *training.load_matching(options.recipe, options.changes, options.backbone)


def _training() -> SimpleNamespace:
    """What the stages above use of the training room; importing it takes seconds, for torch comes along."""
    from spectraderm.training import export, quantize, train  # noqa: PLC0415
    from spectraderm.training.backbones import load_backbone  # noqa: PLC0415
    from spectraderm.training.network import load_matching  # noqa: PLC0415

    return SimpleNamespace(
        load_matching=load_matching,
        load_backbone=load_backbone,
        train=train.train,
        quantize=quantize.quantize,
        export=export.export,
        Integers=export.Integers,
    )


@dataclass(frozen=True)
class Demo:
    """What a demo made: the run folder, its evaluation, what its model says of some photos, and the story."""

    run: Path
    evaluation: dict[str, Any]
    predictions: dict[str, Prediction]
    story: str


def demo(out: Path, data: Path | None, seed: int, track: Track = no_track) -> Demo:
    """The whole way, offline and in some minutes: painted photos (or `data`), the default recipe, some predictions.

    Raises:
        DatasetError: `out` holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty", "Delete it, or give another --out")
    photos, folder = data or out / "photos", out / "run"
    made = f"Your photos {photos} were read and not changed."
    if data is None:
        planted = synthetic.paint(photos, seed)
        made = (
            f"Painted {planted.photo_groups} photos, not real ones, into {photos}, with flaws planted: "
            f"{len(planted.copies)} test photos\nare turned or mirrored copies of training photos, "
            f"{len(planted.unreadable)} file is damaged, and {manifest.display_name(planted.given_away)} alone is "
            "always of one size."
        )
    options = Options(backbone=OFFLINE_BACKBONE, folds=DEMO_FOLDS, seed=seed)
    evaluation = run(photos, folder, options, track)
    rows = manifest.read(folder / MANIFEST)
    one_each = {row.label: photos / row.path for row in reversed(rows) if row.given_split in ("test", "")}
    nonsense = [out / "nonsense" / name for name in synthetic.paint_nonsense(out / "nonsense", seed)]
    classifier = load_model(folder / MODEL)
    shown = sorted(one_each.values())[:DEMO_SHOWN]
    predictions = {str(path): classifier.predict(path) for path in [*shown, *nonsense]}
    seen = sum(predictions[str(path)].in_training for path in shown)
    refused = sum(predictions[str(path)].verdict in ("out_of_scope", "unusable_photo") for path in nonsense)
    story = f"""
{made}
Trained on them: {folder} (report.html, gallery.html, and the model in model/).
Above, it was asked about {len(shown)} of these photos, of which it says it has seen {seen},
and about {len(nonsense)} of nonsense, of which it refused {refused}.

Next
  open {folder / REPORT}
  spectraderm predict YOUR_PHOTO.jpg          (by the default model, trained on real photos)
  spectraderm run YOUR_FOLDER --backbone {OFFLINE_BACKBONE}"""
    return Demo(folder, evaluation, predictions, story)


def _make_split(rows: list[manifest.Row], protocol: Protocol, folds: int, seed: int) -> splitting.Split:
    return splitting.make(rows, protocol, folds or (GROUPED_FOLDS if protocol == "grouped" else 1), seed)


def _check_same(photos: Given, run_folder: Path, options: Options) -> None:
    """Make sure, before anything is written, that a run that is to go on was made from these photos and this split."""
    rows = manifest.read(run_folder / MANIFEST)
    before = splitting.read(run_folder / SPLIT, rows)
    if to_facts(Run(run_folder).photos) != to_facts(root_of(photos)):
        raise RunFolderError(f"{run_folder} was made from other photos", "Give another --out")
    auditing.check_same(photos, Run(run_folder))
    if before != _make_split(rows, options.protocol, options.folds, options.seed):
        raise RunFolderError(f"{run_folder} was split in another way", "Give the same --split, --folds and --seed")
