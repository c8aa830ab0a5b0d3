"""What the commands do that need the `train` extra: look at what was given, call one function, show what it returned.

Of no use to those who predict, who do not import it.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from spectraderm.api import runs, scores
from spectraderm.api.given import NEEDED
from spectraderm.api.options import check_evaluate, options_of
from spectraderm.cli import checks, reports
from spectraderm.cli.console import going_on, show, stdout, write_table
from spectraderm.core import Protocol
from spectraderm.core.errors import needs
from spectraderm.core.printable import say
from spectraderm.core.run import CALIBRATION, MANIFEST, SPLIT, Run
from spectraderm.inference.model_folder import is_model_folder
from spectraderm.training.options import check_run, check_train


def run(photos: Sequence[Path], other: Path | None, out: Path | None, as_json: bool, **how: Any) -> None:  # noqa: ANN401
    """The whole way, by the options `how`."""
    out = out or runs.default_run_folder(photos, how["recipe"], how["split"])
    given = checks.photos(photos, other, out)
    with needs(*NEEDED):
        check_run(given, out, options_of(**how))
    _, terminal = _load()
    with going_on("--resume goes on where training was"), terminal.progress() as track:
        made = runs.run(photos, out, **how, other=other, track=track)
    if not as_json:
        terminal.say_audit(out)
    show(made.evaluation, as_json, lambda result: terminal.say_scores([out], [result]))
    terminal.say_robustness(out / "model")
    say(f"Report  {out / 'report.html'}", f"Model   {out / 'model'}")
    say(f"Next    spectraderm predict PHOTO --model {out / 'model'}")


def audit(photos: Sequence[Path], out: Path, fail_on: str, how: dict[str, Any], as_json: bool) -> None:
    """An audit, by the options `how`. Leaves with code 3 where it met what `fail_on` names."""
    checks.photos(photos, how["other"], out)
    _, terminal = _load()
    from spectraderm.data import findings  # noqa: PLC0415

    wanted = findings.parse_fail_on(fail_on) if fail_on else []
    with terminal.progress() as track:
        facts = runs.audit(photos, out, **how, track=track).audit
    show(facts, as_json, lambda _: terminal.say_audit(out))
    say(f"Copies  {out / 'gallery.html'}", f"Next    spectraderm {'train' if how['fix'] else 'split'} {out}")
    met = findings.failing(facts["findings"], wanted)
    if met:
        say(f"failed: {', '.join(met)}")
        raise typer.Exit(3)


def split(run: Path, protocol: Protocol, folds: int, seed: int, as_json: bool) -> None:
    """A split of an audited run folder."""
    checks.run_folder(run, "split")
    _, terminal = _load()
    from spectraderm.data import manifest, split  # noqa: PLC0415

    runs.split(run, protocol, folds, seed)
    made = split.read(run / SPLIT, manifest.read(run / MANIFEST))
    show(asdict(made), as_json, lambda _: terminal.say_split(made))
    say(f"Next    spectraderm train {run}")


def train(run: Path, **how: Any) -> None:  # noqa: ANN401
    """A training of a split run folder, by the options `how`."""
    with needs(*NEEDED):
        check_train(run, options_of(**how))
    _, terminal = _load()
    with going_on("--resume goes on where it was"), terminal.progress() as track:
        runs.train(run, **how, track=track)
    say(f"Next    spectraderm calibrate {run}")


def export(run: Path, out: Path | None, how: dict[str, Any], as_json: bool) -> None:
    """A model folder of a run, by the options `how`."""
    checks.run_folder(run, "export", out)
    _, terminal = _load()
    with terminal.progress() as track:
        measured = runs.export(run, out, **how, track=track)
    folder = out or run / ("model-int8" if how["int8"] else "model")
    show(measured, as_json, terminal.say_export)
    terminal.say_robustness(folder)
    say(f"Model   {folder}")


def demo(out: Path, data: Path | None, seed: int) -> None:
    """The whole way on painted photos, or on `data`, and some predictions."""
    checks.photos([data or Path()], None, out)
    pipeline, terminal = _load()
    from spectraderm.inference.classifier import load_model  # noqa: PLC0415

    with terminal.progress() as track:
        result = pipeline.demo(out, data, seed, track)
    terminal.say_audit(result.run)
    terminal.say_scores([result.run], [result.evaluation])
    with stdout() as stream:
        write_table(result.predictions.items(), stream, load_model(result.run / "model"), top_k=2)
    say(*result.story.splitlines())


def calibrate(run: Path, how: dict[str, Any], as_json: bool) -> None:
    """A run folder at home, by the options `how`."""
    checks.run_folder(run, "calibrate")
    _, terminal = _load()
    before = Run(run).path(CALIBRATION).is_file() and "elsewhere" in Run(run).calibration
    result = scores.calibrate(run, **how)
    show(result, as_json, terminal.say_calibration)
    if before and "elsewhere" not in result:
        say("DROPPED the settings elsewhere, for the run was trained again: calibrate it with --external once more")
    say(f"Next    spectraderm evaluate {run}")


def calibrate_elsewhere(target: Path, photos: Sequence[str], how: dict[str, Any], as_json: bool) -> None:
    """A run or model folder on photos of other sources, by the options `how`."""
    if is_model_folder(target):
        checks.model(target)
    else:
        checks.run_folder(target, "export")
    checks.there([*photos, *(how["other"] or ())], how["label_map"], how["out"])
    _, terminal = _load()
    with terminal.progress() as track:
        result = scores.calibrate(target, photos, external=True, **how, track=track)
    show(result, as_json, reports.say_elsewhere)


def evaluate(targets: Sequence[Path], how: dict[str, Any], as_json: bool) -> None:
    """Run folders, or a model on photos, by the options `how`."""
    is_model = is_model_folder(targets[0])
    given = any(value for value in how.values() if value != "auto")
    check_evaluate(is_model, is_model and len(targets) > 1, given)
    if is_model:
        checks.model(targets[0])
        checks.there([*targets[1:], *([how["other"]] if how["other"] else [])], how["label_map"], how["out"])
        _, terminal = _load()
        with terminal.progress() as track:
            result = scores.evaluate(targets[0], targets[1:], **how, track=track)
        show(result, as_json, terminal.say_external)
        return
    _evaluate_runs(targets, as_json)


def _evaluate_runs(folders: Sequence[Path], as_json: bool) -> None:
    """Of one run its evaluation is shown; of several, as JSON, an object of them by folder."""
    for run in folders:
        checks.run_folder(run, "evaluate")
    _, terminal = _load()
    with terminal.progress() as track:
        evaluations = scores.evaluate(folders, track=track)
    by_run = {str(run): evaluation for run, evaluation in zip(folders, evaluations, strict=True)}
    content = by_run if len(folders) > 1 else evaluations[0]
    show(content, as_json, lambda _: terminal.say_scores(folders, evaluations))
    say(*(f"Report  {run / 'report.html'}" for run in folders), f"Next    spectraderm export {folders[0]}")


def compare(run_a: Path, run_b: Path, as_json: bool) -> None:
    """Two run folders."""
    for run in (run_a, run_b):
        checks.run_folder(run, "compare")
    _, terminal = _load()
    result = scores.compare(run_a, run_b)
    show(result, as_json, lambda result: terminal.say_comparison(run_a, run_b, result))


def reproduce(run: Path, photos: Path | None, as_json: bool) -> None:
    """A run folder once more. Leaves with code 3 where a number differs."""
    checks.run_folder(run, "reproduce")
    checks.there([photos] if photos else [])
    _, terminal = _load()
    from spectraderm.cli import reproduce as again  # noqa: PLC0415

    with terminal.progress() as track:
        lines = again.reproduce(run, photos, track)
    told = [*lines, f"{len(lines)} values differ"] if lines else ["Every published number came out the same"]
    show({"differences": lines}, as_json, lambda _: say(*told))
    if lines:
        raise typer.Exit(3)


def reproduce_notebook(photos: Path, seeds: int, backbone: str, out: Path | None, seed: int, as_json: bool) -> None:
    """The notebook's recipe over many seeds."""
    from spectraderm.training.backbone_name import local_folder  # noqa: PLC0415

    checks.photos([photos], None, out or Path())
    local_folder(backbone)
    _, terminal = _load()
    from spectraderm.cli import reproduce as again  # noqa: PLC0415

    with terminal.progress() as track:
        draws = again.reproduce_notebook(photos, seeds, backbone, out, seed, track)
    show(draws, as_json, terminal.say_draws)


def _load() -> tuple[Any, Any]:
    """The pipeline, and how its work is shown; only for commands that need the `train` extra.

    Importing them takes seconds, of which a terminal is told.
    """
    shown = sys.stderr is not None and sys.stderr.isatty()
    if shown:
        sys.stderr.write("Loading\N{HORIZONTAL ELLIPSIS}")
        sys.stderr.flush()
    with needs(*NEEDED):
        loaded = import_module("spectraderm.pipeline"), import_module("spectraderm.cli.tables")
    if shown:
        sys.stderr.write("\r\x1b[K")
    return loaded
