"""The README of a Space: the front matter that the Hub reads, and in short what the Space is."""

import re
import sys
from importlib import resources
from string import Template
from typing import Any

from spectraderm.core import of_hub
from spectraderm.core.printable import json_text, markdown
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import experience
from spectraderm.serving.content import WORDS

PORT = 7860
"""Where Spaces listen."""
SHORT = "Names the likeliest skin conditions, and how sure it is"
"""At most 60 characters, or the Hub refuses it."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Which Python a Space gets: the one whose packages were pinned."""

_ISOLATED = {  # threads in WebAssembly need it
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}
_RUN = {
    "gradio": "pip install -r requirements.txt\npython app.py",
    "docker": "docker build -t spectraderm .\n"
    "docker run --rm -p 7860:7860 --read-only --tmpfs /tmp --cap-drop ALL spectraderm",
    "static": "python -m http.server",
}

_LIMITS = {
    "gradio": """

## What this app does not promise

Gradio takes the photos here, not the server of `spectraderm serve`, and little of what that server promises holds. An
upload lies in a file, under the name that it came with, for up to eleven minutes, and whoever knows its address can
read it. Pages of every origin may call the app. Only the size of a file is bounded: not how many come at once, how
slowly, or how long one may take; and an answer under way is lost when the app ends. `--target docker` is the server
with all of that; on a static Space the photo never leaves the device."""
}


def readme(model: ModelFolder, title: str, target: str, gradio: str) -> bytes:
    """The README of a Space.

    Args:
        model: what the Space is about.
        title: of the Space.
        target: the kind of Space: `gradio`, `docker` or `static`.
        gradio: the version of Gradio that a Gradio Space gets.
    """
    template = (resources.files("spectraderm.serving.spaces") / "templates" / "README.md").read_text(encoding="utf-8")
    hardware = {"suggested_hardware": "cpu-basic"}
    of_target: dict[str, dict[str, Any]] = {
        "gradio": {"sdk_version": gradio, "python_version": PYTHON, "app_file": "app.py", **hardware},
        "docker": {"app_port": PORT, **hardware},
        "static": {"app_file": "index.html", "custom_headers": _ISOLATED},
    }
    front = {  # keys of the Hub's configuration reference; written as JSON, each value is YAML too
        "title": title,
        "emoji": "🔎",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": target,
        **of_target[target],
        "pinned": False,
        **_licence(model.card),
        "short_description": SHORT,
        **({"models": [of_hub(model.hub)[0]]} if model.hub else {}),
        "tags": ["dermatology", "skin", "image-classification", "calibrated", "onnx"],
    }
    measured = re.search(r"^## How good it is\n+(.+?)(?:\n\n|\n#|\Z)", model.card, re.DOTALL | re.MULTILINE)
    text = Template(template).substitute(
        front="\n".join(f"{key}: {json_text(value)}" for key, value in front.items()),
        title=markdown(title),
        notice=WORDS["notice"],
        conditions=", ".join(markdown(model.display_names[label]) for label in model.conditions),
        model_id=model.model_id,
        measured=_as_text(measured[1]) if measured else "Its model card says nothing of that: expect nothing of it.",
        experience=experience(model.facts["calibration"]),
        privacy=WORDS["privacy"][{"static": "browser", "docker": "server"}.get(target, target)],
        limits=_LIMITS.get(target, ""),
        now=WORDS["doctor"]["now"],
        soon=WORDS["doctor"]["soon"],
        run=_RUN[target],
    )
    return text.encode()


def _as_text(card: str) -> str:
    """A paragraph of a model card, which anybody may have written, as text without bold, links, pictures and HTML."""
    return markdown(re.sub(r"\\([!-/:-@[-`{-~])", r"\1", card.replace("**", "")))


def _licence(card: str) -> dict[str, str]:
    """The model's licence, from the front matter of its card; this package's own where it names none."""
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    licence = dict(
        re.findall(r"^(license|license_name|license_link): *(\S+) *$", front[1] if front else "", re.MULTILINE)
    )
    if link := licence.get("license_link"):
        licence["license_link"] = link if ":" in link else f"model/{link}"
    return licence if "license" in licence else {"license": "apache-2.0"}
