import sys
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import pytest
from conftest import contents, paint
from console import call
from handmade import write_model

import spectraderm
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError
from spectraderm.core.files import sha256
from spectraderm.inference.model_folder import CARD, ONNX
from spectraderm.serving.spaces.folder import Space, write_space
from spectraderm.serving.spaces.push import push_model, push_space

README = '---\ntitle: "x"\nemoji: "🔎"\ncolorFrom: "blue"\ncolorTo: "gray"\nsdk: "static"\n---\n'


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    with fake_hub.running(monkeypatch, str(tmp_path / "cache")) as hub:
        yield hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", files={CARD: b"---\nlicense: mit\n---\n# A model\n"})


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A Space without a model."""
    files = {"README.md": README.encode(), "index.html": b"<p>", "model/model.onnx": b"weights", ".dockerignore": b"*"}
    write_space(tmp_path / "space", Space("static", files))
    return tmp_path / "space"


def test_a_model_arrives_whole_in_one_commit_and_opens_from_there(hub: fake_hub.Hub, model: Path) -> None:
    listed = contents(model)
    (model / ".env").write_text("a secret, which the model folder does not list")
    assert push_model(model, "me/skin") == f"{hub.url}/me/skin"
    repo = hub.repos["model", "me/skin"]
    assert (repo.commits, repo.private) == (1, False)
    assert {name: data for name, data in repo.files.items() if name != ".gitattributes"} == listed
    assert sha256((model / ONNX).read_bytes()) in hub.large
    there = spectraderm.load_model("me/skin")
    assert there.predict(paint(1)) == spectraderm.load_model(model).predict(paint(1))


def test_pushing_again_deletes_what_is_stale_and_keeps_the_rest(hub: fake_hub.Hub, model: Path, tmp_path: Path) -> None:
    push_model(write_model(tmp_path / "before", files={"extra.txt": b"old"}), "me/skin")
    push_model(model, "me/skin")
    repo = hub.repos["model", "me/skin"]
    assert repo.commits == 2
    assert set(repo.files) == {".gitattributes", *contents(model)}


def test_a_space_arrives_as_it_was_written_and_private_if_asked(hub: fake_hub.Hub, space: Path) -> None:
    written = contents(space)
    (space / "notes.txt").write_text("mine")
    hub.repos["space", "me/door"] = fake_hub.Repo(files={"README.md": b"", "style.css": b"", ".gitattributes": b""})
    assert push_space(space, "me/door", "static") == f"{hub.url}/spaces/me/door"
    there = hub.repos["space", "me/door"].files
    assert {name: data for name, data in there.items() if name != ".gitattributes"} == written
    push_space(space, "me/other", "static", private=True)
    assert (hub.repos["space", "me/other"].sdk, hub.repos["space", "me/other"].private) == ("static", True)


def test_what_has_to_be_private_is_not_put_where_all_can_see_it(hub: fake_hub.Hub, model: Path) -> None:
    push_model(model, "me/skin")
    with pytest.raises(SpectraDermError, match="public"):
        push_model(model, "me/skin", private=True)
    assert hub.repos["model", "me/skin"].commits == 1


def test_a_repository_with_something_else_is_left_alone(hub: fake_hub.Hub, model: Path) -> None:
    others = {"README.md": b"", "thesis.pdf": b"years of work"}
    hub.repos["model", "me/thesis"] = fake_hub.Repo(files=dict(others))
    with pytest.raises(SpectraDermError, match=r"thesis\.pdf"):
        push_model(model, "me/thesis")
    assert hub.repos["model", "me/thesis"].files == others


def test_what_is_not_whole_or_of_another_kind_is_not_pushed(hub: fake_hub.Hub, model: Path, space: Path) -> None:
    with pytest.raises(SpectraDermError, match="static Space, not a docker one"):
        push_space(space, "me/door", "docker")
    with pytest.raises(SpectraDermError, match="not a Space"):
        push_space(model, "me/door", "static")
    (model / ONNX).write_bytes(b"altered")
    with pytest.raises(ModelFolderError, match="altered"):
        push_model(model, "me/skin")
    (space / "index.html").write_text("<script>")
    with pytest.raises(SpectraDermError, match=r"index\.html was altered"):
        push_space(space, "me/door", "static")
    assert not hub.asked


def test_what_a_licence_holds_back_is_pushed_only_by_who_says_that_he_may(hub: fake_hub.Hub, tmp_path: Path) -> None:
    ddi = {"name": "ddi", "licence": "for research", "redistributable_training": False}
    free = {"name": "scin", "licence": "free", "redistributable_training": True}
    restricted = write_model(tmp_path / "restricted", facts={"datasets": [free, ddi]})
    with pytest.raises(SpectraDermError, match=r"passed on: ddi \(for research\)\. .*--allow-restricted"):
        push_model(restricted, "me/skin")
    done = call("deploy", restricted, "--target", "static", "--out", tmp_path / "s", "--push", "--repo-id", "me/door")
    assert (done.code, "--allow-restricted" in done.err) == (2, True)
    assert not hub.asked
    assert call("push", restricted, "--repo-id", "me/skin", "--allow-restricted").code == 0
    push_model(write_model(tmp_path / "free", facts={"datasets": [free]}), "me/free")
    assert hub.repos.keys() == {("model", "me/skin"), ("model", "me/free")}


@pytest.mark.parametrize("name", ["skin", "me/a/b", "", "me/..", "me/my model", "me/-x-", "/skin"])
def test_a_malformed_name_is_one_line(hub: fake_hub.Hub, model: Path, name: str) -> None:
    with pytest.raises(SpectraDermError, match=r"\A.*name.*\Z"):
        push_model(model, name)
    assert not hub.repos


def test_who_has_no_good_token_changes_nothing(hub: fake_hub.Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpectraDermError, match=r"401.*hf auth login") as caught:
        push_model(model, "me/skin", token="stale")
    assert "stale" not in str(caught.value)
    with pytest.raises(SpectraDermError, match=r"others/skin.*403.*of your own"):
        push_model(model, "others/skin")
    monkeypatch.delenv("HF_TOKEN")
    hub.asked.clear()
    with pytest.raises(SpectraDermError, match="hf auth login"):
        push_model(model, "me/skin")
    assert not hub.asked
    assert not hub.repos
    push_model(model, "me/skin", token=fake_hub.TOKEN)


@pytest.mark.parametrize(
    ("where", "status", "says"),
    [("create", 500, "later"), ("create", 402, "money"), ("commit", 409, "again"), ("commit", 412, "again"),
     ("commit", 403, "may write"), ("preupload", 413, "larger"), ("/store/", 403, "may write"), ("batch", 404, "name")],
)  # fmt: skip
def test_a_refusal_on_the_way_is_one_line_and_changes_nothing(
    hub: fake_hub.Hub, model: Path, where: str, status: int, says: str
) -> None:
    hub.fails[where] = status
    with pytest.raises(SpectraDermError, match=rf"\A.*me/skin with {status}.*\Z") as caught:
        push_model(model, "me/skin")
    assert says in caught.value.remedy
    assert all(repo.commits == 0 for repo in hub.repos.values())


def test_a_readme_that_the_hub_does_not_take(hub: fake_hub.Hub, tmp_path: Path) -> None:
    write_space(tmp_path / "space", Space("static", {"README.md": README.replace("gray", "mauve").encode()}))
    with pytest.raises(SpectraDermError, match=r"400|Invalid metadata"):
        push_space(tmp_path / "space", "me/door", "static")
    assert hub.repos["space", "me/door"].commits == 0


def test_without_a_hub_or_what_uploads(model: Path, hub: fake_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SpectraDermError, match=r"\A.*does not answer.*Check the connection.*\Z"):
        push_model(model, "me/skin")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"\[hub\]"):
        push_model(model, "me/skin")
