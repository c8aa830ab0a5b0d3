"""A model folder -> a complete Hugging Face Space folder: a Gradio page, a static site, or a container."""

import tempfile
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal, get_args

from spectraderm.core import artifacts
from spectraderm.core.artifacts import ModelFolder
from spectraderm.core.errors import SpectraDermError
from spectraderm.inference import learned
from spectraderm.inference.finding import find_model
from spectraderm.serving.spaces import requirements
from spectraderm.serving.spaces.card import PORT, PYTHON, Subject, readme
from spectraderm.serving.spaces.folder import Space, check_free, write_space
from spectraderm.serving.spaces.sources import licences, sources

Target = Literal["gradio", "static", "docker"]
_MODEL = "model"


def deploy(model: str | None, target: str, out: Path, title: str = "SpectraDerm") -> None:
    """Write a Space folder: whole, or not at all.

    Args:
        model: as `spectraderm.load_model` takes it.
        target: `gradio` (a page and REST, on the Hub's machine), `static` (in the visitor's browser) or `docker` (as
            `gradio`, anywhere).
        out: the folder; an unaltered Space that was written there before is replaced.
        title: of the Space.

    Raises:
        SpectraDermError: no such target or model, a title that a README can't carry, or `out` holds something else.
        MissingExtra: what serves, or what builds the static site, is not installed.
    """
    if target not in get_args(Target):
        raise SpectraDermError(f"there are no {target} Spaces", f"Give one of {', '.join(get_args(Target))}")
    if not title.strip() or not title.isprintable():
        raise SpectraDermError(f"{title!r} can't be a title", "Give one line of text")
    check_free(out)
    path = find_model(model)
    folder = artifacts.read_model_folder(path)
    subject = _subject(folder, title, "" if model is None or Path(model).exists() else model)
    files = _static(path) if target == "static" else _served(path, folder, target)
    gradio = requirements.pins()["gradio"] if target == "gradio" else ""
    write_space(out, Space(target, {**files, "README.md": readme(subject, target, gradio)}))


def _subject(folder: ModelFolder, title: str, hub: str) -> Subject:
    known = learned.read(folder)
    return Subject(
        title=title,
        conditions=[known.display[label] for label in known.labels],
        model_id=folder.model_id,
        card=folder.card,
        hub=hub,
    )


def _served(path: Path, folder: ModelFolder, target: str) -> dict[str, bytes]:
    """A Space that runs the server: the model whole, our sources (no index has them), and pinned packages."""
    pinned = requirements.pins()
    lines = requirements.beside_the_builder(pinned) if target == "gradio" else requirements.exact(pinned)
    files = {
        "app.py": _template("app.py"),
        "requirements.txt": "".join(f"{line}\n" for line in lines).encode(),
        f"{_MODEL}/{artifacts.FACTS}": (path / artifacts.FACTS).read_bytes(),
        **{f"{_MODEL}/{name}": data for name, data in folder.files.items()},
        **sources(),
        **licences(),
    }
    if target == "docker":
        files |= {"Dockerfile": _template("Dockerfile"), ".dockerignore": _template("dockerignore")}
    return files


def _static(path: Path) -> dict[str, bytes]:
    """A Space that only hands out files: the site, and the model's card and notice where the site has none."""
    from spectraderm.serving.spaces.site import build_site  # noqa: PLC0415 - none but this door needs it

    with tempfile.TemporaryDirectory() as around:
        site = Path(around) / "site"
        build_site(path, site)
        files = {file.relative_to(site).as_posix(): file.read_bytes() for file in site.rglob("*") if file.is_file()}
    papers = {f"{_MODEL}/{name}": path / name for name in (artifacts.CARD, "NOTICE")}
    return {name: file.read_bytes() for name, file in papers.items() if file.is_file()} | files | licences()


def _template(name: str) -> bytes:
    text = (resources.files("spectraderm.serving.spaces") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).safe_substitute(python=PYTHON, port=PORT).encode()
