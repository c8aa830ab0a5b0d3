import re
import sys
from importlib import import_module, metadata
from pathlib import Path
from unittest import mock

import pytest
from packaging.requirements import Requirement

from spectraderm.core.errors import EXTRA_MODULES, MissingExtra, install_command, needs


def test_a_missing_module_of_an_extra_names_it_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with (
        pytest.raises(MissingExtra, match=r"^Parquet \(pyarrow\) is not installed.*pip install .*\[scale\]"),
        needs("scale", "Parquet"),
    ):
        import_module("pyarrow")


@pytest.mark.parametrize("missing", ["spectraderm.nothing", "nothing_of_that_name", "pyarrow.nothing"])
def test_a_module_that_no_extra_brings_is_not_called_a_missing_extra(missing: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=missing), needs("scale", "what reads Parquet"):
        import_module(missing)


def test_every_package_of_every_extra_is_known_by_its_module() -> None:
    distributions = metadata.packages_distributions()
    modules = " ".join(EXTRA_MODULES.values()).split()
    known = {name.replace("_", "-").lower() for module in modules for name in distributions.get(module, ())}
    for line in metadata.requires("spectraderm") or ():
        need = Requirement(line)
        extra = re.search(r'extra == "(\w+)"', str(need.marker))
        beside = extra and extra[1] in ("mlflow", "wandb")  # not in `all`, and so not installed for tests
        if extra and extra[1] in EXTRA_MODULES and need.name != "spectraderm" and not beside:
            assert need.name in known, line


CLONE = 'pip install ".[serve]" in a clone of SpectraDerm'


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        ('{"url": "URL", "dir_info": {"editable": true}}', 'pip install --editable "PATH[serve]"'),
        ('{"url": "URL", "dir_info": {}}', 'pip install "spectraderm[serve] @ URL"'),
        ('{"url": "https://e.org/s.git", "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "0"}}',
         'pip install "spectraderm[serve] @ git+https://e.org/s.git@v1"'),
        ('{"url": "URL/gone", "dir_info": {}}', CLONE),
        ("no json", CLONE),
        (None, CLONE),
    ],
)  # fmt: skip
def test_what_is_missing_is_installed_from_where_all_came_from(
    noted: str | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = mock.Mock(read_text=lambda _: noted and noted.replace("URL", tmp_path.as_uri()))
    monkeypatch.setattr(metadata, "distribution", lambda _: here)
    assert install_command("serve") == command.replace("PATH", str(tmp_path)).replace("URL", tmp_path.as_uri())


def test_no_error_names_a_package_that_no_index_has() -> None:
    sources = [path for path in (Path(__file__).parents[2] / "src").rglob("*.py") if path.name != "errors.py"]
    assert not [path for path in sources if re.search(r"pip install [^\n]*\bspectraderm\b", path.read_text("utf-8"))]
