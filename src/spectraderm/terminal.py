"""What a person sees of a run on the terminal: progress, findings, scores. All of it on stderr; data is stdout's."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from spectraderm import artifacts
from spectraderm.progress import T, Track

_console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for people."""
    _console.print(Text(text))


@contextmanager
def progress() -> Iterator[Track]:
    """One view for all stages: a bar each, with the time left. Plain lines where there is no terminal."""
    if not _console.is_terminal:
        yield _lines
        return
    columns = (
        TextColumn("{task.description:22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console) as bars:

        def track(items: Iterable[T], description: str, total: int) -> Iterable[T]:
            return bars.track(items, total=total, description=description)

        yield track


def say_audit(run: Path) -> None:
    """What an audit found, worst first."""
    facts = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit` first")
    say(f"\n{facts['photos']} photos of {len(facts['classes'])} classes, {facts['photo_groups']} photo groups")
    leakage = facts["leakage"]
    if leakage["test_photos_with_copy_in_train"]:
        say(
            f"LEAK  {leakage['test_photos_with_copy_in_train']} of {leakage['test_photos']} test photos "
            f"({100 * leakage['share']:.1f} %) are copies of training photos"
        )
    table = Table("finding", "severity", "files", "what to do", box=None, pad_edge=False)
    for finding in facts["findings"]:
        row = (finding["id"].replace("_", " "), finding["severity"], str(finding["count"]), finding["remedy"])
        table.add_row(*(Text(cell) for cell in row))
    if facts["findings"]:
        _console.print(table, soft_wrap=False)


def say_scores(runs: Sequence[Path], evaluations: Sequence[dict[str, Any]]) -> None:
    """Scores of one or several runs side by side, each with its protocol and interval."""
    say("\nScores in %, with 95 % intervals from resampling photo groups")
    for run, evaluation in zip(runs, evaluations, strict=True):
        table = Table("split", "files/groups", "accuracy", "each group once", "balanced", box=None, pad_edge=False)
        table.title = f"{escape(run.name)}: {escape(evaluation['recipe'])}, {evaluation['protocol']}"
        table.title_justify = "left"
        for split, scores in evaluation["splits"].items():
            cells = [_score(scores[metric]) for metric in ("accuracy", "group_accuracy", "balanced_accuracy")]
            counts = f"{scores['n_photos']}/{scores['n_groups']}"
            table.add_row(split.replace("_without_", ", no ").replace("_", " "), counts, *cells)
        _console.print(table, soft_wrap=False)
    for run, evaluation in zip(runs, evaluations, strict=True):
        for what, over in evaluation.get("over_folds", {}).items():
            kind = "draws" if evaluation["protocol"] == "as-given" else "folds"
            say(
                f"{run.name}: {what.replace('_', ' ')} over {over['n']} {kind}: mean {100 * over['mean']:.2f} %, "
                f"range {100 * over['low']:.2f} to {100 * over['high']:.2f} %"
            )
        majority = evaluation["baselines"]["majority_class"]["accuracy"]
        say(f"{run.name}: guessing the most frequent class {100 * majority:.1f} %")


def say_warning(run: Path, evaluation: dict[str, Any]) -> None:
    """Which of the numbers to believe."""
    leakage = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit` first")["leakage"]
    if evaluation["protocol"] == "as-given" and leakage["test_photos_with_copy_in_train"]:
        say(
            f"{run.name}: do not believe the test score: copies of training photos are tested. Honest: --split by-photo"
        )
    elif evaluation["protocol"] == "by-photo":
        say(f"{run.name}: no copy of a tested photo was trained on. Other people's photos will still be harder.")


def _score(metric: dict[str, float]) -> str:
    if metric["low"] == metric["high"]:
        return f"{100 * metric['value']:.1f}"
    return f"{100 * metric['value']:.1f} ({100 * metric['low']:.1f}–{100 * metric['high']:.1f})"


def _lines(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    say(f"{description} ({total})")
    return items
