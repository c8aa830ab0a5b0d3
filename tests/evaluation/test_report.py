import csv
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import encode, paint
from handmade import LABELS, Said, leaking_run, write_run
from pages import clean_run, evaluated, external, given_and_by_photo, pictures, read, report, scored, share

from spectraderm.core.files import write_json
from spectraderm.core.run import CARD, CONFUSION_PNG, ENVIRONMENT, EVALUATION, RELIABILITY_PNG, REPORT, Run
from spectraderm.evaluation import formatting
from spectraderm.evaluation.report import CONFUSION_CSV, write_report

EVIL = "<img src=x onerror=alert(1)>"
NOTHING = {"value": None, "low": None, "high": None}


pytestmark = pytest.mark.usefixtures("quick_report")


def test_the_report_asks_nobody_for_anything_and_is_well_formed(tmp_path: Path) -> None:
    page = report(leaking_run(tmp_path))
    assert page.asked
    assert all(url.startswith(("data:image/", "#")) for url in page.asked)
    assert page.tags.count("script") == 1
    assert not {"link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", (tmp_path / REPORT).read_text(encoding="utf-8"))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.alts
    assert all(page.alts)
    for told in ("would have claimed", "1 of their 3 test photos are copies", "too few to say how good it is"):
        assert told in page.text
    names = [REPORT, CARD, CONFUSION_PNG, RELIABILITY_PNG, CONFUSION_CSV, "folds/final/curves.png"]
    first = {name: (tmp_path / name).read_bytes() for name in names}
    report(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == first


def test_names_that_are_html_stay_names(tmp_path: Path) -> None:
    name = f"{EVIL}.jpg"
    rows = [Said("a", 0, "train", EVIL, EVIL), Said("v", 3, "val", "b", "b"), Said(name, 1, "test", EVIL, "b")]
    finding = {"id": "unreadable", "severity": "high", "count": 1, "examples": [name], "remedy": EVIL}
    audit = {"findings": [finding], "root": str(tmp_path)}
    run = write_run(
        tmp_path / "run", {"final": [*rows, Said("b", 2, "test", "b", "b")]}, "deduplicated", (EVIL, "b"), audit
    )
    external(run, EVIL, out_of_distribution={"refused": share(0.5), "flagged": share(0.75)})
    (tmp_path / name).write_bytes(encode(paint(1)))
    page = report(run)
    assert page.text.count(name) == 2  # among the findings, and among the wrong
    assert page.text.count(EVIL) > 5
    assert "x" not in page.asked
    assert len(pictures(page)) == 1


def test_the_number_to_believe_leads_and_what_leaks_is_struck(tmp_path: Path) -> None:
    page = report(given_and_by_photo(tmp_path))
    given, _, believed = json.loads((tmp_path / EVALUATION).read_text())["protocols"]
    assert (given["leaked"], believed["believe"]) == (1, True)
    number, claim = (formatting.percent(row["group_accuracy"]["value"]) for row in (believed, given))
    assert number != claim
    headline = page.text.index(number)
    assert headline < page.text.index(claim)
    assert "of new photos of the same collection are guessed right" in page.text
    kind, cells = page.row("grouped by photo: no copy crosses")
    assert kind == "believe"
    assert "believe this" in cells[0]
    assert cells[1] == f"{believed['n_groups']} {believed['n_photos']}"
    assert cells[2].startswith(number)
    kind, cells = page.row("original: the folders as they came")
    assert kind == "leaks"
    assert claim in page.struck
    assert number not in page.struck
    assert [kind for kind, _ in page.rows].count("believe") == 2  # and the prediction sets in use
    floors = [" ".join(cells[2].split()).split(" %")[0] + " %" for kind, cells in page.rows if kind == "floor"]
    own = [floor["group_accuracy"]["value"] for row in (given, believed) for floor in row["baselines"].values()]
    assert floors == [formatting.percent(value) for value in own]
    assert len(floors) == 8


def test_who_tests_on_copies_is_warned_even_where_there_is_nothing_else(tmp_path: Path) -> None:
    a, b, _ = LABELS
    seen = [Said(f"train/{name}", i, "train", name, name) for i, name in enumerate((a, b))]
    rows = [*seen, Said("v", 9, "val", a, a), Said("test/a", 0, "test", a, a), Said("test/b", 1, "test", b, b)]
    page = report(write_run(tmp_path, {"final": rows}, "original", (a, b)))
    assert "Do not believe this number. 2 of 2 test photos are copies" in page.text
    assert [kind for kind, _ in page.rows].count("believe") == 1  # the prediction sets in use


def test_the_refusals_are_those_of_the_evaluation(tmp_path: Path) -> None:
    page = report(given_and_by_photo(tmp_path))
    refusals = json.loads((tmp_path / EVALUATION).read_text())["refusals"]
    for name in ("predicted", "unsure", "out_of_scope", "unusable_photo"):
        _, cells = page.row(name.replace("_", " "))
        assert cells[1].startswith(formatting.percent(refusals[name]["value"]))
        accuracy = refusals[name]["accuracy"]
        assert cells[2].startswith(formatting.percent(accuracy["value"]) if accuracy else formatting.DASH)


def test_photos_from_elsewhere_show_what_is_lost(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    here = evaluated(run)["protocols"][-1]["group_accuracy"]["value"]
    scores = {name: share(0.4) for name in ("accuracy", "group_accuracy", "balanced_accuracy", "macro_f1")}
    auroc, unknown = {"auroc": share(0.8125)}, {"refused": share(0.625), "flagged": share(0.875)}
    external(run, "clinic", scores={"n_photos": 40, "n_groups": 30, **scores})
    external(run, "textures", out_of_distribution=unknown, novelty_detection=auroc)
    page = report(run)
    assert formatting.points(0.4 - here) in page.row("clinic")[1]
    assert page.row("other photos: clinic")[0] == "believe"
    assert "of photos from elsewhere (other photos: clinic)" in page.text
    cells = page.row("textures")[1]
    assert [cell.split(" ")[0] for cell in cells[2:]] == ["62.5", "87.5", "12.5", "0.812"]


def test_what_is_not_defined_is_a_dash(tmp_path: Path) -> None:
    run = leaking_run(tmp_path)
    result = evaluated(run)
    for row in (*result["protocols"], *result["per_class"], result["splits"]["test"]["by_group"]):
        row.update({name: NOTHING for name, own in row.items() if isinstance(own, dict) and "low" in own})
    result["protocols"][1]["group_accuracy"] = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    write_report(Run(run), result)
    page = read(run)
    assert page.row("of these, test photos that are no copies")[1][2] == formatting.DASH
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def test_groups_too_small_for_a_claim_make_none(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    few, many = ({"value": name, "n_photos": 40, "n_groups": 30} for name in ("few", "many"))
    measured = ("group_accuracy", "balanced_accuracy", "ece", "coverage", "not_predicted")
    values = [{**one, "claim": one is many, **{name: share(0.5) for name in measured}} for one in (few, many)]
    tables = [{"column": "skin_tone_estimate", "proxy": True, "values": values}]
    write_report(Run(run), evaluated(run) | {"subgroups": tables})
    page = read(run)
    assert page.row("few")[1][2:] == ["too few to say"]
    assert page.row("many")[1][2].startswith("50.0 %")
    assert "Read off the colours of the photos" in page.text


def test_a_test_that_was_used_to_choose_is_told(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    for _ in range(2):
        scored(run, "evaluate")
    assert "were used to choose" not in (page := report(run)).text
    assert "scored 2 times, by 1 model," in page.text
    scored(run, "compare", "other-run")
    assert "were used to choose. Compared with: other-run." in report(run).text
    assert "scored 3 times, by 1 model; compared with 1 other run" in (run / CARD).read_text(encoding="utf-8")


def test_the_confusion_table_adds_up(tmp_path: Path) -> None:
    report(leaking_run(tmp_path))
    rows = list(csv.DictReader((tmp_path / CONFUSION_CSV).read_text().splitlines()))
    assert [row["true"] for row in rows] == list(LABELS)
    for row in rows:
        counts = [int(row[f"guess:{label}"]) for label in LABELS]
        assert sum(counts) == int(row["photos"]) == 1
        assert sum(float(row[f"share:{label}"]) for label in LABELS) == pytest.approx(1)
    assert [int(row["guess:b-c"]) for row in rows] == [0, 0, 1]


def test_no_place_of_this_machine_is_told(tmp_path: Path) -> None:
    root = tmp_path / "people" / "photos"
    run = clean_run(tmp_path, backbone_name=str(root / "my-resnet"), photos=str(root), audit={"root": str(root)})
    environment = json.loads((run / ENVIRONMENT).read_text())
    write_json(run / ENVIRONMENT, environment | {"command": f"spectraderm run {root}"})
    assert "--backbone my-resnet " in report(run).text
    assert all(str(tmp_path) not in (run / name).read_text(encoding="utf-8") for name in (REPORT, CARD))
