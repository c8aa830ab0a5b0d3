"""The page: as files that a server hands out, or as a static site on which the photo never leaves the device.

One page, two engines. On a server the page sends photos to `POST /predict`; on a static site it runs the model itself,
needs no other host than the one that gave it away, and after the first visit not even that one.
"""

import html
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from spectraderm.core.files import sha256
from spectraderm.images.decoding import MAX_BYTES
from spectraderm.inference.model_folder import CARD, ModelFolder
from spectraderm.inference.prediction import ADAPT, JUDGED, MEND, experience
from spectraderm.serving.content import WORDS, in_words
from spectraderm.serving.spaces.runtime import WASM, runtime

_PACKAGE = Path(str(resources.files("spectraderm.serving")))
STATIC = _PACKAGE / "static"
"""What `make web` builds from `web/`: the page's scripts, its looks and its frame."""


def page_files(
    model: ModelFolder,
    megabytes: float = 16,
    engine: Literal["server", "browser"] = "server",
    address: str = "",
    **more: object,
) -> dict[str, bytes]:
    """The page of a model, each file by its address below `/`; `index.html` is that of `/` itself.

    Args:
        model: what its facts are taken from.
        megabytes: the most that a photo may have.
        engine: what answers: `POST predict?heatmap=true` of the server that hands out the page, or the page itself.
        address: where it will lie, ending in `/`, so that links to it show its picture; empty where that is unknown.
        more: what an engine in the browser needs to know beside.
    """
    known = WORDS["conditions"]
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir())}
    files |= {f"examples/{path.name}": path.read_bytes() for path in sorted((_PACKAGE / "examples").iterdir())}
    facts: dict[str, Any] = {
        "engine": engine,
        "max_bytes": int(megabytes * 1_000_000),
        "model_id": model.model_id,
        "labels": model.labels,
        "display_names": model.display_names,
        "conditions": {
            label: next((one for one in known if one["match"] in label.lower()), None) for label in model.conditions
        },
        "preprocessing": asdict(model.preprocessing),
        "words": {key: text for key, text in WORDS.items() if key != "conditions"},
        "judged": JUDGED,
        "paintings": [name for name in files if name.startswith("examples/")],
        **more,
    }
    files["model/model.json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    words = WORDS["page"] | {f"doctor_{name}": text for name, text in WORDS["doctor"].items()}
    words |= {"notice": WORDS["notice"], "privacy": WORDS["privacy"][engine], "model_id": model.model_id}
    words["address"] = address or "./"
    words["experience"] = experience(model.facts["calibration"])
    measured = model.calibrations.elsewhere is not None
    words |= {"mend": words["adapt"], "command": ADAPT} if measured else {"command": MEND}
    words["formats"] = ",image/tiff" if engine == "server" else ""  # what no browser decodes
    counts = {
        "count": in_words(len(model.conditions)),
        "photos": str(len(model.references)),
        "megabytes": f"{megabytes:g}",
    }
    index = files["index.html"].decode()
    for name, text in (words | counts).items():  # filled in here, so that they are there before any script runs
        index = index.replace(f"{{{name}}}", html.escape(text))
    return files | {"index.html": index.encode()}


def site_files(model: ModelFolder, address: str = "") -> dict[str, bytes]:
    """The static site of a model, which will lie at `address`, each file by its path below the site.

    The first time it takes a connection to the npm registry, and half a minute.

    Raises:
        MissingExtra: npm is not installed.
        RuntimeDownloadError: npm can't download what runs the model.
    """
    network = {
        "model.onnx": model.network,
        "references.bin": model.references.astype("<f2").tobytes(),
        "training_photos.bin": model.training_hashes.tobytes(),
    }
    parts = runtime()
    large = {f"model/{name}": data for name, data in network.items()} | {f"runtime/{WASM}": parts[WASM]}
    sums = {name: sha256(data) for name, data in large.items()}
    of_model: dict[str, Any] = {"calibration": model.calibrations.to_dict()}
    of_model |= {"sha256": {Path(name).name: digest for name, digest in sums.items()}}
    of_model |= {"bytes": sum(map(len, large.values()))}
    page = page_files(model, MAX_BYTES / 1e6, "browser", address, **of_model)
    files = page | large
    files |= {f"model/{name}": model.files[name] for name in (CARD, "NOTICE") if name in model.files}
    files |= {f"runtime/{name}": data for name, data in parts.items()}
    version = sha256(json.dumps({name: sha256(data) for name, data in sorted(files.items())}).encode())[:16]
    kept = [name for name in sorted(files) if name != "sw.js"]
    files["sw.js"] = (
        f"const SITE={json.dumps({'version': version, 'files': kept, 'sha256': sums})};".encode() + files["sw.js"]
    )
    return files
