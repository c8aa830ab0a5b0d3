from pathlib import Path

import pytest

from spectraderm.core.errors import DatasetError
from spectraderm.core.roots import with_other
from spectraderm.evaluation.source_photos import named_sources


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("derm/target/a", "derm/near/warts", "skin/target/a", "x=y"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "derm/target/a/1.png").write_bytes(b"x")
    return tmp_path


def test_a_source_has_its_folders_name_or_the_one_given_and_those_of_one_name_are_one(folders: Path) -> None:
    derm, skin = folders / "derm", folders / "skin"
    assert named_sources([skin, derm]) == {"derm": [derm], "skin": [skin]}
    given: list[str | Path] = [f"derm={derm}/target", skin, Path(f"derm={derm}/near")]
    assert named_sources(given) == {"derm": [derm / "target", derm / "near"], "skin": [skin]}
    assert named_sources([f"a b={skin}"]) == {"a b": [skin]}
    assert named_sources(with_other([derm], skin)) == {"derm": [derm], "skin": [skin]}
    assert named_sources([folders / "x=y", skin]) == {"skin": [skin], "x=y": [folders / "x=y"]}  # a folder of that name


def test_folders_that_hold_the_same_photos_or_two_of_one_name_are_refused(folders: Path) -> None:
    derm, skin = folders / "derm", folders / "skin"
    twice: list[list[str | Path]] = [[derm, derm], [f"a={derm}", f"b={derm}/target"], [f"a={derm}/near", f"a={derm}"]]
    for given in twice:
        with pytest.raises(DatasetError, match="hold the same photos"):
            named_sources(given)
    with pytest.raises(DatasetError, match=r"both named 'target'.*NAME=FOLDER"):
        named_sources([derm / "target", skin / "target"])
