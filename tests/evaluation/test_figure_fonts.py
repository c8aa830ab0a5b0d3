"""Class names of any script in figures: in letters, or as a number with a legend; never a box or a warning."""

import re
import warnings
from pathlib import Path

import matplotlib as mpl
import pytest
from handmade import write_run
from pages import Said, read

from spectraderm.core.run import CARD, Run
from spectraderm.evaluation import figure_fonts, figures
from spectraderm.evaluation.evaluate import evaluate
from spectraderm.evaluation.figure_fonts import labels
from spectraderm.evaluation.report import write_report

CHINESE, ARABIC, LINEAR_B = "\u624b\u8db3\u7663", "\u062d\u0635\u0628\u0629", "\U00010000\U00010001"


@pytest.fixture
def own_font_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_fonts, "_families", lambda: iter([figure_fonts._OWN]))


@pytest.mark.usefixtures("own_font_alone")
def test_names_that_no_font_shows_are_numbers_with_a_legend() -> None:
    made = labels(["Acné", CHINESE, "c", LINEAR_B])
    assert made.drawn == ["Acné", "2", "c", "4"]
    assert made.legend == {"2": CHINESE, "4": LINEAR_B}
    assert made.families == [figure_fonts._OWN]


def test_what_has_to_be_joined_is_a_number_where_matplotlib_can_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpl, "__version_info__", (3, 10, 0))
    assert labels([ARABIC, "b"]).drawn == ["1", "b"]
    monkeypatch.setattr(mpl, "__version_info__", (3, 11, 0))
    assert labels([ARABIC, "b"]).drawn == [ARABIC, "b"]  # DejaVu Sans has these letters


def test_a_second_font_is_asked_for_what_the_first_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_fonts, "_families", lambda: iter([figure_fonts._OWN, "Empty", "Noto Sans CJK SC"]))
    plain = figure_fonts._has
    has = {"Empty": set(), "Noto Sans CJK SC": set(CHINESE)}
    monkeypatch.setattr(figure_fonts, "_has", lambda name, letters: has[name] if name in has else plain(name, letters))
    made = labels([CHINESE, "b"])
    assert (made.drawn, made.legend) == ([CHINESE, "b"], {})
    assert made.families == [figure_fonts._OWN, "Noto Sans CJK SC"]


def test_all_installed_fonts_can_be_looked_through_and_boxes_do_not_count() -> None:
    families = list(figure_fonts._families())
    assert families[0] == figure_fonts._OWN
    assert not [name for name in families if name.startswith(figure_fonts._NOT)]
    assert labels(["\U0010fffd"]).drawn == ["1"]  # a letter that none can have
    assert figure_fonts._has("No such family", {"a"}) == set()


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
