"""What a person sees of a run on the terminal: progress, findings, scores. All of it on stderr; data is stdout's."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from spectraderm.cli.folder_tables import plain_table, print_table, say_findings, say_folders, say_table
from spectraderm.cli.score_tables import say_by_source, say_side_by_side, score
from spectraderm.core.files import read_json
from spectraderm.core.printable import line, say
from spectraderm.core.progress import console, progress  # noqa: F401 - `progress` is for commands
from spectraderm.core.run import Run
from spectraderm.images.perturbations import CHANGES
from spectraderm.inference import model_folder
from spectraderm.inference.prediction import JUDGED

if TYPE_CHECKING:
    from spectraderm.data.split import Split

_SHOWN = ("accuracy", "group_accuracy", "balanced_accuracy")


def say_audit(run: Path) -> None:
    """What an audit found, worst first."""
    facts = Run(run).audit
    others = [own for own in facts["classes"].values() if own.get("other")]
    told = "".join(f", {own['photos']} of them of none of these (`other`)" for own in others)
    classes = len(facts["classes"]) - len(others)
    say("", f"{facts['photos']} photos of {classes} classes{told}, {facts['photo_groups']} photo groups")
    leakage = facts["leakage"]
    if leakage["test_photos_with_copy_in_train"]:
        say(
            f"LEAK  {leakage['test_photos_with_copy_in_train']} of {leakage['test_photos']} test photos "
            f"({100 * leakage['share']:.1f} %) are copies of training photos"
        )
    if leakage["test_photos_with_crop_in_train"]:
        say(
            f"LEAK  {leakage['test_photos_with_crop_in_train']} more are crops or slight turns of training photos: "
            f"{100 * leakage['share_with_crops']:.1f} % in all"
        )
    for source, own in facts.get("sources", {}).items():
        say(f"  {source}: {own['photos']} photos of {len(own['classes'])} classes, {own['photo_groups']} photo groups")
    for own in facts.get("tables", ()):
        say_table(own)
    conflicts = facts["label_conflicts"] + facts["label_conflicts_by_crop"]
    if conflicts:
        by_crop = facts["label_conflicts_by_crop"]
        told = f", {by_crop} of them told by a crop" if by_crop else ""
        say(f"LABEL {conflicts} photo{'s' if conflicts > 1 else ''} filed under more than one class{told}")
    if facts.get("shortcuts"):
        _say_shortcuts(facts["shortcuts"], {label: own["display_name"] for label, own in facts["classes"].items()})
    say_findings([own for own in facts["findings"] if not own["id"].startswith("shortcut_")])  # in the other table


def _say_shortcuts(shortcuts: Sequence[dict[str, Any]], display: dict[str, str]) -> None:
    """What tells the class without the disease, the best first; each is a way for a model to be right for no reason."""
    rows = []
    for own in sorted(shortcuts, key=lambda own: -own["low"]):
        classes = ", ".join(display[label] for label in own["gives_away"])
        rows.append((own["name"].replace("_", " "), score({**own, "value": own["balanced_accuracy"]}), classes))
    title = f"Told without the disease; chance {100 * shortcuts[0]['chance']:.1f} %"
    print_table(("shortcut", "balanced accuracy", "gives away"), rows, title)


def say_split(made: "Split") -> None:
    """How many trainings a split asks for; of a single one, how many files are on each side."""
    count = f"{len(made.folds)} training{'s' if len(made.folds) > 1 else ''}"
    sides = Counter(made.folds[0].splits.values()) if len(made.folds) == 1 else {}
    say(f"{made.protocol}: {', '.join([count, *(f'{side} {files}' for side, files in sorted(sides.items()))])}")
    left_out = sum(side == "excluded" for fold in made.folds[1:] for side in fold.splits.values())
    if left_out:
        say(f"  {left_out} times a photo is neither trained nor tested on: a copy in another source, or a class of one")


def say_scores(runs: Sequence[Path], evaluations: Sequence[dict[str, Any]]) -> None:
    """Every protocol of one or several runs beside what needs no model, and which number to believe."""
    for run, name, evaluation in zip(runs, _names(runs), evaluations, strict=True):
        say("")
        title = f"{name}: {evaluation['recipe']}; in %, 95 % intervals over photo groups"
        heads = ("tested on", "accuracy", "each group once", "balanced")
        table = plain_table(heads, title)
        for row in evaluation["protocols"]:
            _add_protocol(table, row)
        console.print(table, soft_wrap=False)
        for row in evaluation["protocols"]:
            counts = f"{row['n_photos']} files, {row['n_groups']} photo groups"
            say(f"{'>' if row['believe'] else ' '} {row['name'].removeprefix('external:')} ({counts}): {row['words']}")
        _say_trust(evaluation)
        say_by_source(evaluation)
        for what, over in evaluation.get("over_folds", {}).items():
            kind = {"original": "draws", "by-source": "sources"}.get(evaluation["protocol"], "folds")
            say(
                f"{what.replace('_', ' ')} over {over['n']} {kind}: mean {100 * over['mean']:.2f} %, "
                f"range {100 * over['low']:.2f} to {100 * over['high']:.2f} %"
            )
        say_side_by_side(run, evaluation)


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of run folders; where two are of one name, their paths from the folder that holds all of them."""
    paths = [run.absolute() for run in runs]
    names = [path.name for path in paths]
    above = os.path.commonpath([path.parent for path in paths])
    return names if len({*names}) == len(names) else [os.path.relpath(path, above) for path in paths]


def _add_protocol(table: Table, row: dict[str, Any]) -> None:
    style = "bold" if row["believe"] else "dim" if row["leaked"] else ""
    cells = [score(row[metric]) for metric in _SHOWN]
    name = f"{'> ' if row['believe'] else '  '}{row['name'].removeprefix('external:')}"
    table.add_row(Text(line(name), no_wrap=True), *cells, style=style)
    for baseline, scores in row.get("baselines", {}).items():
        values = [f"{100 * scores[metric]['value']:.1f}" for metric in _SHOWN]
        table.add_row(f"    {baseline.replace('_', ' ')}", *values, style="dim")


def _say_trust(evaluation: dict[str, Any]) -> None:
    """Calibration and verdicts, in two lines."""
    calibration, test = evaluation["calibration"], evaluation["splits"]["test"]
    shipped = calibration["sets"][calibration["shipped"]]["by_group"]
    say(
        f"Calibration: ECE {score(test['ece'])} (before: {score(calibration['ece_before'])}); sets at "
        f"{100 * calibration['coverage']:.0f} % hold the truth {score(shipped['coverage'])}, "
        f"{shipped['mean_size']['value']:.2f} classes on average"
    )
    told = []
    for name, own in evaluation["refusals"].items():
        right = f", right {100 * own['accuracy']['value']:.1f}" if own["accuracy"] else ""
        told.append(f"{name.replace('_', ' ')} {100 * own['value']:.1f}{right}")
    say(f"Verdicts: {'; '.join(told)}")
    _say_outside(evaluation)


def _say_outside(result: dict[str, Any]) -> None:
    """What became of photos of none of the classes, where there are some."""
    if own := result.get("out_of_distribution"):
        told = f"refused {score(own['refused'])}, refused or unsure {score(own['flagged'])}"
        count = f"{own['refused']['n_photos']} photos"
        say(f"Of none of its classes: {told}, called predicted {score(own['predicted'])} ({count})")


def say_calibration(found: dict[str, Any]) -> None:
    """The settings at home that were found, and on what."""
    found = found["home"]
    say(
        f"Temperature {found['temperature']:.2f}, found on {found['n_photos']} photos of {found['n_groups']} photo "
        f"groups ({found['fitted_on'].replace('_', ' ')})"
    )
    sure = f"never: {found['why']}"
    if found["promised_accuracy"] is not None:
        promised = f"promised {100 * found['promised_accuracy']:g} % right"
        sure = f"from a probability of {100 * found['confidence_threshold']:.1f} %; {promised}"
    say(f"`predicted` {sure}")
    kept = f"{100 * found['novelty_kept']:.0f} % of these photos lie below it"
    say(f"`out_of_scope` above a novelty of {found['novelty_threshold']:.3f}: {kept}")


def say_export(measured: dict[str, Any]) -> None:
    """How near the exported model comes to training's logits; or what one in 8-bit integers loses."""
    if "loss" in measured:
        loss = measured["loss"]
        points = {
            name: "?" if value is None else f"{100 * value:+.2f}" for name, value in loss["accuracy_difference"].items()
        }
        say(
            f"In 8-bit integers, on {loss['photos']} held-out photos: accuracy {points['value']} points "
            f"({points['low']} to {points['high']}), changed first guesses {100 * loss['changed_top1']:.1f} %"
        )
        return
    parity = measured["parity"]
    say(
        f"Parity on {parity['photos']} photos: largest difference of a logit {parity['max_logit_difference']:.2g} "
        f"(bound {parity['bound']:g}), changed first guesses {parity['changed_top1']}"
    )


def say_robustness(model: Path) -> None:
    """How often a model folder's model says something else of held-out photos that were changed."""
    robustness = read_json(model / model_folder.FACTS, "Run `spectraderm export` first")["robustness"]
    told = [f"{name} {100 * robustness[name]['changed']['value']:.1f} %" for name in CHANGES if name in robustness]
    if told:
        say(f"Robustness on {robustness['photos']} held-out photos: first guess changes: {', '.join(told)}")


def say_external(result: dict[str, Any]) -> None:
    """What a model made of another folder."""
    counts = f"{result['n_photos']} photos, {result['n_groups']} photo groups"
    say("", f"{result['name']}: {counts}, model {result['model_id']}")
    if result["in_training"]:
        share = 100 * result["in_training"] / result["n_photos"]
        trained = f"{result['in_training']} of them, or on copies of them ({share:.1f} %)"
        say(f"CONTAMINATED  the model was trained on {trained}; they are left out below")
    else:
        say("It was trained on none of them, nor on copies of them")
    if result.get("chosen_on"):
        say("CHOSEN ON  a recipe was chosen by its score on them: it flatters")
    if place := result.get("calibrated_on"):
        say(f"Each was {JUDGED[place][0].lower()}{JUDGED[place][1:]}")
    say_folders(result)
    if "scores" in result:
        say("; ".join(f"{name.replace('_', ' ')} {score(result['scores'][name])}" for name in (*_SHOWN, "ece")))
        for name, own in result["refusals"].items():
            right = f", right {score(own['accuracy'])}" if own["accuracy"] else ""
            say(f"  {name.replace('_', ' ')} {score(own)}{right}")
    say_by_source(result)
    _say_outside(result)
    if "of_the_run" in result and "novelty_detection" not in result:
        say(f"Not kept as photos from elsewhere: {result['of_the_run']} of them are photos of the run itself")
    if "novelty_detection" in result:
        auroc = score(result["novelty_detection"]["auroc"])
        say(f"Novelty tells them from the run's own photos with an AUROC of {auroc}")


def say_comparison(run_a: Path, run_b: Path, found: dict[str, Any]) -> None:
    """Differences with their intervals, and in a sentence what they mean."""
    name_a, name_b = _names((run_a, run_b))
    names = {"a": name_a, "b": name_b, "neither": "neither: noise"}
    rows = []
    for metric in (*_SHOWN, "macro_f1", "auroc", "log_loss", "brier", "ece"):
        own = found[metric]
        if own["difference"] is None:
            continue
        scale, digits = (1, 3) if metric == "log_loss" else (100, 1)
        a, b, difference, low, high = (scale * own[key] for key in ("a", "b", "difference", "low", "high"))
        shown = f"{difference:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
        rows.append((metric.replace("_", " "), f"{a:.{digits}f}", f"{b:.{digits}f}", shown, names[own["better"]]))
    print_table(("", name_a, name_b, "difference (95 %)", "better"), rows)
    right = found["right"]
    say(
        f"{found['n_photos']} photos, {found['n_groups']} photo groups. Only {name_a} is right on "
        f"{right['only_a']}, only {name_b} on {right['only_b']}; sign test over groups p = {right['p_value']:.3f}"
    )
    say("Both ledgers note it: photos that were used to choose a model flatter the one chosen.")


def say_draws(found: dict[str, Any]) -> None:
    """The notebook's three numbers beside the distribution that one draw of them comes from."""
    names = {"train": "train", "val": "validation", "test": "test"}
    rows = [
        (
            name,
            *(f"{100 * found[split][key]:.2f}" for key in ("published", "mean", "low", "high")),
            f"{found[split]['as_high']} of {found[split]['n']}",
        )
        for split, name in names.items()
    ]
    heads = ("accuracy in %", "notebook's one draw", "mean", "lowest", "highest", "draws as high")
    seeds = found["test"]["seeds"]
    title = f"The notebook's recipe, seeds {seeds[0]} to {seeds[-1]}; backbone {found['backbone']}"
    print_table(heads, rows, title)
    leakage = found["leakage"]
    if leakage["test_photos_with_copy_in_train"]:
        say(
            f"Believe none of the test numbers: {leakage['test_photos_with_copy_in_train']} of "
            f"{leakage['test_photos']} test photos are copies of training photos"
        )
