"""The README of a Space: the front matter that the Hub reads, and in short what the Space is."""

import json
import re
import sys
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from spectraderm.inference.model_folder import ModelFolder
from spectraderm.serving.content import WORDS

PORT = 7860
"""Where Spaces listen."""
SHORT = "Names a skin condition, or says that it can't tell"
"""At most 60 characters, or the Hub refuses it."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Which Python a Space gets: the one whose packages were pinned."""

_ISOLATED = {  # threads in WebAssembly need it
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}
_PRIVACY = {"static": "Your photo never leaves your device: the model comes to your browser."}
_RUN = {
    "gradio": "pip install -r requirements.txt\npython app.py",
    "docker": "docker build -t spectraderm .\n"
    "docker run --rm -p 7860:7860 --read-only --tmpfs /tmp --cap-drop ALL spectraderm",
    "static": "python -m http.server",
}


def readme(model: ModelFolder, title: str, target: str, gradio: str = "") -> bytes:
    """The README of a Space of a kind with a model; `gradio` is the version of a Gradio Space."""
    template = (resources.files("spectraderm.serving.spaces") / "templates" / "README.md").read_text(encoding="utf-8")
    front = _front(model, title, target, gradio)
    text = Template(template).substitute(
        front="\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()),
        title=title,
        notice=WORDS["notice"],
        conditions=", ".join(model.display_names.values()),
        model_id=model.model_id,
        measured=_measured(model.card),
        privacy=_PRIVACY.get(target, WORDS["privacy"]),
        now=WORDS["doctor"]["now"],
        soon=WORDS["doctor"]["soon"],
        run=_RUN[target],
    )
    return text.encode()


def _front(model: ModelFolder, title: str, target: str, gradio: str) -> dict[str, Any]:
    """By key of the Hub's Spaces configuration reference; written as JSON, each value is YAML too."""
    of_target: dict[str, dict[str, Any]] = {
        "gradio": {"sdk_version": gradio, "python_version": PYTHON, "app_file": "app.py"},
        "docker": {"app_port": PORT},
        "static": {"app_file": "index.html", "custom_headers": _ISOLATED},
    }
    return {
        "title": title,
        "emoji": "🔎",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": target,
        **of_target[target],
        **({} if target == "static" else {"suggested_hardware": "cpu-basic"}),
        "pinned": False,
        **_licence(model.card),
        "short_description": SHORT,
        **({"models": [model.hub]} if model.hub else {}),
        "tags": ["dermatology", "skin", "image-classification", "calibrated", "onnx"],
    }


def _licence(card: str) -> Mapping[str, str]:
    """The model's, from the front matter of its card; this package's own where it names none."""
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    said = dict(re.findall(r"^(license|license_name|license_link): *(\S+) *$", front[1] if front else "", re.MULTILINE))
    if "license" not in said:
        return {"license": "apache-2.0"}
    link = said.get("license_link", "")
    return said | ({"license_link": f"model/{link}"} if link and ":" not in link else {})


def _measured(card: str) -> str:
    """The first paragraph of the model card's own answer to how good it is."""
    found = re.search(r"^## How good it is\n+(.+?)(?:\n\n|\n#|\Z)", card, re.DOTALL | re.MULTILINE)
    return found[1] if found else "Its model card says nothing of that: expect nothing of it."
