"""What the commands' functions take in Python, and what they refuse before anything begins."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from conftest import plain_id

import spectraderm as sd
from spectraderm.core import Protocol
from spectraderm.core.arguments import checked
from spectraderm.core.errors import SpectraDermError, WrongArgument

AnyPath = str | os.PathLike[str]
GIVEN: dict[str, Any] = {}


class OfBytes:
    def __fspath__(self) -> bytes:
        return b"photos"


@checked
def everything(
    photos: AnyPath | Sequence[AnyPath],
    out: AnyPath | None = None,
    *,
    seed: int = 0,
    folds: int = 5,
    coverage: float | None = None,
    split: Protocol = "grouped",
    resume: bool = False,
    log: Literal["wandb"] | None = None,
) -> None:
    """Notes what it is given."""
    GIVEN.update(locals())


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"seed": np.int64(3)}, 3),
        ({"coverage": np.float32(0.5)}, 0.5),
        ({"coverage": None}, None),
        ({"resume": np.bool_(True)}, True),
        ({"out": Path("a")}, Path("a")),
        ({"out": None}, None),
        ({"log": None}, None),
        ({"photos": OfBytes()}, "photos"),
        ({"photos": "NAME=folder"}, "NAME=folder"),
        ({"photos": ("a", Path("b"))}, ["a", Path("b")]),
        ({"photos": iter(["a"])}, ["a"]),
        ({"photos": "~/photos"}, str(Path.home() / "photos")),
    ],
    ids=plain_id,
)
def test_what_is_meant_is_taken(given: dict[str, Any], taken: object) -> None:
    everything(**{"photos": "photos"} | given)
    (name,) = given
    assert GIVEN[name] == taken
    assert type(GIVEN[name]) is type(taken)


@pytest.mark.parametrize(
    "given",
    [
        *({"seed": odd} for odd in (None, True, 1.5, 1.0, -1, 2**70, "0", [1])),
        *({"folds": odd} for odd in (-1, "5", 2.0)),
        *({"coverage": odd} for odd in (1.5, "0.9", float("nan"), 0, True)),
        *({"split": odd} for odd in ("random", None, 3, "")),
        *({"resume": odd} for odd in ("no", 1, None)),
        *({"out": odd} for odd in ("", " ", "a\0b", b"a", 5, ["a"], "https://a.org/b", "s3://a/b")),
        *({"photos": odd} for odd in (None, 5, [], {"a": "b"}, b"a", [None], [["a"]], np.zeros(3), "", object())),
        {"unknown": 1},
    ],
    ids=plain_id,
)
def test_all_else_is_refused_by_name_with_what_is_taken(given: dict[str, Any]) -> None:
    with pytest.raises(SpectraDermError, match=next(iter(given))) as caught:
        everything(**{"photos": "photos"} | given)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "call",
    [
        lambda: sd.run("photos", "out", seed=None),  # type: ignore[arg-type]
        lambda: sd.audit(None, "out"),  # type: ignore[arg-type]
        lambda: sd.split("out", seed=1.5),  # type: ignore[arg-type]
        lambda: sd.train(3),  # type: ignore[arg-type]
        lambda: sd.calibrate("out", coverage=1.5),
        lambda: sd.evaluate([]),
        lambda: sd.export("out", 1),  # type: ignore[arg-type]
        lambda: sd.compare("out", None),  # type: ignore[arg-type]
        lambda: sd.import_("scin", None, "out"),  # type: ignore[arg-type]
        lambda: sd.adapt("default", ["photos"], "out"),  # type: ignore[arg-type]
        lambda: sd.load_model(5),  # type: ignore[arg-type]
        lambda: sd.load_model(threads=-1),
        lambda: sd.load_model(calibration="x"),  # type: ignore[arg-type]
    ],
)
def test_every_function_looks_at_its_arguments(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongArgument):
        call()
    assert not list(tmp_path.iterdir())
