"""A model folder -> a static site on which the photo never leaves the device: the model runs in the browser.

Any web server can give it away, as files; it needs no other host, and after the first visit not even that one.
"""

import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.images.preprocessing import MAX_BYTES
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.serving.content import WORDS, condition
from spectraderm.serving.spaces.runtime import runtime

_EXAMPLES = Path(str(resources.files("spectraderm.serving") / "examples"))
STATIC = Path(str(resources.files("spectraderm.serving") / "static"))
"""What `npm run build` makes of `web/`: the page's scripts, its looks, and its frame."""
SITE = "site.json"
"""The file that tells such a site from any other folder: its version, its model, and every file's SHA-256."""


class SiteError(SpectraDermError):
    """The site can't be written there."""


def build_site(model: str | Path | None, out: Path) -> None:
    """Write the site of a model to `out`, whole or not at all; an older site there is replaced.

    The first time it takes a connection to the npm registry, and a minute.

    Raises:
        ModelFolderError: no model folder, or a damaged one.
        SiteError: `out` holds something that is not such a site.
        MissingExtra: npm is not installed.
        RuntimeDownloadError: npm can't download what the page needs.
    """
    _refuse_other(out)
    folder = open_model(model)  # in floats: in integers browsers round otherwise than processors do
    files = _model(folder) | _paintings() | {f"runtime/{name}": data for name, data in runtime().items()}
    facts = json.loads(files["model/model.json"])
    files |= {path.name: path.read_bytes() for path in STATIC.iterdir()}
    files["index.html"] = _index(files["index.html"].decode(), facts).encode()
    sums = {name: artifacts.sha256(data) for name, data in sorted(files.items())}
    version = artifacts.sha256(json.dumps(sums).encode())[:16]
    kept = [name for name in sums if name != "sw.js"]
    files["sw.js"] = f"const SITE={json.dumps({'version': version, 'files': kept})};".encode() + files["sw.js"]
    sums["sw.js"] = artifacts.sha256(files["sw.js"])
    about = {"spectraderm_site": version, "model_id": facts["model_id"], "sha256": sums}
    artifacts.write_folder(out, files | {SITE: artifacts.json_bytes(about)})


def _model(folder: ModelFolder) -> dict[str, bytes]:
    """What the page needs of a model folder, in forms that it reads without a library."""
    Classifier(folder)  # raises where its files do not belong together
    files = {
        "model.onnx": folder.network,
        "references.bin": folder.references.astype("<f2").tobytes(),
        "training_photos.bin": folder.training_hashes.tobytes(),
    }
    preprocessing = folder.preprocessing
    facts = {
        "model_id": folder.model_id,
        "labels": folder.labels,
        "display_names": folder.display_names,
        "conditions": {label: condition(label) for label in folder.labels},
        "calibration": folder.calibration.to_dict(),
        "preprocessing": {name: getattr(preprocessing, name) for name in ("size", "resize", "crop_fraction")},
        "words": {key: text for key, text in WORDS.items() if key != "conditions"},
        "paintings": sorted(_paintings()),
        "sha256": {name: artifacts.sha256(data) for name, data in files.items()},
    }
    files["model.json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    files |= {name: folder.files[name] for name in ("NOTICE",) if name in folder.files}
    return {f"model/{name}": data for name, data in files.items()}


def _paintings() -> dict[str, bytes]:
    """Painted photos to try."""
    return {f"examples/{path.name}": path.read_bytes() for path in _EXAMPLES.glob("*.jpg")}


def _index(page: str, facts: Mapping[str, Any]) -> str:
    """The page with its words filled in, so that they are there before any script runs."""
    own = WORDS["page"] | {"lead": WORDS["page"]["lead"].format(count=len(facts["labels"]))}
    own |= {"hint": own["hint"].format(megabytes=MAX_BYTES // 1_000_000), "notice": WORDS["notice"]}
    own |= {f"doctor_{name}": text for name, text in WORDS["doctor"].items()} | {"model_id": facts["model_id"]}
    for name, text in own.items():
        page = page.replace(f"{{{name}}}", html.escape(text))
    return page


def _refuse_other(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    try:
        ours = "spectraderm_site" in json.loads((out / SITE).read_bytes())
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours and (out.exists() or out.is_symlink()):
        raise SiteError(f"{out} is there already, and is not a site that SpectraDerm wrote", "Give another folder")
