"""What is fetched from elsewhere is named exactly: packages by hash, what the Hub has by revision."""

import ast
from pathlib import Path

import pytest
from dependencies import is_installed, locked, needed

ROOT = Path(__file__).parents[1]
OF_THE_HUB = {
    "create_commit", "from_pretrained", "hf_hub_download", "list_repo_files", "load_dataset", "model_info", "repo_info",
    "snapshot_download", "upload_file", "upload_folder",
}  # fmt: skip


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt", "constraints-build.txt"])
def test_every_package_has_a_version_and_hashes(name: str) -> None:
    assert locked(ROOT / name)


@pytest.mark.parametrize("name", ["constraints", "constraints-oldest"])
def test_what_ci_installs_is_all_there_is(name: str) -> None:
    (line,) = [line for line in (ROOT / f"{name}-torch.txt").read_text().splitlines() if not line.startswith("#")]
    assert line.startswith("torch==")
    versions = locked(ROOT / f"{name}.txt")
    assert not is_installed(versions) or needed("dev", besides="torch") <= versions.keys()


def test_every_call_that_asks_the_hub_names_a_revision() -> None:
    nodes = [(file, node) for file in (ROOT / "src").rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    calls = [(file, node) for file, node in nodes if isinstance(node, ast.Call) and called(node) in OF_THE_HUB]
    assert len(calls) >= 7
    assert [file for file, call in calls if "revision" not in {word.arg for word in call.keywords}] == []


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
