import importlib.metadata
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest
from conftest import encode, paint
from dependencies import is_installed, locked, needed
from handmade import LABELS, calibration, write_model
from huggingface_hub import SpaceCardData
from markdown_it import MarkdownIt

import spectraderm
from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.core.files import sha256, write_bytes
from spectraderm.inference.model_folder import CARD as CARD_NAME
from spectraderm.inference.model_folder import ONNX, ModelFolder, read_model_folder
from spectraderm.serving.spaces import deploy as deploying
from spectraderm.serving.spaces.card import readme
from spectraderm.serving.spaces.deploy import GRADIO, deploy, pins
from spectraderm.serving.spaces.folder import MANIFEST, Space, read_space, write_space
from spectraderm.serving.spaces.push import push_space

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
def _without_npm() -> Iterator[None]:
    """A static site needs npm, and `test_site` looks at it."""

    def site_files(model: ModelFolder, _: str) -> dict[str, bytes]:
        return {"index.html": b""} | {f"model/{name}": model.files[name] for name in (ONNX, CARD_NAME, "NOTICE")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deploying, "site_files", site_files)
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in `given`, and a Space of it of each kind; don't write into them."""
    root = tmp_path_factory.mktemp("spaces")
    write_model(root / "given", files={CARD_NAME: CARD.encode(), "NOTICE": b"notice"})
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


@pytest.mark.parametrize("target", TARGETS)
def test_the_hub_takes_it_and_its_readme_says_what_it_is(
    target: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub.running(monkeypatch, str(tmp_path / "cache")) as hub:
        push_space(shared / target, "me/skin", target)
        there = hub.repos["space", "me/skin"]
    assert there.sdk == target
    assert {f"model/{name}" for name in (ONNX, CARD_NAME, "NOTICE")} <= there.files.keys()
    folder = shared / target
    text, facts = (folder / "README.md").read_text(), front(folder)
    assert SpaceCardData(**facts).to_dict() == facts  # type: ignore[no-untyped-call]
    assert facts["sdk"] == target
    assert (facts["license"], facts["license_name"]) == ("other", "of-the-backbone")
    assert (folder / facts["license_link"]).read_bytes() == b"notice"
    if target == "gradio":
        assert (facts["sdk_version"], facts["python_version"]) == (GRADIO, ".".join(map(str, sys.version_info[:2])))
    if target == "docker":
        assert f"EXPOSE {facts['app_port']}" in (folder / "Dockerfile").read_text()
    else:
        assert (folder / facts["app_file"]).is_file()
    assert ("custom_headers" in facts) == (target == "static")
    parts = ("Not a diagnosis", "58.4 % right, of 93 photos.", "A, B c, D", "by-hand")
    assert all(part in text for part in parts)
    assert "More." not in text
    assert ("never leaves this device" in text) == (target == "static")
    assert ("does not promise" in text) == (target == "gradio")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all((folder / link).is_file() for link in links)


def test_what_a_foreign_model_is_called_is_text_in_the_readme(tmp_path: Path) -> None:
    evil = dict(zip(LABELS, ("<img src=x>", "[a](http://x.org)", "x | `c` **d**"), strict=True))
    card = "# m\n\n## How good it is\n**99 %** <script>alert(1)</script> ![x](http://x.org) \\<b\\>\n"
    folder = write_model(tmp_path / "m", facts={"display_names": evil}, files={CARD_NAME: card.encode()})
    deploy(str(folder), "docker", tmp_path / "out", title="<b>T</b> [x](y)")
    text = (tmp_path / "out" / "README.md").read_text().split("\n---\n", 1)[1]
    page = MarkdownIt("commonmark", {"html": True}).render(text)
    assert set(re.findall(r"</?(\w+)", page)) <= {"p", "h1", "h2", "a", "strong", "code", "pre", "hr"}
    assert re.findall(r'href="([^"]+)', page) == ["model/README.md"]
    assert "&lt;img src=x&gt;, [a](http://x.org), x | `c` **d**." in page
    assert "99 % &lt;script&gt;alert(1)&lt;/script&gt; ![x](http://x.org) &lt;b&gt;" in page


@pytest.mark.parametrize("title", ['Skin: a "test" \\ # no', "皮肤 🔎", "null", "- 1"])
def test_any_title_of_one_line_survives(title: str, made: Callable[..., Path]) -> None:
    folder = made("gradio", title=title)
    assert front(folder)["title"] == title
    source = (folder / "app.py").read_text()
    assert f"title={title!r}," in source
    compile(source, "app.py", "exec")


@pytest.mark.parametrize(
    ("target", "title"),
    [*(("static", title) for title in ("", "  ", "a\nsdk: docker", "a\x7f", "\x1b[31m")), ("streamlit", "a")],
)
def test_other_titles_and_kinds_are_refused(target: str, title: str, made: Callable[..., Path]) -> None:
    with pytest.raises(SpectraDermError, match=r"title|no streamlit Spaces"):
        made(target, title=title)


def test_a_model_of_the_hub_is_named_and_one_without_a_card_claims_nothing(tmp_path: Path) -> None:
    text = readme(read_model_folder(write_model(tmp_path / "m"), hub="me/skin"), "x", "docker", GRADIO).decode()
    assert 'models: ["me/skin"]' in text
    assert "expect nothing" in text
    assert 'license: "apache-2.0"' in text


@pytest.mark.parametrize("target", ["gradio", "docker"])
def test_a_space_holds_the_model_and_the_package_whole(target: str, shared: Path) -> None:
    folder, home = shared / target, Path(spectraderm.__file__).parent
    for root, copy in ((shared / "given", "model"), (home, "spectraderm")):
        given = {file.relative_to(root): file for file in root.rglob("*") if file.is_file()}
        given = {name: file for name, file in given.items() if not {"__pycache__", "default_model"} & set(name.parts)}
        copied = {file.relative_to(folder / copy) for file in (folder / copy).rglob("*") if file.is_file()}
        assert copied == given.keys()
        assert all((folder / copy / name).read_bytes() == file.read_bytes() for name, file in given.items())
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


_ALONE = """
import importlib.metadata, json, os, sys
def absent(name): raise importlib.metadata.PackageNotFoundError(name)
own = {name: getattr(importlib.metadata, name) for name in ("version", "distribution", "requires", "metadata")}
for name, function in own.items():
    setattr(importlib.metadata, name, lambda asked, f=function: absent(asked) if asked == "spectraderm" else f(asked))
for name in ("torch", "scipy", "sklearn", "onnx", "transformers"): sys.modules[name] = None
import spectraderm, spectraderm.serving.server
assert spectraderm.__file__.startswith(os.getcwd()), spectraderm.__file__
print(json.dumps(spectraderm.load_model("model").predict(sys.stdin.buffer.read()).to_dict()))
"""


def test_the_package_runs_where_it_is_not_installed_and_answers_the_same(shared: Path) -> None:
    photo = encode(paint(3))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command, folder = [sys.executable, "-c", _ALONE], shared / "docker"
    done = subprocess.run(
        command, cwd=folder, env=environment, input=photo, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == spectraderm.load_model(shared / "given").predict(photo).to_dict()


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio is not installed")
@pytest.mark.parametrize(("novelty", "guesses"), [(3.0, True), (-1.0, False)])
def test_the_gradio_app_answers_as_the_model_does(tmp_path: Path, novelty: float, guesses: bool) -> None:
    write_model(tmp_path / "given", facts={"calibration": calibration(3, novelty_threshold=novelty)})
    deploy(str(tmp_path / "given"), "gradio", tmp_path / "out")
    app = runpy.run_path(str(tmp_path / "out" / "app.py"))
    (tmp_path / "photo.jpg").write_bytes(encode(paint(3, (300, 200))))
    verdict, shown = app["classify"](str(tmp_path / "photo.jpg"))
    model = spectraderm.load_model(tmp_path / "given")
    expected = model.predict(tmp_path / "photo.jpg")
    assert expected.reason in verdict
    assert shown == ({model.display_name(label): p for label, p in expected.probabilities.items()} if guesses else {})
    assert ("Judged as a photo of the collection" in verdict) == guesses
    (tmp_path / "photo.jpg").write_bytes(b"text")
    with pytest.raises(Exception, match="not a photo"):
        app["classify"](str(tmp_path / "photo.jpg"))


def test_pins_are_what_is_installed_of_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=1", 'nowhere; extra == "train"', 'pillow<99; extra == "serve"', 'old; python_version < "3.8"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needs)
    assert pins() == [f"numpy=={importlib.metadata.version('numpy')}"]


def test_a_space_installs_what_was_tested_by_hash_and_no_torch(shared: Path) -> None:
    served = locked(shared / "docker" / "requirements.txt")
    tested = locked(Path(__file__).parents[2] / "constraints.txt")
    assert served.items() - {"colorama": served.get("colorama")}.items() <= tested.items()
    assert not is_installed(tested) or needed("serve") <= served.keys()
    assert served.keys().isdisjoint({"torch", "transformers", "scipy", "onnx", "spectraderm", "gradio"})
    assert "--require-hashes" in (shared / "docker" / "Dockerfile").read_text()
    lines = (shared / "gradio" / "requirements.txt").read_text().splitlines()
    assert lines[0] == f"gradio=={GRADIO}"
    assert {line.partition("==")[0] for line in lines[1:]} < served.keys()


def test_the_container_has_few_rights_and_copies_what_is_there(shared: Path) -> None:
    folder = shared / "docker"
    text = (folder / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert "$" not in text
    copied = {name.rstrip("/") for name in re.findall(r"^COPY (\S+) ", text, re.MULTILINE)}
    kept = re.findall(r"^!(.+)$", (folder / ".dockerignore").read_text(), re.MULTILINE)
    assert copied == set(kept)
    assert all((folder / name).exists() for name in copied)


def test_the_container_s_command_is_one_of_the_command_line(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spectraderm.cli.commands import app
    from spectraderm.serving import server

    given: list[server.ServeOptions] = []
    monkeypatch.setattr(server, "serve", given.append)
    monkeypatch.chdir(shared / "docker")
    command = json.loads(re.findall(r"^CMD (.*)", (shared / "docker" / "Dockerfile").read_text(), re.MULTILINE)[-1])
    assert command[:3] == ["python", "-m", "spectraderm"]
    app(command[3:], standalone_mode=False)
    assert [(one.model, one.host, one.port) for one in given] == [("model", "0.0.0.0", 7860)]
    assert given[0].frame_ancestors == ("https://huggingface.co",)


def test_hadolint_finds_nothing(shared: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not hadolint:
        pytest.skip("hadolint is not installed")
    command = [hadolint, str(shared / "docker" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_space_of_before_is_replaced_whole(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("docker")
    write_bytes(folder / "spectraderm" / "__pycache__" / "errors.pyc", b"")  # as running it leaves
    made("static")
    assert not (folder / "Dockerfile").exists()
    assert read_space(folder).target == "static"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "out"]


def foreign_folder(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_bytes(b"years")


def foreign_file(out: Path) -> None:
    write_space(out, Space("static", {"index.html": b""}))
    write_bytes(out / ".git" / "HEAD", b"ref")


def altered(out: Path) -> None:
    write_space(out, Space("static", {"index.html": b""}))
    (out / "index.html").write_bytes(b"mine")


def a_link(out: Path) -> None:
    write_space(out.parent / "real", Space("static", {"index.html": b""}))
    out.symlink_to(out.parent / "real", target_is_directory=True)


@pytest.mark.parametrize("prepare", [foreign_folder, foreign_file, altered, a_link])
def test_what_deploy_did_not_write_is_left_alone(
    prepare: Callable[[Path], None], made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "site_files", lambda *_: pytest.fail("built in vain"))
    prepare(tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SpectraDermError, match=str(tmp_path / "out")):
        made("static")
    with pytest.raises(SpectraDermError, match=str(tmp_path / "out")):
        write_space(tmp_path / "out", Space("static", {}))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_altered_model_is_not_deployed(made: Callable[..., Path], model: Path, tmp_path: Path) -> None:
    (model / ONNX).write_bytes(b"other weights")
    with pytest.raises(ModelFolderError, match="altered"):
        made("gradio")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{}", '{"target": "static"}', '{"target": "static", "sha256": []}', "[" * 100_000,
     *(json.dumps({"target": "static", "sha256": {name: sha256(b"secret")}})
       for name in ("../secret", "a/../../secret", "/etc/passwd", "..\\secret", "missing", "\0", "a" * 5000, ""))],
)  # fmt: skip
def test_a_manifest_that_was_tampered_with_is_refused(manifest: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / "secret", b"secret")
    write_bytes(tmp_path / "space" / MANIFEST, manifest.encode())
    with pytest.raises(SpectraDermError, match=r"space"):
        read_space(tmp_path / "space")
