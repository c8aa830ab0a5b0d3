from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from spectraderm.evaluation.bootstrap import Scored
from spectraderm.evaluation.subgroups import MOST_VALUES, UNKNOWN, subgroups
from spectraderm.inference.calibration import Judgement

COUNT = 40


def tables(rows: list[Mapping[str, str]], groups: list[int] | None = None) -> dict[str, dict[str, Any]]:
    """40 photos of two classes; those with an odd number, past the 20th, are guessed wrong and not predicted."""
    labels = np.arange(COUNT) % 2
    wrong = (np.arange(COUNT) % 2 == 1) & (np.arange(COUNT) >= 20)
    chances = np.where(np.eye(2)[np.where(wrong, 1 - labels, labels)] == 1, 0.8, 0.2)
    own = np.arange(COUNT) if groups is None else np.array(groups)
    sets = np.stack([np.ones(COUNT, bool), np.arange(COUNT) < 10], axis=1)
    judged = Judgement(chances, sets, wrong.astype(np.int64))
    return {table["column"]: table for table in subgroups(rows, Scored(labels, chances, own), judged)}


def rows_of(**columns: list[str]) -> list[Mapping[str, str]]:
    return [{"path": f"{i}.jpg", **{name: own[i] for name, own in columns.items()}} for i in range(COUNT)]


def test_every_value_is_scored_on_its_own_photos() -> None:
    (old, young) = tables(rows_of(age=["young"] * 20 + ["old"] * 20))["age"]["values"]
    assert (old["value"], young["value"]) == ("old", "young")
    assert (old["n_photos"], old["n_groups"], old["claim"]) == (20, 20, True)
    assert old["group_accuracy"]["value"] == 0.5
    assert young["group_accuracy"]["value"] == 1.0
    assert (old["not_predicted"]["value"], young["not_predicted"]["value"]) == (0.5, 0.0)
    assert young["ece"]["value"] == pytest.approx(0.2)
    assert young["coverage"]["value"] == pytest.approx(15 / 20)
    assert (old["mean_set_size"], young["mean_set_size"]) == (1.0, 1.5)


def test_few_photo_groups_are_no_claim_however_many_photos() -> None:
    ages = rows_of(age=["young"] * 20 + ["old"] * 20)
    (old, young) = tables(ages, [i // 3 if i < 20 else i for i in range(COUNT)])["age"]["values"]
    assert (old["claim"], young["claim"]) == (True, False)
    assert (young["n_photos"], young["n_groups"]) == (20, 7)


def test_copies_count_once() -> None:
    """Nine copies of one photo with two classes in its set, and eleven photos of which one has two."""
    (young, _) = tables(rows_of(age=["a"] * 20 + ["b"] * 20), [0] * 9 + list(range(9, COUNT)))["age"]["values"]
    assert young["mean_set_size"] == pytest.approx((2 + 2 + 10) / 12)


def test_empty_cells_are_a_value_and_stand_last() -> None:
    values = tables(rows_of(age=[""] * 20 + ["zz"] * 20))["age"]["values"]
    assert [value["value"] for value in values] == ["zz", UNKNOWN]


def test_names_and_measurements_and_empty_columns_are_no_subgroups() -> None:
    got = tables(
        rows_of(
            patient=["p"] * COUNT,
            width=["96"] * COUNT,
            phash=["00"] * COUNT,
            remark=[str(i % (MOST_VALUES + 1)) for i in range(COUNT)],
            nothing=[""] * COUNT,
            site=[str(i % MOST_VALUES) for i in range(COUNT)],
        )
    )
    assert list(got) == ["site"]


def test_skin_tones_go_from_light_to_dark_and_are_a_proxy() -> None:
    tones = ["dark", "light", "very light", "brown", ""]
    got = tables(rows_of(skin_tone_estimate=[tones[i % 5] for i in range(COUNT)], sex=["f", "m"] * 20))
    assert [value["value"] for value in got["skin_tone_estimate"]["values"]] == [
        "very light",
        "light",
        "brown",
        "dark",
        UNKNOWN,
    ]
    assert (got["skin_tone_estimate"]["proxy"], got["sex"]["proxy"]) == (True, False)
