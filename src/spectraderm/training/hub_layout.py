"""A trained network -> the files that transformers opens it by, in the layout of the Hugging Face Hub."""

import json
from importlib import resources

from safetensors.torch import save

from spectraderm.core.files import json_bytes
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.model_folder import MODEL_CONFIG, MODELING, PREPROCESSOR, WEIGHTS
from spectraderm.training.network import SkinResNet
from spectraderm.training.pooling import SkinNetwork

_AUTO, _CLASS = "AutoModelForImageClassification", "SpectraDermForImageClassification"
_MODEL_TYPE = 'CONFIG_MAPPING["resnet"]'


def hub_files(network: SkinNetwork, preprocessing: Preprocessing, weights: bool = True) -> dict[str, bytes]:
    """`config.json`, `preprocessor_config.json` and, with `weights`, `model.safetensors`.

    Where plain transformers would compute something else from these, a file of code is among them, which it runs where
    it is told to trust it.
    """
    config = network.config.to_diff_dict()
    files = {}
    if weights:
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        files[WEIGHTS] = save(state, metadata={"format": "pt"})
        if not is_plain(network):
            config |= {"architectures": [_CLASS], "auto_map": {_AUTO: f"{MODELING.removesuffix('.py')}.{_CLASS}"}}
            layers = network.layers
            config |= {"feature_width": network.width, "without_pooler": getattr(layers, "pooler", layers) is None}
            code = (resources.files("spectraderm.training") / MODELING).read_text(encoding="utf-8")
            files[MODELING] = code.replace(_MODEL_TYPE, f"CONFIG_MAPPING[{json.dumps(config['model_type'])}]").encode()
    return {MODEL_CONFIG: json_bytes(config), PREPROCESSOR: json_bytes(preprocessing.to_hub()), **files}


def is_plain(network: SkinNetwork) -> bool:
    """Whether it computes what transformers' own `ResNetForImageClassification` does."""
    settings = network.config
    return (
        isinstance(network, SkinResNet)
        and network.linear_head is not None
        and not network.with_statistics
        and tuple(network.test_transforms) == ("whole",)
        and getattr(settings, "pool_padding", "both") == "both"
    )
