"""Which class a folder of labelled photos is, by its name or by a label map's."""

from pathlib import Path

import pytest

from spectraderm.core.errors import DatasetError
from spectraderm.data.class_folders import match

MODEL = {"BA- cellulitis": "Cellulitis", "Athlete's foot": "Athlete's foot", "nevus": "Nevus", "other": "None of these"}
TWO = {"Melanoma": "Melanoma", "melanoma": "melanoma", "nevus": "Nevus"}
P = Path("photos")


def classes(names: list[str], model: dict[str, str], label_map: dict[str, str] | None = None) -> list[str]:
    matched = match([P / name for name in names], model, label_map)
    return [matched.classes.get(P / name, f"no {matched.lacking.get(P / name)}") for name in names]


def test_folders_bear_the_names_of_classes_in_any_form_and_it_is_told() -> None:
    names = ["BA cellulitis", "athletes_foot", "Nevus", "Other", "warts"]
    assert classes(names, MODEL) == ["BA- cellulitis", "Athlete's foot", "nevus", "other", "no warts"]
    told = match([P / name for name in names], MODEL).joined
    assert told == ["photos/BA cellulitis is 'BA- cellulitis'", 'photos/athletes_foot is "Athlete\'s foot"']
    decomposed = match([P / "ne\N{COMBINING ACUTE ACCENT}vus"], {"n\N{LATIN SMALL LETTER E WITH ACUTE}vus": "Névus"})
    assert "other characters that look the same" in decomposed.joined[0]


def test_two_classes_that_look_alike_are_never_taken_for_each_other() -> None:
    assert classes(["melanoma", "Melanoma", "NEVUS"], TWO) == ["melanoma", "Melanoma", "nevus"]
    assert classes(["a/melanoma", "b/Melanoma "], TWO) == ["melanoma", "Melanoma"]
    with pytest.raises(DatasetError, match="'MELANOMA' looks like 'Melanoma' and 'melanoma' of the model"):
        classes(["MELANOMA"], TWO)


@pytest.mark.parametrize(("one", "two"), [("nevus", "NEVUS"), ("warts", "Warts"), ("nevus", "nevus_")])
def test_two_folders_that_look_alike_are_refused_beside_each_other_only(one: str, two: str) -> None:
    with pytest.raises(DatasetError, match=f"photos/{two}.*look alike.*one folder") as caught:
        classes([two, one], MODEL)
    assert f"photos/{one}" in str(caught.value)
    assert len({*classes([f"a/{one}", f"b/{two}"], MODEL)}) == 1 + (one == "warts")
    assert classes(["nevus", " nevus"], MODEL) == ["nevus", "nevus"]


def test_a_label_map_is_read_by_the_same_rule() -> None:
    lines = {"Acne ": "NEVUS", "cats": "", "BA": "Cellulitis", "nevus": "other", "Nevus": "nevus"}
    names = ["acne", "Cats", "ba", "warts", "nevus", "Nevus"]
    expected = ["nevus", "other", "BA- cellulitis", "no warts", "other", "nevus"]
    assert classes(names, MODEL, lines) == expected
    assert classes(["x"], MODEL, {"x": "dermatitis"}) == ["no dermatitis"]
