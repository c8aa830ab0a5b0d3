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
from spectraderm.core.run import Run
from spectraderm.data import manifest
from spectraderm.evaluation import bootstrap
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


def colour_of(part: npt.NDArray[np.generic], axes: tuple[int, ...] = (1, 2)) -> Reals:
    """Mean colour, rounded: what an encoder adds is not minded."""
    mean: Reals = part.astype(np.float64).mean(axes).round(-1)
    return mean


def middle(pixels: Pixels) -> Reals:
    return colour_of(pixels[:, 84:140, 84:140])


def border(pixels: Pixels) -> Reals:
    frame = np.ones((SIZE, SIZE), bool)
    frame[16:-16, 16:-16] = False
    return colour_of(pixels[:, frame], (1,))


def left(pixels: Pixels) -> Reals:
    return colour_of(pixels[:, 84:140, 40:80])


def top(pixels: Pixels) -> Reals:
    return colour_of(pixels[:, 40:80, 84:140])


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
    """So many test photos, each of its own group, over all classes; and two that were learned from."""
    labels = [LABELS[n % 3] for n in range(count)]
    test = [Said(f"{n}.png", n, side, label, label) for n, label in enumerate(labels)]
    return [*test, Said("t.png", 98, "train", LABELS[0], LABELS[0]), Said("v.png", 99, "val", LABELS[1], LABELS[1])]


def write(root: Path, photos: Sequence[Said], look: Callable[[str, int], Image.Image] = photo) -> Path:
    """A run folder by hand, and its photos, whose hashes are in the manifest."""
    run = write_run(root / "run", {"final": photos}, "original", audit={"root": str(root)})
    for number, own in enumerate(photos):
        (root / own.path).write_bytes(encode(look(own.label, number), "PNG"))
    rows = manifest.read(run / "manifest.csv")
    sums = [sha256((root / row.path).read_bytes()) for row in rows]
    manifest.write(run / "manifest.csv", [replace(row, sha256=one) for row, one in zip(rows, sums, strict=True)])
    return run


def measure(run: Path, look: Look) -> dict[str, Any]:
    return measure_robustness(Run(run), Planted(look), Preprocessing(size=SIZE))


@pytest.mark.parametrize(
    ("look", "minds"),
    [
        (middle, set()),
        (border, {"border blanked"}),
        (left, {"mirrored", "upside down"}),  # turned, left is what was on top
        (top, {"turned", "upside down"}),
        (texture, {"re-encoded"}),
    ],
)
def test_a_model_minds_only_what_changes_where_it_looks(look: Look, minds: set[str], tmp_path: Path) -> None:
    found = measure(write(tmp_path, said(7)), look)
    assert list(found) == ["photos", "photo_groups", *CHANGES]
    assert {name for name in CHANGES if found[name]["changed"]["value"]} == minds
    json.dumps(found, allow_nan=False)


def test_what_a_change_costs_is_told(tmp_path: Path) -> None:
    found = measure(write(tmp_path, said(6)), border)["border blanked"]
    assert found["changed"]["value"] == pytest.approx(2 / 3)  # all grey: the first class, for all
    assert found["accuracy_difference"]["value"] == pytest.approx(-2 / 3)
    assert found["accuracy_difference"]["high"] < 0


def test_a_photo_group_counts_once_however_many_files_it_has(tmp_path: Path) -> None:
    a, b, _ = LABELS
    photos = [*(Said(f"{n}.png", 1, "test", b, b) for n in range(4)), Said("4.png", 2, "test", a, a)]
    found = measure(write(tmp_path, photos), border)
    assert (found["photos"], found["photo_groups"]) == (5, 2)
    assert found["border blanked"]["changed"]["value"] == 1 / 2  # not 4 / 5
    photos[3] = photos[3]._replace(group=2)
    (tmp_path / "more").mkdir()
    found = measure(write(tmp_path / "more", photos), border)
    assert found["border blanked"]["changed"]["value"] == 3 / 4  # all of one group, half of the other


@pytest.mark.parametrize(("side", "count"), [("test", 5), ("val", 6), ("calibration", 1), ("train", 1)])
def test_test_photos_are_asked_about_once_and_where_there_are_none_those_for_validation(
    side: str, count: int, tmp_path: Path
) -> None:
    run, engine = write(tmp_path, said(5, side)), Planted(middle)
    assert measure_robustness(Run(run), engine, Preprocessing(size=SIZE))["photos"] == count
    assert engine.asked == count * (1 + len(CHANGES))


def test_where_nothing_was_held_out_nothing_is_said_but_that(tmp_path: Path) -> None:
    run = write(tmp_path, [own for own in said(3, "train") if own.split != "val"])
    assert measure(run, middle) == {}
    assert "Not measured" in to_markdown({})


def test_a_photo_that_changed_or_vanished_is_named(tmp_path: Path) -> None:
    run = write(tmp_path, said(3))
    (tmp_path / "1.png").write_bytes(encode(photo(LABELS[0], 77), "PNG"))
    with pytest.raises(DatasetError, match=r"1\.png was changed since"):
        measure(run, middle)
    (tmp_path / "1.png").unlink()
    with pytest.raises(DatasetError, match=r"1\.png can't be read any more"):
        measure(run, middle)


def drawn(seed: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Guesses before and after, truth and photo groups of 80 files."""
    random = np.random.default_rng(seed)
    before, truth, groups = random.integers(0, 3, 80), random.integers(0, 3, 80), random.integers(0, 40, 80)
    return before, np.where(random.random(80) < 0.3, (before + 1) % 3, before), truth, groups


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_those_of_the_reports(seed: int) -> None:
    before, after, truth, groups = drawn(seed)
    found = compare(before, after, truth, groups)
    rate = bootstrap.rate(before != after, groups, by_group=True)
    assert found["changed"] == pytest.approx({key: rate[key] for key in ("value", "low", "high")})
    own = [
        (after == truth)[groups == group].mean() - (before == truth)[groups == group].mean() for group in set(groups)
    ]
    expected = stats.bootstrap((own,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert found["accuracy_difference"]["value"] == pytest.approx(np.mean(own))
    assert (found["accuracy_difference"]["low"], found["accuracy_difference"]["high"]) == pytest.approx(
        (expected.low, expected.high), abs=0.02
    )


@pytest.mark.parametrize("share", [0, 1])
def test_nothing_or_everything_changed_is_no_proof(share: int) -> None:
    zeros, groups = np.zeros(30, np.int64), np.arange(30) // 2
    found = compare(zeros, zeros + share, zeros + 2, groups)
    rate = bootstrap.rate(np.full(30, share, bool), groups, by_group=True)
    assert found["changed"] == pytest.approx({key: rate[key] for key in ("value", "low", "high")})
    assert rate["low"] < rate["high"]
    unseen = 1 - 0.025 ** (1 / 15)  # both guesses are wrong
    assert found["accuracy_difference"] == pytest.approx({"value": 0, "low": -unseen, "high": unseen})


def test_the_card_has_a_line_for_every_change() -> None:
    own = {
        "changed": {"value": 0.0121, "low": 0.004, "high": 0.0209},
        "accuracy_difference": {"value": -0.003, "low": -0.01, "high": 0.004},
    }
    text = to_markdown({"photos": 231, "photo_groups": 89, **dict.fromkeys(CHANGES, own)})
    assert text.startswith(
        "## Does the camera matter?\nWhat the model says of 89 different photos held out from it (231 files)"
    )
    assert "| turned | 1.2 % (0.4–2.1) | −0.3 points (−1.0 to +0.4) |\n" in text
    assert text.count("1.2 % (0.4–2.1)") == len(CHANGES)


def test_the_terminal_says_it_in_one_line_and_nothing_where_nothing_was_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"changed": {"value": 0.0121, "low": 0, "high": 1}}
    for name, found in {"some": {"photos": 231, **dict.fromkeys(CHANGES, own)}, "none": {}}.items():
        terminal.say_robustness(write_model(tmp_path / name, facts={"robustness": found}))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "Robustness on 231 held-out photos: first guess changes: re-encoded 1.2 %, mirrored 1.2 %, turned "
    )
