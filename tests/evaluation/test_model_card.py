import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from handmade import Said, leaking_run, write_photos_of, write_run
from huggingface_hub import ModelCard
from pages import clean_run, evaluated

from spectraderm.core.files import write_json
from spectraderm.core.printable import markdown
from spectraderm.core.run import AUDIT, CARD, Run
from spectraderm.evaluation import formatting
from spectraderm.evaluation.report import write_card
from spectraderm.evaluation.summary import summarise

pytestmark = pytest.mark.usefixtures("quick_report")


def card(run: Path, **changes: object) -> str:
    write_card(Run(run), summarise(Run(run), evaluated(run) | changes))
    return (run / CARD).read_text(encoding="utf-8")


def front(text: str) -> Any:  # noqa: ANN401
    return ModelCard(text).data


def answers(text: str, checklist: str) -> dict[str, str]:
    lines = text[text.index(checklist) :].split("\n\n")[1].splitlines()[2:]
    return {item.strip(): answer.strip() for _, item, answer, _ in (re.split(r"(?<!\\)\|", line) for line in lines)}


def test_the_hub_reads_the_believed_result(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    data = front(card(run))
    believed = evaluated(run)["protocols"][-1]
    assert (data.license, data.pipeline_tag, data.library_name) == ("other", "image-classification", "spectraderm")
    assert {"dermatology", "onnx"} <= set(data.tags or [])
    found = {one.metric_name: one.metric_value for one in data.eval_results or []}
    assert found["Accuracy, each photo once"] == pytest.approx(believed["group_accuracy"]["value"], abs=1e-4)
    assert found["Macro F1"] == pytest.approx(believed["macro_f1"]["value"], abs=1e-4)
    types = {(one.task_type, one.dataset_type) for one in data.eval_results or []}
    assert types == {("image-classification", "imagefolder")}
    assert yaml.safe_load(str(front(card(run))))["model-index"][0]["name"] == "spectraderm-notebook"


def test_the_hub_gets_no_result_that_is_not_to_be_believed_or_not_defined(tmp_path: Path) -> None:
    run = leaking_run(tmp_path)
    evaluation = evaluated(run)
    evaluation["protocols"][1]["macro_f1"] = {"value": None, "low": None, "high": None}
    text = card(run, **evaluation)
    names = {one.metric_name for one in front(text).eval_results or []}
    assert names == {"Accuracy, each photo once", "Accuracy by file", "Balanced accuracy (macro recall)"}
    assert "would have claimed" in text
    del evaluation["protocols"][1]
    text = card(run, **evaluation)
    assert front(text).eval_results is None
    assert "**Do not believe the test score:** 1 of 3 test photos" in text


@pytest.mark.parametrize(
    ("name", "source", "told"),
    [
        ("microsoft/resnet-50", "microsoft/resnet-50@0123abc", "microsoft/resnet-50"),
        ("microsoft/resnet-50@v1", "microsoft/resnet-50@0123abc", "microsoft/resnet-50"),
        ("models/resnet", "resnet@0123abc", None),
        ("/home/jane/resnet", "resnet@0123abc", None),
    ],
)
def test_only_a_hub_id_is_the_base_model(name: str, source: str, told: str | None, tmp_path: Path) -> None:
    text = card(clean_run(tmp_path, backbone_name=name, backbone=source))
    assert front(text).base_model == told
    assert "jane" not in text


def test_the_card_states_scores_baselines_and_verdicts(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    text = card(run)
    evaluation = evaluated(run)
    believed = evaluation["protocols"][-1]
    assert f"**{formatting.score(believed['group_accuracy'])}** right" in text
    for name, own in believed["baselines"].items():
        assert f"| – {formatting.BASELINES[name]} | | {formatting.score(own['group_accuracy'])} |" in text
    verdict = evaluation["refusals"]["predicted"]
    assert f"not out of scope | {formatting.score(verdict)} | {formatting.score(verdict['accuracy'])} |" in text
    assert "a probability of at least 50.0 %" in text
    assert "novelty above 0.500" in text
    assert "Not a medical device" in text
    assert not re.search(r"\{\{|\{%|None|undefined|\bnan\b", text)
    assert "elieve that" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_a_name_in_markdown_means_nothing_but_itself(tmp_path: Path) -> None:
    labels = ("a $x^{$ b", "c | d_e*", "<img src=x onerror=alert(1)>\n# f")
    said = [
        Said(f"{s}/{i}", 10 * k + i, s, n, n)
        for k, s in enumerate(("train", "val", "test"))
        for i, n in enumerate(labels)
    ]
    text = card(write_run(tmp_path, {"final": said}, "deduplicated", labels))
    told = [line for line in text.splitlines() if "onerror" in line]
    assert len(told) > 2
    assert not [line for line in told if re.search(r"(?<!\\)<", line)]
    assert len([line for line in text.splitlines() if line.startswith("| C ")]) == 1
    assert not re.search(r"^# f", text, re.MULTILINE | re.IGNORECASE)


def test_the_checklists_are_answered_from_the_run_or_not_known(tmp_path: Path) -> None:
    text = card(leaking_run(tmp_path))
    clear, tripod = answers(text, "CLEAR Derm"), answers(text, "TRIPOD+AI")
    assert clear["Leakage between the parts"] == "1 of 3 test photos as they came; none found in the believed test"
    assert (clear["Skin tone and how it was assessed"], clear["External test"]) == ("not known", "not done")
    assert tripod["Sample size"].startswith("9 files, 8 photo groups")
    assert tripod["Ethics approval and consent"] == "not known"
    assert min(len(clear), len(tripod)) >= 20
    assert all([*clear.values(), *tripod.values()])


def test_patients_are_said_to_be_apart_only_where_they_are_known(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    assert "Patients are not known" in (text := card(run))
    assert "patients not known" in answers(text, "CLEAR Derm")["Train/test partition"]
    photos = [Said(row["path"], int(row["photo_group"]), "", row["label"], "") for row in Run(run).rows]
    write_photos_of(run, photos, [{"patient": f"p{i}"} for i in range(len(photos))])
    assert "Patients are not known" not in (text := card(run))
    assert "no patient on two sides" in answers(text, "CLEAR Derm")["Train/test partition"]


def test_the_card_names_data_sets_with_licence_and_citation(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    assert "Data set:" not in card(run)
    facts = {"homepage": "https://x.org", "terms": "With *attribution*.", "citation": "Doe (2020)"}
    datasets = [
        {"title": "Free_set", "licence": "CC BY 4.0", "redistributable_training": True, **facts},
        {"title": "Bound", "licence": "For research", "redistributable_training": False, **facts},
    ]
    write_json(Run(run).path(AUDIT), Run(run).audit | {"datasets": datasets})
    text = card(run)
    assert answers(text, "TRIPOD+AI")["Source of data and dates"] == (
        f"{markdown('Free_set')} (CC BY 4.0); Bound (For research); dates not known"
    )
    lines = [line for line in text.splitlines() if line.startswith("- Data set: ")]
    assert [markdown(str(own["title"])) in line for own, line in zip(datasets, lines, strict=True)] == [
        True,
        True,
    ]
    assert all("Doe (2020)" in line and "attribution" in line for line in lines)
    assert ["does not let a model" in line for line in lines] == [False, True]
