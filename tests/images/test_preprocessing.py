import importlib
import json
from typing import Any

import numpy as np
import pytest
from conftest import paint
from PIL import Image

from spectraderm.core.errors import RecipeError
from spectraderm.images.preprocessing import Preprocessing, Resize

SIZES = [(96, 72), (49, 98), (301, 203), (640, 33), (103, 107), (30, 40)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_pixels_equal_those_of_the_hub_processors(resize: Resize, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(size=224, resize=resize, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    config = json.loads(json.dumps(preprocessing.to_hub()))
    kind = config["image_processor_type"].removesuffix("ImageProcessor")
    module = importlib.import_module(f"transformers.models.{kind.lower()}.image_processing_pil_{kind.lower()}")
    theirs = getattr(module, f"{kind}ImageProcessorPil")(**config)(paint(5, size), return_tensors="np")["pixel_values"]
    pixels = preprocessing(paint(5, size))
    assert (pixels.dtype.name, pixels.shape) == ("uint8", (224, 224, 3))
    ours = (pixels / 255 - preprocessing.mean) / preprocessing.std
    assert np.abs(ours.transpose(2, 0, 1) - theirs[0]).max() < 1e-5


def test_crop_takes_the_middle_and_squash_takes_all() -> None:
    photo = Image.new("RGB", (300, 100), (255, 0, 0))
    photo.paste((0, 0, 255), (100, 0, 200, 100))
    assert (Preprocessing(size=32, resize="crop")(photo))[:, 3:-3, 2].min() == 255
    assert (Preprocessing(size=32)(photo))[16, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("preprocessing", [Preprocessing(), Preprocessing(96, "crop", 0.9, (0.1, 0.2, 0.3), (1, 2, 3))])
def test_hub_settings_come_back(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_hub(json.loads(json.dumps(preprocessing.to_hub()))) == preprocessing


@pytest.mark.parametrize(
    "change",
    [
        *({"size": size} for size in (None, 224, {}, {"height": 0}, {"height": "big"})),
        *({"image_std": std} for std in (None, [1, 1], [0, 1, 1], "abc")),
        {"image_mean": [1, 2]},
    ],
)
def test_hub_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"preprocessor_config\.json"):
        Preprocessing.from_hub(Preprocessing().to_hub() | change)
