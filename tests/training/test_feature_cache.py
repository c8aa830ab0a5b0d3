"""Features kept for other runs: whole or not there, checked, and done without where they can't be kept."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from spectraderm.core.errors import WriteError
from spectraderm.core.files import sha256
from spectraderm.training import feature_cache as store
from spectraderm.training.dataset import Floats
from spectraderm.training.feature_cache import Store

PHOTOS = [sha256(str(number).encode()) for number in range(10)]
FEATURES: Floats = np.random.default_rng(0).normal(size=(10, 7)).astype(np.float32)


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    """Has ten photos, in two files."""
    made = Store.of(tmp_path, ["weights", "whole"], 7)
    made.write(PHOTOS[:6], FEATURES[:6])
    made.write(PHOTOS[6:], FEATURES[6:])
    return made


def known(kept: Store, photos: list[str] = PHOTOS) -> dict[str, Floats]:
    return {
        photo: own for names, features in kept.read(set(photos)) for photo, own in zip(names, features, strict=True)
    }


def equal(found: dict[str, Floats], expected: list[int]) -> bool:
    return set(found) == {PHOTOS[n] for n in expected} and all(
        np.array_equal(found[PHOTOS[n]], FEATURES[n]) for n in expected
    )


def test_what_was_kept_is_given_to_the_bit_and_only_files_with_something_of_it(kept: Store, tmp_path: Path) -> None:
    assert equal(known(kept), list(range(10)))
    assert equal(known(kept, [PHOTOS[7], "f" * 64]), [6, 7, 8, 9])
    assert known(kept, ["f" * 64]) == {}
    assert equal(known(Store.of(tmp_path, ["weights", "whole"], 7)), list(range(10)))
    for other in (["other weights", "whole"], ["weights", "mirrored"], ["weights"], ["weightswhole"]):
        assert known(Store.of(tmp_path, other, 7)) == {}


@pytest.mark.parametrize("how", ["changed", "cut", "empty", "narrower", "huge"])
def test_a_damaged_file_is_passed_over_and_healed_by_what_is_computed_again(how: str, kept: Store) -> None:
    (first,) = (file for file in kept.folder.iterdir() if b"(6, 32)" in file.read_bytes())
    before = first.read_bytes()
    value = FEATURES[3, 3].tobytes()
    damaged = {
        "changed": before.replace(value, bytes([value[0] ^ 1]) + value[1:]),
        "cut": before[: len(before) // 2],
        "empty": b"",
        "narrower": before.replace(b"(6, 7)", b"(6, 6)"),
        "huge": before.replace(b"(6, 7), ", b"(9999999999999, 7), "),
    }
    assert damaged[how] != before
    first.write_bytes(damaged[how])
    assert equal(known(kept), [6, 7, 8, 9])
    kept.write(PHOTOS[:6], FEATURES[:6])
    assert first.read_bytes() == before
    assert equal(known(kept), list(range(10)))


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(kept: Store) -> None:
    more = [sha256(b"more")]
    before = sorted(file.name for file in kept.folder.iterdir())
    child = os.fork()
    if child == 0:  # written, not renamed yet
        sys.addaudithook(lambda name, _: os.kill(os.getpid(), signal.SIGKILL) if name == "os.rename" else None)
        kept.write(more, FEATURES[:1])
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(list(kept.folder.iterdir())) == len(before) + 1
    assert equal(known(kept, [*PHOTOS, *more]), list(range(10)))
    kept.write(more, FEATURES[:1])
    assert len(known(kept, [*PHOTOS, *more])) == 11


def test_where_nothing_can_be_kept_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    Store(tmp_path / "file", 7).write(PHOTOS, FEATURES)
    assert known(Store(tmp_path / "file", 7)) == {}
    monkeypatch.delenv("SPECTRADERM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert store.shared_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "folder"))
    assert store.shared_folder() == tmp_path / "folder/spectraderm/features"
    assert (tmp_path / "folder/spectraderm/CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06")
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write anywhere
    assert store.shared_folder() is None


def test_a_cache_that_was_asked_for_and_can_not_be_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for given in (str(tmp_path / "file"), "", " "):
        monkeypatch.setenv("SPECTRADERM_CACHE", given)
        with pytest.raises(WriteError, match=r"^SPECTRADERM_CACHE=.*unset it$"):
            store.shared_folder()


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path))
    left = tmp_path / "features/some/.1.features.abcd1234.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of them")
    os.utime(left, (1e9, 1e9))  # long ago: no living process writes it
    assert store.shared_folder()
    assert not left.exists()
