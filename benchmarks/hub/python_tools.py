"""What Optimum and transformers make of a model folder; `benchmarks/hub.py` calls it with a task, JSON.

`transformers` reads `model.safetensors`, and with it the code of the folder; Optimum reads `onnx/model.onnx`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image, ImageOps

TRUSTED = {"trust_remote_code": True}


def main() -> None:
    """Print a JSON list, an entry for each tool that can open the folder."""
    task = json.loads(Path(sys.argv[1]).read_text())
    folder = task["folder"]
    results = []
    try:
        from optimum.onnxruntime import ORTModelForImageClassification  # noqa: PLC0415
        from optimum.version import __version__ as version  # noqa: PLC0415

        results.append(ask(f"Optimum {version}", ORTModelForImageClassification.from_pretrained(folder), task))
    except ImportError:
        pass
    if (Path(folder) / "model.safetensors").is_file():
        model = transformers.AutoModelForImageClassification.from_pretrained(folder, **TRUSTED)
        results.append(ask(f"transformers {transformers.__version__}", model, task))
    print(json.dumps(results))


@torch.inference_mode()
def ask(tool: str, model: Any, task: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Logits of the same input, logits and scores of the photo files by the tool's own processor."""
    folder, photos = task["folder"], [ImageOps.exif_transpose(Image.open(path)) for path in task["photos"]]
    values = np.fromfile(task["pixel_values"], np.float32).reshape(task["shape"])
    read: Any = transformers.AutoImageProcessor
    processor = read.from_pretrained(folder)
    inputs = [processor(photo.convert("RGB"), return_tensors="pt") for photo in photos]
    opened: dict[str, Any] = {"model": model, "image_processor": processor}
    if isinstance(model, transformers.PreTrainedModel):  # by its name alone, as people type it
        opened = {"model": folder, **TRUSTED}
    classify: Any = transformers.pipeline("image-classification", **opened)
    said = [classify(path, top_k=task["classes"]) for path in task["photos"]]
    return {
        "tool": tool,
        "same": model(pixel_values=torch.from_numpy(values)).logits.tolist(),
        "own": [model(**own).logits[0].tolist() for own in inputs],
        "scores": [{entry["label"]: entry["score"] for entry in own} for own in said],
    }


if __name__ == "__main__":
    main()
