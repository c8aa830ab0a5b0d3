"""Versions: what is installed of what our own metadata asks for, and what can't be done without the rest."""

import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from spectraderm.cli.doctor.fact import Fact, State

THEME = "Packages"
_OWN = "spectraderm"
_FOR_OTHERS = {"all", "dev"}
"""Extras that are not looked at: the sum of the others, and what our developers need."""
_LACKS = {
    "train": "no audit, training, scoring or export",
    "serve": "no `spectraderm serve`",
    "page": "no web page",
    "web": "no static page, unless npm is there",
    "heic": "no HEIC photos",
    "hub": "no models from the Hub, no push",
    "openvino": "no OpenVINO, which float models may run faster on",
    "scale": "no `predict --out`",
    "ray": "no `predict --engine ray`",
    "track": "no --log tensorboard",
}
_WHY = {"typer": ": from 0.29 on every start waits a tenth of a second"}


def packages() -> list[Fact]:
    """Python, ourselves, what we always need, and each extra."""
    try:
        own = metadata.distribution(_OWN)
    except metadata.PackageNotFoundError:
        found = "on the path, but not installed: no ranges of versions are known"
        return [_python(""), Fact(THEME, _OWN, found, State.warning, f"pip install {_OWN}")]
    needs = [Requirement(line) for line in own.requires or ()]
    extras = sorted(set(own.metadata.get_all("Provides-Extra") or ()) - _FOR_OTHERS)
    return [
        _python(",".join(own.metadata.get_all("Requires-Python") or ())),
        Fact(THEME, _OWN, f"{own.version}, in {Path(__file__).parents[2]}"),
        *(judge(need) for need in of_extra(needs, "")),
        *(judge_extra(extra, list(of_extra(needs, extra))) for extra in extras),
    ]


def of_extra(needs: Sequence[Requirement], extra: str) -> Iterator[Requirement]:
    """What an extra adds to what is always needed, other extras that it names among it; `""`: what is always needed."""
    for need in needs:
        always = need.marker is None or need.marker.evaluate({"extra": ""})
        if not (always if extra == "" else not always and need.marker and need.marker.evaluate({"extra": extra})):
            continue
        if need.name != _OWN:
            yield need
            continue
        for other in sorted(need.extras):
            yield from of_extra(needs, other)


def judge(need: Requirement) -> Fact:
    """A package that we always need."""
    version = installed(need.name)
    remedy = f'pip install "{need.name}{_range(need)}"'
    if not version:
        return Fact(THEME, need.name, "not installed", State.broken, remedy)
    if not fits(need, version):
        told = f"{version}, outside of {_range(need)}{_WHY.get(need.name, '')}"
        return Fact(THEME, need.name, told, State.warning, remedy)
    return Fact(THEME, need.name, version)


def judge_extra(extra: str, needs: Sequence[Requirement]) -> Fact:
    """All packages of an extra."""
    versions = {need.name: installed(need.name) for need in needs}
    lacking = [name for name, version in versions.items() if not version]
    outside = [need for need in needs if versions[need.name] and not fits(need, versions[need.name])]
    name, remedy = f"[{extra}]", f'pip install "{_OWN}[{extra}]"'
    if outside:
        told = ", ".join(f"{need.name} {versions[need.name]} is outside of {_range(need)}" for need in outside)
        return Fact(THEME, name, told, State.warning, remedy)
    if lacking:
        told = "not installed" if len(lacking) == len(needs) else f"lacks {', '.join(lacking)}"
        return Fact(THEME, name, f"{told}: {_LACKS.get(extra, 'not needed otherwise')}", State.absent, remedy)
    return Fact(THEME, name, ", ".join(f"{each} {version}" for each, version in versions.items()))


def installed(package: str) -> str:
    """A package's version, or empty where it is not installed. Imports nothing."""
    try:
        return metadata.version(package) or ""  # None where its metadata is damaged
    except metadata.PackageNotFoundError:
        return ""


def fits(need: Requirement, version: str) -> bool:
    """A version is one that we allow."""
    return need.specifier.contains(version, prereleases=True)


def _range(need: Requirement) -> str:
    return ",".join(sorted(map(str, need.specifier), reverse=True))


def _python(wanted: str) -> Fact:
    version = platform.python_version()
    told = f"{version} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Fact(THEME, "Python", told)
    return Fact(THEME, "Python", f"{told}, outside of {wanted}", State.broken, f"Install Python {wanted}")
