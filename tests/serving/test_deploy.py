import importlib.metadata
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_hub
import packaging.markers
import pytest
from conftest import encode, paint
from handmade import write_model
from huggingface_hub import SpaceCardData

import spectraderm
from spectraderm.core import artifacts
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError
from spectraderm.inference import model_folder
from spectraderm.inference.model_folder import read_model_folder
from spectraderm.serving.spaces import requirements
from spectraderm.serving.spaces.card import readme
from spectraderm.serving.spaces.deploy import deploy
from spectraderm.serving.spaces.folder import MANIFEST, Space, read_space, write_space
from spectraderm.serving.spaces.push import push_space
from spectraderm.serving.spaces.sources import sources

TARGETS = ["gradio", "docker", "static"]
ROOT = Path(__file__).parents[2]
CARD = """---
license: other
license_name: of-the-backbone
license_link: NOTICE
tags:
- license: decoy
---
# A model

## How good it is
**58.4 %** right,
of 93 photos.

More.
"""


@pytest.fixture(scope="module", autouse=True)
def _surroundings() -> Iterator[None]:
    """What this package needs as its sources say, for an editable installation may be older, and a site without npm."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    own = project["dependencies"] + [f'{line}; extra == "{extra}"' for extra, lines in extras for line in lines]
    of_others = importlib.metadata.requires

    def build_site(model: Path, out: Path) -> None:
        artifacts.write_bytes(out / "index.html", b"<!doctype html>")
        artifacts.write_bytes(out / "model" / "model.onnx", (model / model_folder.ONNX).read_bytes())

    site = ModuleType("spectraderm.serving.spaces.site")
    site.build_site = build_site  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "requires", lambda name: own if name == "spectraderm" else of_others(name))
        patch.setitem(sys.modules, "spectraderm.serving.spaces.site", site)
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in `given`, and a Space of it of each kind; don't write into them."""
    root = tmp_path_factory.mktemp("spaces")
    write_model(root / "given", files={artifacts.CARD: CARD.encode(), "NOTICE": b"notice"})
    for target in TARGETS:
        deploy(str(root / "given"), target, root / target)
    return root


@pytest.fixture
def model(tmp_path: Path, shared: Path) -> Path:
    shutil.copytree(shared / "given", tmp_path / "given")
    return tmp_path / "given"


@pytest.fixture
def made(model: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(target: str, **options: str) -> Path:
        deploy(str(model), target, tmp_path / "out", **options)
        return tmp_path / "out"

    return make


def front(folder: Path) -> dict[str, Any]:
    return fake_hub.front_matter((folder / "README.md").read_text())


def world(monkeypatch: pytest.MonkeyPatch, **packages: list[str]) -> None:
    """Nothing else is installed: `name_1_0` is version 1.0 of a package, the list what it asks for."""
    installed = {name.replace("_", "-"): lines for name, lines in packages.items()}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.0+cpu" if name == "numpy" else "2.0"

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: installed[name])
    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize("target", TARGETS)
def test_the_hub_takes_what_is_written(
    target: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared / target
    with fake_hub.running(monkeypatch, str(tmp_path / "cache")) as hub:
        push_space(folder, "me/skin", target)
        there = hub.repos["space", "me/skin"]
    assert there.sdk == target
    assert model_folder.ONNX not in there.files
    assert {f"model/{name}" for name in (artifacts.CARD, "NOTICE")} <= there.files.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_the_front_matter_says_how_to_run_it(target: str, shared: Path) -> None:
    folder = shared / target
    said = front(folder)
    assert fake_hub.wrong_in((folder / "README.md").read_text(), "space") == []
    assert SpaceCardData(**said).to_dict() == said  # type: ignore[no-untyped-call]
    assert said["sdk"] == target
    assert (said["license"], said["license_name"]) == ("other", "of-the-backbone")
    assert (folder / said["license_link"]).read_bytes() == b"notice"
    if target == "gradio":
        assert said["sdk_version"] == importlib.metadata.version("gradio")
        assert said["python_version"] == ".".join(map(str, sys.version_info[:2]))
    if target == "docker":
        assert f"EXPOSE {said['app_port']}" in (folder / "Dockerfile").read_text()
    else:
        assert (folder / said["app_file"]).is_file()
    assert ("custom_headers" in said) == (target == "static")


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_tells_what_it_is_and_links_what_is_there(target: str, shared: Path) -> None:
    folder = shared / target
    text = (folder / "README.md").read_text()
    assert all(
        words in text for words in ("Not a diagnosis", "**58.4 %** right,\nof 93 photos.", "A, B c, D", "by-hand")
    )
    assert "More." not in text
    assert ("never leaves your device" in text) == (target == "static")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all((folder / link).is_file() for link in links)


@pytest.mark.parametrize("title", ['Skin: a "test" \\ # no', "皮肤 🔎", "null", "- 1"])
def test_any_title_of_one_line_survives(title: str, made: Callable[..., Path]) -> None:
    assert front(made("static", title=title))["title"] == title


@pytest.mark.parametrize("title", ["", "  ", "a\nsdk: docker", "a\x7f", "\x1b[31m"])
def test_other_titles_are_refused(title: str, made: Callable[..., Path]) -> None:
    with pytest.raises(SpectraDermError, match="title"):
        made("static", title=title)


def test_a_model_of_the_hub_is_named_and_one_without_a_card_claims_nothing(tmp_path: Path) -> None:
    text = readme(read_model_folder(write_model(tmp_path / "m"), hub="me/skin"), "x", "docker").decode()
    assert 'models: ["me/skin"]' in text
    assert "expect nothing" in text
    assert 'license: "apache-2.0"' in text


@pytest.mark.parametrize("target", ["gradio", "docker"])
def test_a_space_holds_the_model_whole_and_the_source_without_training(target: str, shared: Path) -> None:
    folder = shared / target
    given = {
        file.relative_to(shared / "given"): file.read_bytes()
        for file in (shared / "given").rglob("*")
        if file.is_file()
    }
    assert {name: (folder / "model" / name).read_bytes() for name in given} == given
    parts = {file.relative_to(folder / "spectraderm").parts[0] for file in (folder / "spectraderm").rglob("*")}
    assert {"serving", "errors.py", "__init__.py", "preprocessing.py"} <= parts
    assert parts.isdisjoint({"training", "data", "evaluation", "cli.py", "pipeline.py", "default_model", "console.py"})
    home = Path(spectraderm.__file__).parent
    copied = [file for file in (folder / "spectraderm").rglob("*") if file.is_file()]
    assert all(file.read_bytes() == (home / file.relative_to(folder / "spectraderm")).read_bytes() for file in copied)
    assert not [file for file in copied if "spaces" in file.parts or "browser" in file.parts or file.suffix == ".pyi"]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


_ALONE = """
import importlib.metadata, json, os, sys
def absent(name): raise importlib.metadata.PackageNotFoundError(name)
own = {name: getattr(importlib.metadata, name) for name in ("version", "distribution", "requires", "metadata")}
for name, function in own.items():
    setattr(importlib.metadata, name, lambda asked, f=function: absent(asked) if asked == "spectraderm" else f(asked))
for name in ("torch", "scipy", "sklearn", "onnx", "transformers"): sys.modules[name] = None
import spectraderm, spectraderm.serving.http.server
from spectraderm.inference import model_folder
assert spectraderm.__file__.startswith(os.getcwd()), spectraderm.__file__
print(json.dumps(spectraderm.load_model("model").predict(sys.stdin.buffer.read()).to_dict()))
"""


def test_the_source_runs_by_itself_and_answers_the_same(shared: Path) -> None:
    photo = encode(paint(3))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONDONTWRITEBYTECODE": "1"
    }
    done = subprocess.run(
        [sys.executable, "-c", _ALONE],
        cwd=shared / "gradio",
        env=environment,
        input=photo,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == spectraderm.load_model(shared / "given").predict(photo).to_dict()


def test_all_that_the_sources_import_comes_along() -> None:
    found = sources()
    names = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in found}
    imported = {
        one
        for text in found.values()
        for one in re.findall(rb"^\s*(?:from|import) (spectraderm[\w.]*)", text, re.MULTILINE)
    }
    assert {one.decode() for one in imported} <= names
    assert {
        "spectraderm.serving.page.mount",
        "spectraderm.serving.server",
        "spectraderm.serving.pool",
    } <= names
    assert "spectraderm/serving/words.json" in found


def test_sources_that_are_not_there_are_named() -> None:
    with pytest.raises(SpectraDermError, match=r"spectraderm\.serving\.nowhere is not installed"):
        sources(["spectraderm.serving.nowhere"])


@pytest.mark.parametrize(("run_name", "served"), [("__main__", 1), ("__mp_main__", 0)])
def test_the_app_serves_the_model_beside_it_once(
    run_name: str, served: int, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectraderm.serving import server

    asked: list[server.ServeOptions] = []
    monkeypatch.setattr(server, "serve", asked.append)
    monkeypatch.setenv("CPU_CORES", "2.0")
    folder = shared / "gradio"
    runpy.run_path(str(folder / "app.py"), run_name=run_name)
    expected = server.ServeOptions(model=str(folder / "model"), host="0.0.0.0", port=7860, workers=2)
    assert asked == [expected] * served


def test_pins_follow_what_is_needed_on_linux_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    here = packaging.markers.default_environment()
    elsewhere = {**here, "os_name": "nt", "platform_system": "Windows", "sys_platform": "win32"}
    monkeypatch.setattr(packaging.markers, "default_environment", lambda: elsewhere)
    world(
        monkeypatch,
        spectraderm=[
            "numpy",
            'torch; extra == "train"',
            'gradio; extra == "page"',
            'web_server[fast]; extra == "serve"',
        ],
        gradio=["spectraderm", 'winloop; sys_platform == "win32"', 'appnope; platform_system == "Darwin"'],
        web_server=['Speed>1; extra == "fast" and sys_platform == "linux"', 'slow; extra == "lazy"', "numpy"],
        speed=['old; python_version < "3.8"', 'web-server; python_version >= "3.8"'],
        numpy=[],
    )
    pinned = requirements.pins()
    assert requirements.exact(pinned) == ["gradio==2.0", "numpy==3.0", "speed==2.0", "web-server==2.0"]


def test_a_pin_that_the_builder_forbids_gives_way_to_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    world(
        monkeypatch,
        spectraderm=['gradio; extra == "page"'],
        gradio=["pydantic>=1", "numpy", 'pydantic<=1.9,>=1.5; extra == "mcp"', 'numpy>=1; extra == "oauth"',
                'more>9; extra == "mcp"'],
        pydantic=["pydantic-core==2.0", "numpy>1"],
        pydantic_core=[],
        numpy=[],
    )  # fmt: skip
    assert requirements.beside_the_builder(requirements.pins()) == ["gradio==2.0", "numpy==3.0", "pydantic<=1.9,>=1.5"]


def test_what_is_not_installed_can_not_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    world(monkeypatch, spectraderm=['gradio; extra == "page"'])
    with pytest.raises(MissingExtra, match=r"gradio.*spectraderm\[serve,page\]"):
        requirements.pins()
    world(monkeypatch, spectraderm=[])
    with pytest.raises(SpectraDermError, match="Install it again"):
        requirements.pins()


def test_a_space_installs_what_is_installed_here_and_no_torch(shared: Path) -> None:
    lines = (shared / "docker" / "requirements.txt").read_text().splitlines()
    found = dict(line.split("==") for line in lines)
    assert {name: importlib.metadata.version(name).partition("+")[0] for name in found} == found
    assert {"gradio", "fastapi", "uvicorn", "onnxruntime", "pillow", "numpy"} <= found.keys()
    assert found.keys().isdisjoint(
        {"torch", "transformers", "scipy", "scikit-learn", "onnx", "spectraderm", "colorama"}
    )


def test_the_container_has_few_rights_and_copies_what_is_there(shared: Path) -> None:
    folder = shared / "docker"
    text = (folder / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert re.search(r'^CMD \["python", "app\.py"\]$', text, re.MULTILINE)
    assert "$" not in text
    copied = {name.rstrip("/") for name in re.findall(r"^COPY (\S+) ", text, re.MULTILINE)}
    kept = re.findall(r"^!(.+)$", (folder / ".dockerignore").read_text(), re.MULTILINE)
    assert copied == set(kept)
    assert all((folder / name).exists() for name in copied)


HADOLINT = shutil.which(
    "hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)


@pytest.mark.skipif(not HADOLINT, reason="hadolint is not installed")
def test_hadolint_finds_nothing(shared: Path) -> None:
    command = [str(HADOLINT), str(shared / "docker" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_space_of_before_is_replaced_whole(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("docker")
    artifacts.write_bytes(folder / "spectraderm" / "__pycache__" / "errors.pyc", b"")  # as running it leaves
    made("static")
    assert not (folder / "Dockerfile").exists()
    assert read_space(folder).target == "static"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "out"]


def foreign_folder(out: Path) -> None:
    artifacts.write_bytes(out / "thesis.txt", b"years")


def foreign_file(out: Path) -> None:
    write_space(out, Space("static", {"index.html": b""}))
    artifacts.write_bytes(out / ".git" / "HEAD", b"ref")


def altered(out: Path) -> None:
    write_space(out, Space("static", {"index.html": b""}))
    (out / "index.html").write_bytes(b"mine")


def a_file(out: Path) -> None:
    out.write_text("text")


def a_link(out: Path) -> None:
    write_space(out.parent / "real", Space("static", {"index.html": b""}))
    out.symlink_to(out.parent / "real", target_is_directory=True)


@pytest.mark.parametrize("prepare", [foreign_folder, foreign_file, altered, a_file, a_link])
def test_what_deploy_did_not_write_is_left_alone(
    prepare: Callable[[Path], None], made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["spectraderm.serving.spaces.site"], "build_site", lambda *_: pytest.fail("built in vain")
    )
    prepare(tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SpectraDermError, match=str(tmp_path / "out")):
        made("static")
    with pytest.raises(SpectraDermError, match=str(tmp_path / "out")):
        write_space(tmp_path / "out", Space("static", {}))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_write_that_fails_leaves_nothing(
    made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = artifacts.write_bytes

    def fail(path: Path, data: bytes) -> None:
        if path.name == model_folder.PREPROCESSOR:
            raise OSError("disk full")
        write(path, data)

    monkeypatch.setattr(artifacts, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        made("docker")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_an_altered_model_is_not_deployed(made: Callable[..., Path], model: Path, tmp_path: Path) -> None:
    (model / model_folder.ONNX).write_bytes(b"other weights")
    with pytest.raises(ModelFolderError, match="altered"):
        made("gradio")
    assert not (tmp_path / "out").exists()


def test_there_are_three_kinds(made: Callable[..., Path]) -> None:
    with pytest.raises(SpectraDermError, match="no streamlit Spaces"):
        made("streamlit")


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{}", '{"target": "static"}', '{"target": "static", "sha256": []}', "[" * 100_000,
     *(json.dumps({"target": "static", "sha256": {name: artifacts.sha256(b"secret")}})
       for name in ("../secret", "a/../../secret", "/etc/passwd", "..\\secret", "missing", "\0", "a" * 5000, ""))],
)  # fmt: skip
def test_a_manifest_that_was_tampered_with_is_refused(manifest: str, tmp_path: Path) -> None:
    artifacts.write_bytes(tmp_path / "secret", b"secret")
    artifacts.write_bytes(tmp_path / "space" / MANIFEST, manifest.encode())
    with pytest.raises(SpectraDermError, match=r"space"):
        read_space(tmp_path / "space")
