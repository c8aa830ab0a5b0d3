"""Planted models that look at one thing: they change their mind where it is changed, and nowhere else."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import encode
from handmade import LABELS, Said, write_model, write_run
from PIL import Image
from scipy import stats

from spectraderm.cli import tables as terminal
from spectraderm.core.errors import DatasetError
from spectraderm.core.files import sha256
from spectraderm.core.run import MANIFEST, Run
from spectraderm.data import manifest
from spectraderm.evaluation.robustness import compare, measure_robustness, to_markdown
from spectraderm.images.perturbations import CHANGES
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference.engine import Answer, Engine

SIZE = 224
Reals = npt.NDArray[np.float64]
Look = Callable[[Pixels], Reals]
COLOURS = dict(zip(LABELS, [(230, 30, 30), (30, 230, 30), (30, 30, 230)], strict=True))


class Planted(Engine):
    """A model that looks at photos `uint8[n, size, size, 3]` in one way: its `float[n, 3]` are logits."""

    def __init__(self, look: Look) -> None:
        self.look, self.asked = look, 0

    def __call__(self, pixels: Pixels) -> Answer:
        self.asked += len(pixels)
        logits = self.look(pixels).astype(np.float32)
        return Answer(logits, logits, np.zeros((len(pixels), 3, 7, 7), np.float32))


def colour(pixels: Pixels) -> Reals:
    """Mean colour, rounded: what an encoder adds is not minded."""
    mean: Reals = pixels.astype(np.float64).mean((1, 2)).round(-1)
    return mean


def border(pixels: Pixels) -> Reals:
    frame = np.ones((SIZE, SIZE), bool)
    frame[16:-16, 16:-16] = False
    return colour(pixels[:, None, frame])


def texture(pixels: Pixels) -> Reals:
    """Whether neighbours in the middle differ: class 1 if so, else class 0."""
    grain = np.abs(np.diff(pixels[:, 84:140, 84:140].astype(float), axis=2)).mean((1, 2, 3))
    return np.stack([np.full(len(pixels), 9.0), grain, np.zeros(len(pixels))], 1)


def photo(label: str, seed: int) -> Image.Image:
    """The class's colour, and grain, all over; but to the right and below it has those of the other classes."""
    own, (other, third) = COLOURS[label], [colour for name, colour in COLOURS.items() if name != label]
    pixels = np.full((SIZE, SIZE, 3), own, np.uint8)
    pixels[80:144, 144:184], pixels[144:184, 80:144] = other, third
    grain = np.random.default_rng(seed).integers(-30, 31, (SIZE, SIZE, 1))
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def said(count: int, side: str = "test") -> list[Said]:
    """So many photos of one split, each of its own group, over all classes; and two that were learned from."""
    rows = [Said(f"{n}.png", n, side, LABELS[n % 3], LABELS[n % 3]) for n in range(count)]
    return [*rows, Said("t.png", 98, "train", LABELS[0], LABELS[0]), Said("v.png", 99, "val", LABELS[1], LABELS[1])]


def write(root: Path, photos: Sequence[Said]) -> Run:
    """A run folder by hand, and its photos, whose hashes are in the manifest."""
    run = Run(write_run(root / "run", {"final": photos}, "original", audit={"root": str(root)}))
    for number, own in enumerate(photos):
        (root / own.path).write_bytes(encode(photo(own.label, number), "PNG"))
    rows = manifest.read(run.path(MANIFEST))
    sums = [sha256((root / row.path).read_bytes()) for row in rows]
    manifest.write(run.path(MANIFEST), [replace(row, sha256=one) for row, one in zip(rows, sums, strict=True)])
    return run


def measure(run: Run, look: Look) -> dict[str, Any]:
    return measure_robustness(run, lambda _: Planted(look), Preprocessing(size=SIZE))


@pytest.mark.parametrize(
    ("look", "minds"),
    [
        (lambda pixels: colour(pixels[:, 84:140, 84:140]), set()),
        (border, {"border blanked"}),
        (lambda pixels: colour(pixels[:, 84:140, 40:80]), {"mirrored", "upside down"}),  # turned, it is what was on top
        (lambda pixels: colour(pixels[:, 40:80, 84:140]), {"turned", "upside down"}),
        (texture, {"re-encoded"}),
    ],
)
def test_a_model_minds_only_what_changes_where_it_looks(look: Look, minds: set[str], tmp_path: Path) -> None:
    found = measure(write(tmp_path, said(6)), look)
    assert list(found) == ["photos", "photo_groups", *CHANGES]
    assert {name for name in CHANGES if found[name]["changed"]["value"]} == minds
    json.dumps(found, allow_nan=False)
    if look is border:  # all grey: the first class, for all
        assert found["border blanked"]["changed"]["value"] == pytest.approx(2 / 3)
        assert found["border blanked"]["accuracy_difference"]["value"] == pytest.approx(-2 / 3)
        assert found["border blanked"]["accuracy_difference"]["high"] < 0


def test_a_photo_group_counts_once_however_many_files_it_has(tmp_path: Path) -> None:
    a, b, _ = LABELS
    photos = [*(Said(f"{n}.png", 1, "test", b, b) for n in range(4)), Said("4.png", 2, "test", a, a)]
    found = measure(write(tmp_path, photos), border)
    assert (found["photos"], found["photo_groups"]) == (5, 2)
    assert found["border blanked"]["changed"]["value"] == 1 / 2  # not 4 / 5


def test_a_final_model_of_all_photos_is_stood_in_for_by_the_head_of_the_first_fold(tmp_path: Path) -> None:
    run, asked = write(tmp_path, said(6)), list[str]()
    learned = [own._replace(split="train") for own in said(6)]
    folds = {"final": learned, "fold-1": said(6), "fold-2": learned}
    write_run(tmp_path / "run", folds, "grouped", audit={"root": str(tmp_path)})
    rows = [
        replace(row, sha256=sha256((tmp_path / row.path).read_bytes())) for row in manifest.read(run.path(MANIFEST))
    ]
    manifest.write(run.path(MANIFEST), rows)

    def engine_of(fold: str) -> Planted:
        asked.append(fold)
        return Planted(border)

    assert measure_robustness(run, engine_of, Preprocessing(size=SIZE))["photos"] == 6
    assert asked == ["fold-1"]
    assert measure_robustness(run, lambda _: None, Preprocessing(size=SIZE)) == {}


@pytest.mark.parametrize(("side", "count"), [("test", 5), ("val", 6), ("calibration", 1)])
def test_test_photos_are_asked_about_once_and_where_there_are_none_those_for_validation(
    side: str, count: int, tmp_path: Path
) -> None:
    run, engine = write(tmp_path, said(5, side)), Planted(border)
    assert measure_robustness(run, lambda _: engine, Preprocessing(size=SIZE))["photos"] == count
    assert engine.asked == count * (1 + len(CHANGES))


def test_where_nothing_was_held_out_nothing_is_said_but_that(tmp_path: Path) -> None:
    assert measure(write(tmp_path, [own for own in said(3, "train") if own.split != "val"]), border) == {}
    assert to_markdown({}).endswith("?\nNot measured: no photo was held out from this model to test it on.\n")


def test_a_photo_that_changed_or_vanished_is_named(tmp_path: Path) -> None:
    run = write(tmp_path, said(3))
    (tmp_path / "1.png").write_bytes(encode(photo(LABELS[0], 77), "PNG"))
    with pytest.raises(DatasetError, match=r"1\.png was changed since"):
        measure(run, border)
    (tmp_path / "1.png").unlink()
    with pytest.raises(DatasetError, match=r"1\.png can't be read any more"):
        measure(run, border)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    before, truth, groups = random.integers(0, 3, 80), random.integers(0, 3, 80), random.integers(0, 40, 80)
    after = np.where(random.random(80) < 0.3, (before + 1) % 3, before)
    gained, found = (after == truth).astype(float) - (before == truth), compare(before, after, truth, groups)
    for name, values in (("changed", after != before), ("accuracy_difference", gained)):
        own = [values[groups == group].mean() for group in set(groups)]
        expected = stats.bootstrap((own,), np.mean, n_resamples=9999, method="percentile", rng=1).confidence_interval
        assert found[name]["value"] == pytest.approx(np.mean(own))
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((expected.low, expected.high), abs=0.025)


@pytest.mark.parametrize("share", [0, 1])
def test_nothing_or_everything_changed_is_no_proof(share: int) -> None:
    zeros, groups, unseen = np.zeros(30, np.int64), np.arange(30) // 2, 1 - 0.025 ** (1 / 15)
    found = compare(zeros, zeros + share, zeros + 2, groups)  # both guesses are wrong
    low, high = (0, unseen) if share == 0 else (1 - unseen, 1)
    assert found["changed"] == pytest.approx({"value": share, "low": low, "high": high})
    assert found["accuracy_difference"] == pytest.approx({"value": 0, "low": -unseen, "high": unseen})


def test_card_and_terminal_name_every_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {
        "changed": {"value": 0.0121, "low": 0.004, "high": 0.0209},
        "accuracy_difference": {"value": -0.003, "low": -0.01, "high": 0.004},
    }
    found = {"photos": 231, "photo_groups": 89, **dict.fromkeys(CHANGES, own)}
    text = to_markdown(found)
    assert "\nWhat the model says of 89 different photos held out from it (231 files)" in text
    assert "| turned | 1.2 % (0.4–2.1) | −0.3 points (−1.0 to +0.4) |\n" in text
    assert text.count("1.2 % (0.4–2.1)") == len(CHANGES)
    for name, robustness in {"some": found, "none": {}}.items():
        terminal.say_robustness(write_model(tmp_path / name, facts={"robustness": robustness}))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Robustness on 231 held-out photos: first guess changes: re-encoded 1.2 %, mirrored 1.2 %, ")
