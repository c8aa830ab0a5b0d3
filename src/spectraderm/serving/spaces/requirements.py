"""Which packages a Space installs: the versions that are installed here, of all that serving needs."""

import importlib.metadata
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from spectraderm.core.errors import MissingExtra, SpectraDermError

EXTRAS = ("serve", "page")
_SELF = "spectraderm"
_SPACE = {"os_name": "posix", "platform_machine": "x86_64", "platform_system": "Linux", "sys_platform": "linux"}
_BUILDERS = ("oauth", "mcp")
"""The extras of Gradio that the builder of a Gradio Space adds to what `requirements.txt` asks for."""


def pins() -> dict[str, str]:
    """Name -> version of everything that `spectraderm[serve,page]` needs on Linux, sorted by name.

    Raises:
        MissingExtra: some of it is not installed here.
        SpectraDermError: the installed spectraderm is from before it had a web page.
    """
    found: dict[str, str] = {}
    waiting = [(_SELF, extra) for extra in ("", *EXTRAS)]
    seen = set()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            found[one[0]] = _version(one[0])
            waiting += [(canonicalize_name(need.name), more) for need in _needs(*one) for more in ("", *need.extras)]
    if "gradio" not in found:
        raise SpectraDermError("the installed spectraderm does not know what its web page needs", "Install it again")
    return {name: found[name] for name in sorted(found) if name != _SELF}


def exact(pinned: Mapping[str, str]) -> list[str]:
    """The lines of a `requirements.txt` that leaves nothing open."""
    return [f"{name}=={version}" for name, version in pinned.items()]


def beside_the_builder(pinned: Mapping[str, str]) -> list[str]:
    """The same for a Gradio Space, whose builder asks for `gradio[oauth,mcp]` in the same step.

    `mcp` holds pydantic below the newest: where such an extra forbids a pin, its own range takes the pin's place, and
    what that package itself pins is left to it.
    """
    asked = {str(canonicalize_name(need.name)): need for extra in _BUILDERS for need in _needs("gradio", extra)}
    ranges = {
        name: need.specifier
        for name, need in asked.items()
        if name in pinned and not need.specifier.contains(pinned[name])
    }
    left = {
        str(canonicalize_name(need.name))
        for name in ranges
        for need in _needs(name, "")
        if any(part.operator == "==" for part in need.specifier)
    }
    return [
        f"{name}{ranges[name]}" if name in ranges else f"{name}=={version}"
        for name, version in pinned.items()
        if name not in left
    ]


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    """What a package asks for on Linux, by itself or for one of its extras."""
    for line in importlib.metadata.requires(name) or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({**_SPACE, "extra": extra}):
            yield need


def _version(name: str) -> str:
    """The installed version, without what marks a build of one's own: an index does not have that."""
    try:
        return Version(importlib.metadata.version(name)).public
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtra(f"{name}, which a Space needs,", ",".join(EXTRAS)) from error
