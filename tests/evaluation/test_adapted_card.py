"""The card of an adapted model shows names as text."""

from markdown_it import MarkdownIt

from spectraderm.evaluation.adapted_card import card


def test_names_of_classes_are_text() -> None:
    own = {"label": "A", "photos": 3, "groups": 3, "before": 0.5, "after": None}
    share = {"value": None, "low": None, "high": None}
    measured = {"per_class": [own], "model_id": "<i>", "n_photos": 3, "n_groups": 3, "few": ["[A](http://x)"]}
    measured |= dict.fromkeys(("before", "after", "difference"), share)
    text = card("# before", measured, {"confidence_threshold": 2}, {"A": "<b>a</b> | [x](http://x)"})
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("---\n", 2)[2])
    assert not [tag for tag in ("<b>", "<i>", "<a ") if tag in page]
    assert "<td>&lt;b&gt;a&lt;/b&gt; | [x](http://x)</td>" in page
    assert "[A](http://x)" in page
