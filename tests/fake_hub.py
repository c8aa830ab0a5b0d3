"""A Hugging Face Hub of one's own: the part of its HTTP API that uploads and downloads use, on a port of localhost.

As the real one it takes a commit as NDJSON, wants large files by LFS first, checks their SHA-256, and refuses a README
whose front matter breaks its rules. Whose token is `good` may write what `me` owns.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from conftest import listening
from huggingface_hub import constants

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = {"cpu-basic", "cpu-upgrade"}
TOKEN = "good"
LARGE = (".onnx", ".npy", ".safetensors")


def front_matter(readme: str) -> dict[str, Any]:
    """Of a README; empty where it has none."""
    found = re.match(r"---\n(.*?)\n---\n", readme, re.DOTALL)
    content: dict[str, Any] = yaml.safe_load(found[1]) if found else {}
    return content


def wrong_in(readme: str, kind: str) -> list[str]:
    """What the Hub has against a README: its reference of the front matter of Spaces, as checks."""
    if kind != "space":
        return []
    front = front_matter(readme)
    checks = {
        "sdk": front.get("sdk") in {"gradio", "docker", "static"},
        "title": isinstance(front.get("title"), str),
        "colours": {front.get("colorFrom"), front.get("colorTo")} <= COLOURS,
        "short_description": len(front.get("short_description", "")) <= 60,
        "emoji": len(front.get("emoji", "")) == 1 and not front["emoji"].isascii(),
        "sdk_version": front.get("sdk") != "gradio" or bool(re.fullmatch(r"\d+\.\d+\.\d+", front["sdk_version"])),
        "python_version": bool(re.fullmatch(r"3\.\d+", front.get("python_version", "3.10"))),
        "suggested_hardware": front.get("suggested_hardware", "cpu-basic") in HARDWARE,
        "app_port": isinstance(front.get("app_port", 7860), int),
        "license": front.get("license") != "other" or "license_name" in front,
        "custom_headers": {name.removeprefix("cross-origin-") for name in front.get("custom_headers", {})}
        <= {"embedder-policy", "opener-policy", "resource-policy"},
    }
    return [name for name, right in checks.items() if not right]


@dataclass
class Repo:
    """A repository: its files, and how many of its commits were uploads."""

    private: bool = False
    sdk: str | None = None
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.onnx filter=lfs"})
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(str((self.commits, sorted(self.files))).encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """The server. `fails` says which status to answer where a request's path has that part."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fails: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Refused(Exception):
    """An answer that is an error."""


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        body = self._body()
        self.server.asked.append(f"{self.command} {path}")
        status = next((status for part, status in self.server.fails.items() if part in path), 200)
        try:
            if status != 200:
                raise Refused(status, "as the test wants")
            self._route(path, body)
        except Refused as refusal:
            status, said = refusal.args
            self._send({"error": said, "errors": [{"message": said}]}, status, {"X-Error-Message": said})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            content = json.loads(body)
            wrong = wrong_in(content["content"], content["repoType"])
            return self._send({"errors": [{"message": one} for one in wrong]}, 400 if wrong else 200)
        if found := re.fullmatch(r"/store/(\w{64})", path):
            if hashlib.sha256(body).hexdigest() != found[1]:
                raise Refused(400, "the SHA-256 is another")
            self.server.large[found[1]] = body
            return self._send({})
        if re.fullmatch(r"/.+\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if found := re.fullmatch(r"/api/(model|space)s/([^/]+/[^/]+)(?:/(\w+)/(.+?))?", path):
            return self._of_repo(found[1], found[2], found[3] or "revision", body)
        if found := re.fullmatch(r"/(spaces/)?([^/]+/[^/]+)/resolve/\w+/(.+)", path):
            repo = self._repo("space" if found[1] else "model", found[2])
            if found[3] not in repo.files:
                raise Refused(404, f"no {found[3]}")
            etag = f'"{hashlib.sha256(repo.files[found[3]]).hexdigest()}"'
            return self._send(repo.files[found[3]], headers={"ETag": etag, "X-Repo-Commit": repo.sha})
        raise Refused(404, f"no such path: {path}")

    def _create(self, asked: dict[str, Any]) -> None:
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        self._may_write(name)
        if (kind, name) in self.server.repos:
            return self._send({"url": self._page(kind, name), "error": "is there already"}, 409)
        self.server.repos[kind, name] = Repo(asked.get("visibility") == "private", asked.get("sdk"))
        return self._send({"url": self._page(kind, name)})

    def _of_repo(self, kind: str, name: str, what: str, body: bytes) -> None:
        repo = self._repo(kind, name)
        if what == "revision":
            names = [{"rfilename": file} for file in repo.files]
            return self._send({"id": name, "sha": repo.sha, "private": repo.private, "siblings": names})
        if what == "tree":
            return self._send([self._entry(file, data) for file, data in repo.files.items()])
        self._may_write(name)
        if what == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            return self._send({"files": [
                {"path": file, "uploadMode": "lfs" if file.endswith(LARGE) else "regular", "shouldIgnore": False}
                for file in files
            ]})  # fmt: skip
        return self._commit(repo, self._page(kind, name), [json.loads(line) for line in body.splitlines()])

    def _commit(self, repo: Repo, page: str, lines: list[dict[str, Any]]) -> None:
        header, *operations = lines
        if header["value"].get("parentCommit") != repo.sha:
            raise Refused(412, "a commit came between")
        files = dict(repo.files)
        for line in operations:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                del files[value["path"]]
        repo.files, repo.commits = files, repo.commits + 1
        self._send({"success": True, "commitOid": repo.sha, "commitUrl": f"{page}/commit/{repo.sha}"})

    def _batch(self, asked: dict[str, Any]) -> None:
        store = f"{self.server.url}/store"
        objects = [{**one, "actions": {"upload": {"href": f"{store}/{one['oid']}"}}} for one in asked["objects"]]
        self._send({"transfer": "basic", "objects": objects})

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _repo(self, kind: str, name: str) -> Repo:
        try:
            return self.server.repos[kind, name]
        except KeyError:
            raise Refused(404, f"no {kind} {name}") from None

    def _may_write(self, name: str) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Invalid username or password")
        if not name.startswith("me/"):
            raise Refused(403, "You don't own that namespace")

    def _page(self, kind: str, name: str) -> str:
        return f"{self.server.url}/{'spaces/' if kind == 'space' else ''}{name}"

    def _send(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, cache: str) -> Iterator[Hub]:
    """A Hub that huggingface_hub takes for the real one, with a token of `me` at hand."""
    hub = Hub()
    changes = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": cache,
        "HF_TOKEN_PATH": f"{cache}/no-token",
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }
    for name, value in changes.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with listening(hub):
        yield hub
