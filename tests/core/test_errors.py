import re
import sys
from importlib import import_module, metadata

import pytest
from packaging.requirements import Requirement

from spectraderm.core.errors import EXTRA_MODULES, MissingExtra, needs


def test_a_missing_module_of_an_extra_names_it_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with (
        pytest.raises(MissingExtra, match=r'^Parquet \(pyarrow\) is not installed.*"spectraderm\[scale\]"'),
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
        if extra and extra[1] in EXTRA_MODULES and need.name != "spectraderm":
            assert need.name in known, line
