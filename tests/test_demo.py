"""The demo: every planted flaw is told aloud, and nonsense is refused."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from console import Done, call
from tinynet import small_inputs

from spectraderm.core.files import read_json
from spectraderm.core.run import AUDIT, GALLERY, LEDGER, REPORT
from spectraderm.data import synthetic
from spectraderm.data.synthetic import paint
from spectraderm.inference import model_folder


class Shown(NamedTuple):
    """The folder of a demo, and what a person saw of it."""

    out: Path
    done: Done


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The whole demo, on a third of the photos, at half their size, and with quick forests."""
    out = tmp_path_factory.mktemp("demonstrated") / "demo"
    with pytest.MonkeyPatch.context() as patch, small_inputs():
        patch.setattr(synthetic, "paint", partial(paint, per_class=8))
        return Shown(out, call("demo", "--out", out))


def test_the_demo_tells_every_planted_flaw(demonstrated: Shown) -> None:
    assert demonstrated.done.code == 0, demonstrated.done.err
    told = demonstrated.done.err
    assert "LEAK  6 of 14 test photos (42.9 %) are copies of training photos" in told
    assert "FU-nail-fungus is always 128x128" in told
    assert "unreadable" in told
    assert "Painted 64 photos, not real ones" in told
    assert "6 test photos" in told
    assert "Nail fungus alone is always of one size" in told
    assert "Do not believe it: 6 of 14 test photos are copies of photos it learned from." in told
    assert "> grouped (72 files, 64 photo groups): Believe it" in told
    assert f"open {demonstrated.out / 'run' / REPORT}" in told
    for name in (REPORT, GALLERY, LEDGER, "model/onnx/model.onnx"):
        assert (demonstrated.out / "run" / name).is_file()
    facts = read_json(demonstrated.out / "run" / AUDIT, "")
    assert (facts["photo_groups"], facts["looked_for_crops"]) == (64, True)
    assert facts["leakage"]["test_photos_with_crop_in_train"] == 0


def test_the_demo_refuses_nonsense_and_knows_what_it_has_seen(demonstrated: Shown) -> None:
    *paragraphs, counts, note = demonstrated.done.out.strip().split("\n\n")
    assert counts.startswith("5 photos: ")
    answers = [(Path(text.splitlines()[0]), text.splitlines()[1].strip()) for text in paragraphs]
    said = {path.name: answer for path, answer in answers if path.parent.name == "nonsense"}
    assert said == {"blocks.jpg": "out of scope", "night.jpg": "unusable photo"}
    assert len(answers) == 5
    assert sum("The model learned from this photo" in text for text in paragraphs) == 3
    assert "asked about 3 of these photos, of which it says it has seen 3," in demonstrated.done.err
    assert "about 2 of nonsense, of which it refused 2." in demonstrated.done.err
    assert read_json(demonstrated.out / "run/model" / model_folder.FACTS, "")["model_id"] in note
