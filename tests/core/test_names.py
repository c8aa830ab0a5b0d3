"""Spellings that are one name, that only look alike, that differ, and that are no names."""

import pytest

from spectraderm.core.errors import DatasetError, ModelFolderError
from spectraderm.core.names import check_name, folded, join, look_alikes, same, tell_apart, unite

ONE = [
    ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"),
    ("nevus", " nevus\N{NO-BREAK SPACE}"),
    ("nevus", "ne\N{ZERO WIDTH SPACE}vus"),
    ("nevus", "\N{ZERO WIDTH NO-BREAK SPACE}ne\N{SOFT HYPHEN}vu\N{ZERO WIDTH JOINER}s\N{LEFT-TO-RIGHT MARK}"),
    ("\N{ANGSTROM SIGN}", "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}"),
]
ALIKE = [
    ("Melanoma", "melanoma"),
    ("STRASSE", "straße"),
    ("ﬁssure", "fissure"),
    ("ｍｅｌａｎｏｍａ", "melanoma"),
    ("grade Ⅱ", "grade II"),
    ("Athlete's foot", "athlete’s-foot"),
    ("Athlete's foot", "Athletes_foot"),
    ("nail fungus", "nail  fungus"),
    ("nail fungus", "nail\N{NO-BREAK SPACE}fungus"),
    ("nail fungus", "nail–fungus"),
    ("BA- cellulitis", "BA cellulitis"),
    ("nevus - benign", "nevus (benign)"),
    ("eczema, atopic.", "Eczema atopic"),
    ("St. Anthony's fire", "St Anthonys fire"),
    ("B.C.C.", "BCC"),
    ("_nevus_", "nevus"),
    ("می\N{ZERO WIDTH NON-JOINER}خواهم", "میخواهم"),
]
APART = [
    ("1.5 mm", "15 mm"), ("1.5 mm", "1 5 mm"), ("1,5", "15"), (".5 mm", "5 mm"), ("type 1-2", "type 12"),
    ("stage +", "stage -"), ("stage -", "stage"), ("stage +", "stage"), ("HER2 (-)", "HER2"), ("ER- PR+", "ER+ PR+"),
    ("HPV -ve", "HPV +ve"), ("<1 cm", ">1 cm"), ("grade I", "grade II"), ("grade I-II", "grade III"), ("é", "e"),
    ("melanoma?", "melanoma"), ("type 1", "type 11"), ("a", "b"), ("()", "[]"), ("T1/2", "T12"), ("皮膚", "皮"),
    ("ü", "u"), ("naevus", "nevus"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "two"), ONE)
def test_spellings_of_the_same_characters_are_one_name(one: str, two: str) -> None:
    assert same(one) == same(two) == same(same(two))
    assert folded(one) == folded(two)
    assert look_alikes([one, two]) == []
    assert set(unite([[one, two]]).values()) == {same(one)}


@pytest.mark.parametrize(("one", "two"), ALIKE)
def test_look_alikes_are_one_in_two_places_and_two_side_by_side(one: str, two: str) -> None:
    assert same(one) != same(two)
    assert folded(one) == folded(two)
    assert look_alikes([two, one, "x"]) == [sorted([one, two])]
    assert unite([[one, "x"], [two]]) == {one: one.strip(), two: one.strip(), "x": "x"}
    assert unite([[one, two], [two]]) == {one: one, two: two}
    assert join([two], [one, "x"]) == {two: one}
    assert join([two, one], [one, two]) == {one: one, two: two}


@pytest.mark.parametrize(("one", "two"), APART)
def test_names_that_differ_in_meaning_are_never_joined(one: str, two: str) -> None:
    assert folded(one) != folded(two)
    assert join([one], [two]) == {}
    assert unite([[one], [two]]) == {one: one, two: two}


def test_what_fits_two_names_is_neither_and_labels_go_before_names_for_people() -> None:
    assert join(["MELANOMA", "melanoma ", "Nevus"], ["Melanoma", "melanoma", "nevus"]) == {
        "melanoma ": "melanoma",
        "Nevus": "nevus",
    }
    also = {"Cellulitis": "BA- cellulitis", "b": "a"}
    assert join(["cellulitis", "b", "B", "A"], ["BA- cellulitis", "a", "b"], also) == {
        "cellulitis": "BA- cellulitis",
        "b": "b",
        "B": "b",
        "A": "a",
    }


def test_classes_that_would_be_shown_alike_are_shown_as_they_are() -> None:
    shown = {"Melanoma": "Melanoma", "melanoma": "Melanoma", "FU-nail": "Nail"}
    assert tell_apart(shown) == {"Melanoma": "Melanoma", "melanoma": "melanoma", "FU-nail": "Nail"}
    assert tell_apart({"BA-x": "X", "FU-x": "X"}) == {"BA-x": "BA-x", "FU-x": "FU-x"}
    assert list(tell_apart({"é": "É", "e\N{COMBINING ACUTE ACCENT}": "É"}).values()) == ["é (1)", "é (2)"]


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\tb", "a\rb", "\x1b[31mx", "a\0b", "a\x85b", "a\u2028b", "a\u2029b", "a\u202eb", "a\u2066b", "a\udce9b",
     "x" * 201, "", "  ", "\u200b", ".", ".."],
)  # fmt: skip
def test_names_that_no_line_can_show_are_refused_escaped(name: str) -> None:
    with pytest.raises(DatasetError, match="set: the name") as caught:
        check_name(name, "set")
    assert str(caught.value).isprintable()
    with pytest.raises(ModelFolderError, match="Do this"):
        check_name(name, "set", "Do this", ModelFolderError)


def test_names_of_all_scripts_are_taken() -> None:
    for name in ("BA- cellulitis", "皮膚", "جلد", "می\N{ZERO WIDTH NON-JOINER}خواهم", "a;b", "=1", "x" * 200, "👩‍⚕️"):
        check_name(name, "set")
