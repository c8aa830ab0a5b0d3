"""A trained network -> an ONNX file that computes in 8-bit integers, with its statistics and head left in floats.

Static post-training quantisation (Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference"): activations unsigned, a scale for each layer found on photos; weights signed, a
scale for each channel. In ONNX's QDQ form, which ONNX Runtime and OpenVINO turn into integer kernels.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, from_numpy

from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference.engine import INPUT
from spectraderm.training.equalising import equalise
from spectraderm.training.graph import to_onnx
from spectraderm.training.network import Normalise, SkinResNet
from spectraderm.training.rounding import folded, round_weights

PHOTOS = 64
"""How many photos activations are measured on, and weights rounded for."""

_QUANTISED = ("Conv", "Relu", "MaxPool", "Add")


def to_int8(network: SkinResNet, preprocessing: Preprocessing, pixels: Pixels) -> bytes:
    """The network as `graph.to_onnx` exports it, but in 8-bit integers down to the maps of its last stages.

    Args:
        network: in eval mode, on the CPU.
        preprocessing: how photos become its input.
        pixels: training photos `uint8[n, s, s, 3]`, of which the first `PHOTOS` are used.
    """
    pixels = np.ascontiguousarray(pixels[:PHOTOS])
    network = folded(network)
    photos = Normalise(preprocessing)(from_numpy(pixels))
    equalise(network, photos)
    steps = round_weights(network, photos)
    model = onnx.load_from_string(to_onnx(network, preprocessing))
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # no batch norm is left to fold
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            _Photos(pixels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(_QUANTISED),
            extra_options={"TensorQuantOverrides": _grids(steps)},
        )
        quantised = onnx.load(path)
    del quantised.metadata_props[:]
    data: bytes = quantised.SerializeToString()
    return data


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    """One photo after the other."""

    def __init__(self, pixels: Pixels) -> None:
        self._photos = iter(pixels)

    def get_next(self) -> dict[str, Pixels] | None:
        """The next photo, or None."""
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: photo[None]}


def _grids(steps: dict[str, Tensor]) -> dict[str, list[dict[str, object]]]:
    """The grids of rounded weights, in the words of ONNX Runtime's quantiser."""
    kind = {"quant_type": QuantType.QInt8, "axis": 0}
    return {
        f"network.{name}.weight": [
            {"scale": np.array(step, np.float32), "zero_point": np.array(0, np.int8), **kind} for step in own.numpy()
        ]
        for name, own in steps.items()
    }
