"""The Hugging Face Hub: whether it answers, and what is here already. The only part that asks the network."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path
from threading import Thread
from typing import IO
from urllib.parse import urlsplit

from spectraderm.cli.doctor.fact import Fact, State
from spectraderm.cli.doctor.packages import installed

THEME = "Hugging Face Hub"
_ENDPOINT = "https://huggingface.co"
_SECONDS = 3.0
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = {"1", "on", "yes", "true"}
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
NOT_ASKED = "not asked"


def hub(answer: str) -> Iterator[Fact]:
    """What there is to say of it. `answer` is what `reach` gave."""
    yield connection(answer, bool(installed("huggingface-hub")))
    yield token()


def connection(answer: str, used: bool) -> Fact:
    """Whether it answers. That it does not is a matter only where something is installed that asks it: `used`."""
    name, told = "connection", f"{shown(endpoint())}: {answer or 'answers'}"
    if not answer:
        return Fact(THEME, name, told)
    if answer.startswith(NOT_ASKED) or not used:
        return Fact(THEME, name, told, State.absent)
    remedy = "Check the connection and HF_ENDPOINT; predictions and --backbone open-nsfw-thin need none"
    return Fact(THEME, name, told, State.warning, remedy)


def endpoint() -> str:
    """Where the Hub is, by `HF_ENDPOINT`."""
    return os.environ.get("HF_ENDPOINT") or _ENDPOINT


def shown(address: str) -> str:
    """An address without the name and password that may stand in it."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def reach(offline: bool) -> str:
    """Ask the Hub for its headers. Empty where it answers, else why not; `NOT_ASKED` where we were told not to.

    Takes three seconds at most: looking up a name has no limit of its own, so a thread is left behind with it.
    """
    told = "--offline" if offline else next((name for name in _OFFLINE if _true(name)), "")
    if told:
        return f"{NOT_ASKED} ({told})"
    if urlsplit(endpoint()).scheme not in ("http", "https"):
        return "no address of the web"
    said = [f"no answer in {_SECONDS:g} s"]
    thread = Thread(target=lambda: said.insert(0, _head(shown(endpoint()))), daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return said[0]


def token() -> Fact:
    """Whether one is set. It is never read further than that."""
    name = next((name for name in _TOKENS if os.environ.get(name)), "")
    file = Path(os.environ.get("HF_TOKEN_PATH") or home() / "token")
    try:
        where = name or (str(file) if file.stat().st_size else "")
    except OSError:
        where = ""
    if where:
        return Fact(THEME, "token", f"set ({where})")
    return Fact(THEME, "token", "none: enough for all but push and private models", State.absent, "hf auth login")


def home() -> Path:
    """Where the Hub's own programs keep things."""
    return Path(os.environ.get("HF_HOME") or _caches() / "huggingface").expanduser()


def downloaded(name: str) -> Path | None:
    """Where the weights of a model `owner/name` are on this machine, whole; or None."""
    kept = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home() / "hub")
    model = kept.expanduser() / f"models--{name.replace('/', '--')}"
    try:
        folder = model / "snapshots" / (model / "refs" / "main").read_text(encoding="utf-8").strip()
        weights = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin") and path.exists()]
    except (OSError, ValueError):
        return None
    return folder if weights and (folder / "config.json").exists() else None


def _caches() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        return Path("/nonexistent")


def _true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _TRUE


class _Stay(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an answer."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Ask nobody else."""


def _head(address: str) -> str:
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "spectraderm"})  # noqa: S310
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 400 else f"answers HTTP {error.code}"
    except urllib.error.URLError as error:
        return getattr(error.reason, "strerror", None) or str(error.reason)
    except Exception as error:  # a thread has nobody to raise to
        return repr(error)
