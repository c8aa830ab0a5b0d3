"""PyTorch as a trained hand writes it: Pillow, a DataLoader, batches, channels last; run in an environment of its own.

    python torch_loop.py predict PHOTOS MODEL
    python torch_loop.py first PHOTO MODEL
    python torch_loop.py large PHOTO MODEL

MODEL is what `transformers_pipeline.py write` wrote. Photos are squashed to 224x224, as ours are. A loop of fastai does
the same; fastai itself needs torchvision. Prints a JSON line; times are seconds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import ResNetForImageClassification

SIZE, BATCH, WORKERS, TIMES = 224, 32, 2, 10
MEAN, DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


class Photos(Dataset[torch.Tensor]):
    """Photo files, each as `float32[3, 224, 224]`."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        """How many there are."""
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        """One of them."""
        image = Image.open(self.paths[number]).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32) / 255
        return torch.from_numpy((pixels - MEAN) / DEVIATION).permute(2, 0, 1)


def main() -> None:
    """Do what was asked."""
    mode, what, folder = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    model: Any = ResNetForImageClassification.from_pretrained(folder)
    model.eval().to(memory_format=torch.channels_last)

    def answer(batch: torch.Tensor) -> Any:  # noqa: ANN401
        with torch.inference_mode():
            scores = model(batch.contiguous(memory_format=torch.channels_last)).logits.softmax(1)
        return scores.argmax(1).tolist()

    if mode != "predict":
        taken = []
        for _ in range(1 if mode == "first" else 1 + TIMES):
            start = time.perf_counter()
            said = answer(Photos([what])[0][None])
            taken.append(time.perf_counter() - start)
        print(json.dumps({"said": said} if mode == "first" else {"answers": taken[1:]}), flush=True)
        return
    photos = Photos(sorted(path for path in what.rglob("*") if path.is_file()))
    ready = time.perf_counter()
    for batch in DataLoader(photos, BATCH, num_workers=WORKERS):  # before torch has threads, which a fork would lose
        answer(batch)
    together = time.perf_counter()
    for number in range(len(photos)):
        answer(photos[number][None])
    single = time.perf_counter()
    print(json.dumps({"one_by_one": single - together, "together": together - ready, "photos": len(photos)}))


if __name__ == "__main__":
    main()
