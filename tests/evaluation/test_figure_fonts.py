"""Class names of any script in figures: in letters, or as a number with a legend; never a box or a warning."""

import re
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from handmade import Said, write_run
from pages import read

from spectraderm.core.run import CARD, Run
from spectraderm.evaluation import figure_fonts, figures
from spectraderm.evaluation.evaluate import evaluate
from spectraderm.evaluation.figure_fonts import labels
from spectraderm.evaluation.report import write_report

CHINESE, ARABIC, LINEAR_B = "\u624b\u8db3\u7663", "\u062d\u0635\u0628\u0629", "\U00010000\U00010001"
HOOKED = "\u1d81"
"""In STIX, not in DejaVu."""
LINE = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))


@pytest.fixture
def own_font_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    own = next(figure_fonts._fonts())
    monkeypatch.setattr(figure_fonts, "_fonts", lambda: iter([own]))


@pytest.mark.usefixtures("own_font_alone")
def test_names_that_no_font_shows_or_that_leave_no_room_are_numbers_with_a_legend() -> None:
    made = labels(["Acné", CHINESE, "c", LINEAR_B, "long " * 9])
    assert made.drawn == ["Acné", "2", "c", "4", "5"]
    assert made.legend == {"2": CHINESE, "4": LINEAR_B, "5": "long " * 9}
    assert made.families == [figure_fonts._OWN]


def test_what_has_to_be_joined_is_a_number_where_matplotlib_can_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpl, "__version_info__", (3, 10, 0))
    assert labels([ARABIC, "b"]).drawn == ["1", "b"]
    monkeypatch.setattr(mpl, "__version_info__", (3, 11, 0))
    assert labels([ARABIC, "b"]).drawn == [ARABIC, "b"]  # DejaVu Sans has these letters


def test_other_fonts_are_asked_for_what_the_first_one_lacks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed = dict(figure_fonts._fonts())
    assert next(iter(installed)) == figure_fonts._OWN
    assert not [name for name in installed if name.startswith(figure_fonts._NOT)]
    assert labels(["\U0010fffd"]).drawn == ["1"]  # a letter that none can have
    assert figure_fonts._has("/no/such/font.ttf", {"a"}) == set()
    two = [figure_fonts._OWN, "STIXGeneral"]  # both come with Matplotlib
    monkeypatch.setattr(figure_fonts, "_fonts", lambda: ((name, installed[name]) for name in two))
    made = labels([HOOKED, "b"])
    assert (made.drawn, made.families, made.legend) == ([HOOKED, "b"], two, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.confusion([[1, 0], [0, 1]], made)
        figures.roc([(HOOKED, LINE)], LINE, 0.5, made)
    assert not caplog.records


@pytest.mark.usefixtures("own_font_alone")
def test_figures_report_and_card_show_any_name_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    names = (CHINESE, ARABIC, LINEAR_B)
    rows = [Said(f"{s}{n}{i}", 10 * n + i, s, x, x) for n, s in enumerate(("train", "val", "test"))
            for i, x in enumerate(names)]  # fmt: skip
    run = write_run(tmp_path, {"final": rows}, "deduplicated", names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(Run(run), evaluate(Run(run)))
        first = figures.confusion([[1, 0], [0, 1]], labels(names[:2]))
    assert first.startswith(b"\x89PNG")
    assert not caplog.records
    assert capfd.readouterr().err == ""
    legend = re.search(r"Numbers in the figures:(.*)", read(run).text)
    assert legend
    assert legend[1].split(";")[0].split() == ["1", CHINESE]
    assert f"1 {CHINESE};" in (run / CARD).read_text(encoding="utf-8")
