"""A model folder -> a complete Hugging Face Space folder: a static site, a container, or a Gradio app."""

import re
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Literal, get_args

from packaging.requirements import Requirement
from packaging.version import Version

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.serving.spaces.card import PORT, PYTHON, readme
from spectraderm.serving.spaces.folder import Space, check_free, write_space
from spectraderm.serving.spaces.site import site_files

Target = Literal["static", "docker", "gradio"]
GRADIO = "6.31.0"
"""The Gradio that the app was tried with; nothing else here needs it."""


def deploy(model: str | None, target: str, out: Path, title: str = "SpectraDerm", repo_id: str = "") -> None:
    """Write a Space folder: whole, or not at all.

    Args:
        model: as `spectraderm.load_model` takes it.
        target: `static` (the page, with the model in the visitor's browser), `docker` (what `serve` serves: REST and
            the page, anywhere) or `gradio` (a Gradio app on the Hub's machine).
        out: the folder; an unaltered Space that was written there before is replaced.
        title: of the Space.
        repo_id: `OWNER/NAME` of the Space, where it is known: a static page then names its own address.

    Raises:
        SpectraDermError: no such target or model, a title that a README can't carry, or `out` holds something else.
        MissingExtra: what the Space needs is not installed here.
    """
    if target not in get_args(Target):
        raise SpectraDermError(f"there are no {target} Spaces", f"Give one of {', '.join(get_args(Target))}")
    if not title.strip() or not title.isprintable():
        raise SpectraDermError(f"{title!r} can't be a title", "Give one line of text")
    check_free(out)
    folder = open_model(model)
    folder.check_network()
    match target:
        case "static":
            files = site_files(folder, _address(repo_id))
        case "gradio":
            files = _with_package(folder, "".join(f"{line}\n" for line in (f"gradio=={GRADIO}", *pins())).encode())
            files |= {"app.py": _template("app.py").replace(b'"$title"', repr(title).encode())}
        case _:
            files = _with_package(folder, _template("requirements.txt"))
            files |= {"Dockerfile": _template("Dockerfile"), ".dockerignore": _template("dockerignore")}
    for name in ("LICENSE", "NOTICE"):
        files[name] = (metadata.distribution("spectraderm").read_text(f"licenses/{name}") or "").encode()
    write_space(out, Space(target, {**files, "README.md": readme(folder, title, target, GRADIO)}))


def _address(repo_id: str) -> str:
    """Where the Hub shows a static Space."""
    name = re.sub(r"[^a-z0-9]+", "-", repo_id.lower())
    return f"https://{name}.static.hf.space/" if repo_id else ""


def pins() -> list[str]:
    """What the installed spectraderm asks for, without any extra, as `name==version` of what is installed.

    They carry no hashes: the Hub installs a Gradio Space's packages in one command with some of its own that have none,
    which pip then refuses.
    """
    needs = [Requirement(line) for line in metadata.requires("spectraderm") or ()]
    names = {need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}
    return [f"{name}=={Version(metadata.version(name)).public}" for name in sorted(names)]


def _with_package(folder: ModelFolder, requirements: bytes) -> dict[str, bytes]:
    """The model whole, this package's source (no index has it) without the model that comes with it, and the pins."""
    home = Path(str(resources.files("spectraderm")))
    files = {f"model/{name}": data for name, data in folder.files.items()}
    files["requirements.txt"] = requirements
    for file in sorted(home.rglob("*")):
        name = file.relative_to(home.parent)
        if file.is_file() and not {"default_model", "__pycache__"} & set(name.parts):
            files[name.as_posix()] = file.read_bytes()
    return files


def _template(name: str) -> bytes:
    text = (resources.files("spectraderm.serving.spaces") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).safe_substitute(python=PYTHON, port=PORT).encode()
