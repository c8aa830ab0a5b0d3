"""What is shown of long work, on a terminal and where there is none."""

import io
from collections.abc import Iterable
from typing import TypeVar

import pytest
from rich.console import Console

from spectraderm.core import progress

T = TypeVar("T")


def test_work_that_is_one_piece_has_a_bar_that_ends_with_it() -> None:
    seen: list[tuple[str, int]] = []
    ended: list[str] = []

    def track(items: Iterable[T], description: str, total: int) -> Iterable[T]:
        seen.append((description, total))
        yield from items
        ended.append(description)

    def work() -> int:
        assert (seen, ended) == ([("Scoring", 1)], [])
        return 5

    assert progress.as_one(track, "Scoring", work) == 5
    assert ended == ["Scoring"]
    with pytest.raises(ZeroDivisionError):
        progress.as_one(progress.no_track, "Scoring", lambda: 1 // 0)


@pytest.mark.parametrize("terminal", [True, False])
def test_every_stage_is_named_with_what_is_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=stream, force_terminal=terminal, width=80))
    with progress.progress() as track:
        assert list(track(range(3), "Reading photos", 3)) == [0, 1, 2]
        assert progress.as_one(track, "Scoring", lambda: "done") == "done"
    shown = stream.getvalue()
    if terminal:
        last = shown.split("\x1b[2K")[-1]
        assert "3/3" in last
        assert "1/1" in last
    else:
        assert capsys.readouterr().err == "Reading photos (3)\nScoring\n"
