"""A model folder -> a complete Hugging Face Space folder: a Gradio page, a static site, or a container."""

import tempfile
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal, get_args

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import CARD, ModelFolder, open_model
from spectraderm.serving.spaces import requirements
from spectraderm.serving.spaces.card import PORT, PYTHON, readme
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
    folder = open_model(model)
    files = _static(folder) if target == "static" else _served(folder, target)
    gradio = requirements.pins()["gradio"] if target == "gradio" else ""
    write_space(out, Space(target, {**files, "README.md": readme(folder, title, target, gradio)}))


def _served(folder: ModelFolder, target: str) -> dict[str, bytes]:
    """A Space that runs the server: the model whole, our sources (no index has them), and pinned packages."""
    pinned = requirements.pins()
    lines = requirements.beside_the_builder(pinned) if target == "gradio" else requirements.exact(pinned)
    files = {
        "app.py": _template("app.py"),
        "requirements.txt": "".join(f"{line}\n" for line in lines).encode(),
        **{f"{_MODEL}/{name}": data for name, data in folder.files.items()},
        **sources(),
        **licences(),
    }
    if target == "docker":
        files |= {"Dockerfile": _template("Dockerfile"), ".dockerignore": _template("dockerignore")}
    return files


def _static(folder: ModelFolder) -> dict[str, bytes]:
    """A Space that only hands out files: the site, and the model's card and notice where the site has none."""
    from spectraderm.serving.spaces.site import build_site  # noqa: PLC0415 - none but this door needs it

    with tempfile.TemporaryDirectory() as around:
        site = Path(around) / "site"
        build_site(folder.path, site)
        files = {file.relative_to(site).as_posix(): file.read_bytes() for file in site.rglob("*") if file.is_file()}
    papers = {f"{_MODEL}/{name}": folder.files[name] for name in (CARD, "NOTICE") if name in folder.files}
    return papers | files | licences()


def _template(name: str) -> bytes:
    text = (resources.files("spectraderm.serving.spaces") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).safe_substitute(python=PYTHON, port=PORT).encode()
