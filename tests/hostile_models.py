"""Model folders that mean harm, written by hand: by name, how they are made and what must be answered.

Every folder lies in a new folder of the temporary one, which whoever runs them clears.
"""

import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import onnxruntime  # noqa: F401 - a child that imported it would have opened files
from conftest import paint
from handmade import PREPROCESSING, calibration, graph, model_files, write_model
from onnx import ModelProto, TensorProto, helper, numpy_helper

import spectraderm
from spectraderm.core.errors import ModelFolderError
from spectraderm.core.files import sha256
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import CARD, FACTS, HASHES, MODEL_CONFIG, NOVELTY, ONNX, PREPROCESSOR

_PHOTO = paint(1, (160, 130))
_SIGNED = (MODEL_CONFIG, PREPROCESSOR, ONNX, NOVELTY, HASHES)
_OUTSIDE = Path("/etc/hostname")


class Attack(NamedTuple):
    """What is done to a right model folder, and what it must be refused for; empty where it must answer finitely."""

    harm: Callable[[Path], object]
    refused: str = ""
    files: Mapping[str, bytes] | None = None
    facts: Mapping[str, Any] | None = None

    def build(self) -> bytes:
        """Write the folder; its path."""
        with mock.patch("os.fsync"):  # quick: nothing must last
            folder = write_model(Path(tempfile.mkdtemp()) / "model", files=self.files, facts=self.facts)
        self.harm(folder)
        return str(folder).encode()

    def call(self, data: bytes) -> str:
        """Load it and ask it about a photo."""
        said = spectraderm.load_model(data.decode(), threads=1).predict(_PHOTO)
        json.dumps(said.to_dict(), allow_nan=False)
        return said.verdict


def _nothing(folder: Path) -> None:
    """The folder is harmful as it was written."""


def _signed(refused: str, **files: bytes) -> Attack:
    names = {Path(name).stem: name for name in _SIGNED}
    return Attack(_nothing, refused, {names[name]: data for name, data in files.items()})


def _rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def _listing(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / FACTS
        facts = json.loads(path.read_bytes())
        facts["sha256"][name] = sha256(_OUTSIDE.read_bytes())
        path.write_text(json.dumps(facts))

    return harm


def _linked(name: str, target: str) -> Callable[[Path], None]:
    """A symbolic link in place of a file that is listed with the right checksum of what it leads to."""

    def harm(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        if name != FACTS:
            _listing(name)(folder)

    return harm


def _hard_linked(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"canary")
    (folder / CARD).hardlink_to(secret)
    _listing(CARD)(folder)


def _pipe(folder: Path) -> None:
    (folder / HASHES).unlink()
    os.mkfifo(folder / HASHES)


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def _lying(shape: str) -> bytes:
    """An array of three numbers that claims another shape."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': " + shape.encode() + b", }\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(24)


def put_outside(model: ModelProto, file: str, name: str = "weight") -> None:
    """Have a weight read from a file."""
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": file, "offset": "0", "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)


def put_constant_outside(model: ModelProto, file: str) -> None:
    """Have a constant, inside of a node, read from a file."""
    put_outside(model, file, "scale")
    tensor = next(entry for entry in model.graph.initializer if entry.name == "scale")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["scale"], value=tensor))
    model.graph.initializer.remove(tensor)


def _instead(model: ModelProto, output: str, *nodes: object) -> None:
    """Have `output` made by other nodes, from what made it until now, which is called `made`."""
    node = next(node for node in model.graph.node if node.output[0] == output)
    node.output[0] = "made"
    model.graph.node.extend(nodes)


def _number(model: ModelProto, name: str, value: object) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _loops(model: ModelProto) -> None:
    """Logits that are ready after 2^62 rounds."""
    value, boolean = helper.make_tensor_value_info, TensorProto.BOOL
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["n", 3])
    given = [value("i", TensorProto.INT64, []), value("on", boolean, []), state]
    nodes = [helper.make_node("Identity", ["on"], ["again"]), helper.make_node("Add", ["state", "state"], ["next"])]
    made = [value("again", boolean, []), value("next", TensorProto.FLOAT, ["n", 3])]
    body = helper.make_graph(nodes, "body", given, made)
    rounds, always = _number(model, "rounds", np.int64(2**62)), _number(model, "always", np.bool_(True))
    _instead(model, "logits", helper.make_node("Loop", [rounds, always, "made"], ["logits"], body=body))


def _custom(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    _instead(model, "logits", helper.make_node("Run", ["made"], ["logits"], domain="evil"))


def _weights(value: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = next(entry for entry in model.graph.initializer if entry.name == "weight")
        tensor.CopyFrom(numpy_helper.from_array(np.full((3, 3, 1, 1), value, np.float32), "weight"))

    return change


def _claims(model: ModelProto) -> None:
    next(entry for entry in model.graph.initializer if entry.name == "weight").dims[0] = 2**40


def _other_shape(output: str, *shape: int) -> Callable[[ModelProto], None]:
    """An output of another shape than the graph says, of zeros."""

    def change(model: ModelProto) -> None:
        name = _number(model, "shape", np.array(shape, np.int64))
        _instead(model, output, helper.make_node("ConstantOfShape", [name], [output]))

    return change


def _any_size(model: ModelProto) -> None:
    """A side that the graph does not say."""
    model.graph.input[0].type.tensor_type.shape.dim[2].Clear()


def _functions(model: ModelProto) -> None:
    """Functions that each call the next twice, 40 deep: 2^40 steps when a runtime puts them in place."""
    body = ["x"], ["y"]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    for number in range(40):
        kind, domain = (f"F{number + 1}", "own") if number < 39 else ("Relu", "")
        nodes = [helper.make_node(kind, [a], [b], domain=domain) for a, b in (("x", "m"), ("m", "y"))]
        model.functions.append(helper.make_function("own", f"F{number}", *body, nodes, opsets))
    model.opset_import.append(opsets[1])
    _instead(model, "logits", helper.make_node("F0", ["made"], ["logits"], domain="own"))


def _branches(model: ModelProto) -> None:
    value = helper.make_tensor_value_info("l", TensorProto.FLOAT, ["n", 3])
    body = helper.make_graph([helper.make_node("Identity", ["made"], ["l"])], "body", [], [value])
    holds = _number(model, "holds", np.bool_(True))
    _instead(model, "logits", helper.make_node("If", [holds], ["logits"], then_branch=body, else_branch=body))


def _sparse(model: ModelProto) -> None:
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    values = numpy_helper.from_array(np.ones(1, np.float32), "bomb")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def _plus_mean(model: ModelProto, of: str, *nodes: object) -> None:
    """Logits plus the mean of a tensor, which these nodes make."""
    mean = helper.make_node("ReduceMean", [of], ["mean"], keepdims=0)
    _instead(model, "logits", *nodes, mean, helper.make_node("Add", ["made", "mean"], ["logits"]))


def _doubles(model: ModelProto, axis: int, *, constant: bool) -> None:
    """A tensor joined to itself, 40 times over."""
    names = [_number(model, "one", np.ones((1, 3), np.float32)) if constant else "made", *(f"d{n}" for n in range(40))]
    steps = [helper.make_node("Concat", [one, one], [two], axis=axis) for one, two in pairwise(names)]
    _plus_mean(model, names[-1], *steps)


def _blown_up(kind: str, *given: object, **settings: Any) -> Callable[[ModelProto], None]:  # noqa: ANN401
    """Logits plus the mean of what an operator makes; `x` of it are the logits, all other inputs constants."""

    def change(model: ModelProto) -> None:
        names = [
            value if isinstance(value, str) else _number(model, f"c{number}", value)
            for number, value in enumerate(given)
        ]
        _plus_mean(model, "blown", helper.make_node(kind, names, ["blown"], **settings))

    return change


def _slow(model: ModelProto) -> None:
    """50 products of square matrices, which take little memory and long."""
    names = [f"s{number}" for number in range(51)]
    first = helper.make_node("ConstantOfShape", [_number(model, "square", [5000, 5000])], names[:1])
    steps = [helper.make_node("MatMul", [one, one], [two]) for one, two in pairwise(names)]
    _plus_mean(model, names[-1], first, *steps)


def _held(model: ModelProto) -> None:
    """40 tensors of 15 million numbers, and weights that account for the work."""
    _number(model, "unused", np.zeros(10_000_000, np.uint8))
    shape, names = _number(model, "shape", [5_000_000, 3]), [f"h{number}" for number in range(40)]
    steps = [helper.make_node("Expand", ["made", shape], [name]) for name in names]
    _plus_mean(model, "sum", *steps, helper.make_node("Sum", names, ["sum"]))


def _long(model: ModelProto) -> None:
    _instead(model, "logits")
    names = ["made", *(f"r{number}" for number in range(4_000)), "logits"]
    model.graph.node.extend(helper.make_node("Relu", [one], [two]) for one, two in pairwise(names))


_BIG, _MILLION = 2**31, np.ones((100_000, 1), np.float32)
_TOO_MUCH = "million numbers|its size accounts for"
BOMBS: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "functions nested 40 deep": (_functions, "functions of its own"),
    "training information": (lambda model: model.training_info.add(), "training information"),
    "sparse weights": (_sparse, "sparse weights"),
    "a branch": (_branches, "loops or branches"),
    "Concat, constant": (lambda model: _doubles(model, 0, constant=True), _TOO_MUCH),
    "Concat, of a photo": (lambda model: _doubles(model, 1, constant=False), _TOO_MUCH),
    "ConstantOfShape": (_blown_up("ConstantOfShape", [_BIG]), _TOO_MUCH),
    "Expand": (_blown_up("Expand", np.ones(1, np.float32), [2**16, 2**16]), _TOO_MUCH),
    "Tile": (_blown_up("Tile", "made", [2**20, 2**20]), _TOO_MUCH),
    "Pad": (_blown_up("Pad", "made", [0, 0, _BIG, _BIG]), _TOO_MUCH),
    "Resize by sizes": (_blown_up("Resize", "maps", "", "", [1, 3, 2**20, 2**20]), _TOO_MUCH),
    "Resize by scales": (_blown_up("Resize", "maps", "", np.array([1, 1, 1e6, 1e6], np.float32)), _TOO_MUCH),
    "Resize by what the photo says": (_blown_up("Resize", "maps", "", "made"), "unknown size"),
    "a setting of another kind": (_blown_up("Conv", "maps", np.ones((1, 3, 1, 1)), auto_pad=3), "unknown size"),
    "tensors that are all needed in the end": (_held, _TOO_MUCH),
    "Range": (_blown_up("Range", np.int64(0), np.int64(2**40), np.int64(1)), _TOO_MUCH),
    "an outer sum": (_blown_up("Add", _MILLION, _MILLION.T), _TOO_MUCH),
    "an outer product": (_blown_up("MatMul", _MILLION, _MILLION.T), _TOO_MUCH),
    "an outer Einsum": (_blown_up("Einsum", _MILLION, _MILLION, equation="ab,cb->ac"), "unknown size"),
    "Gather": (_blown_up("Gather", np.ones((1, 100_000), np.float32), np.zeros(100_000, np.int64)), _TOO_MUCH),
    "a wide Conv": (_blown_up("Conv", "maps", np.ones((1, 3, 1, 1), np.float32), pads=[2**20] * 4), _TOO_MUCH),
    "OneHot": (_blown_up("OneHot", [1], np.int64(2**40), np.array([0, 1], np.float32)), "operator 'OneHot'"),
    "NonZero": (_blown_up("NonZero", "made"), "operator 'NonZero'"),
    "EyeLike": (_blown_up("EyeLike", "made"), "operator 'EyeLike'"),
    "a size that the photo says": (_blown_up("ConstantOfShape", "made"), "unknown size"),
    "a size that overflows": (_blown_up("Expand", np.ones(1, np.float32), [2**62, 2**62]), "unknown size"),
    "products for hours": (_slow, _TOO_MUCH),
    "4,000 steps more": (_long, "steps"),
}  # fmt: skip

"""Networks that are refused before a runtime sees them; of a few bytes each, most would take all memory, or hours."""

_SHAPES = "shapes|can't be loaded|fails"
_CHANGED: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    **{
        f"weights in {file}": (lambda model, file=file: put_outside(model, file), "another file")  # type: ignore[misc]
        for file in ("../secret", "/etc/hostname", "config.json", "*/_ORT_MEM_ADDR_/*")
    },
    "a constant in /etc/hostname": (lambda model: put_constant_outside(model, "/etc/hostname"), "another file"),
    "a loop of 2^62 rounds": (_loops, "loops"),
    "an operator of a library": (_custom, "of a library"),
    "a weight of 2^40 rows": (_claims, "claims more"),
    **{name: BOMBS[name] for name in ("functions nested 40 deep", "Expand", "Concat, constant", "4,000 steps more")},
    "weights that are NaN": (_weights(float("nan")), "no number"),
    "weights that are infinite": (_weights(float("inf")), "no number"),
    "weights of 1e38": (_weights(1e38), "no number"),
    "logits of five classes": (_other_shape("logits", 1, 5), "belong"),
    "logits of no photo": (_other_shape("logits", 0, 3), _SHAPES),
    "maps of no place": (_other_shape("maps", 1, 3, 0, 0), _SHAPES),
    "maps of 3 megapixels": (_other_shape("maps", 1, 3, 1000, 1000), _SHAPES),
    "photos of any size": (_any_size, "does not turn"),
    "features of no channel": (_other_shape("features", 1, 0), _SHAPES),
}
GRAPHS = {name: (graph(change=change), refused) for name, (change, refused) in _CHANGED.items()} | {
    "a model in ONNX Runtime's format": (b"\0\0\0\0ORTM" + bytes(999), "can't be loaded"),
    "an output whose name is no text": (graph().replace(b"\x08features", b"\x08featur\xee\xee"), "can't be loaded"),
    "a pickle for a network": (b"\x80\x02}q\x00.", "can't be loaded"),
    "no bytes": (b"", "can't be loaded"),
}
"""ONNX that means harm: by name, its bytes and what it must be refused for."""


FILES: dict[str, Attack] = {
    **{
        f"{n}, flipped": Attack(_rewrite(n, lambda d: d[:20] + bytes((d[20] ^ 1,)) + d[21:]), "altered")
        for n in _SIGNED
    },
    **{f"{name}, cut": Attack(_rewrite(name, lambda data: data[:-1]), "altered") for name in _SIGNED},
    **{f"{name}, missing": Attack(lambda folder, name=name: (folder / name).unlink(), "missing") for name in _SIGNED},  # type: ignore[misc]
    "a pickle that is not listed": Attack(lambda folder: (folder / "model.pkl").write_bytes(b"\x80\x02.")),
    "a listed pickle": Attack(_nothing, "run code", {"pytorch_model.bin": b"\x80\x02."}),
    "a listed joblib": Attack(_nothing, "run code", {"head.JOBLIB": b"\x80\x02."}),
    "a card with a script": Attack(_nothing, "", {CARD: b"<script>alert(1)</script>"}),
    "weights of 3 GB": Attack(lambda folder: os.truncate(folder / ONNX, 3_000_000_000), "more than"),
    "spectraderm.json of 3 GB": Attack(lambda folder: os.truncate(folder / FACTS, 3_000_000_000), "more than"),
    "a pipe": Attack(_pipe, "not a file"),
}

_ODD = (str(_OUTSIDE), "../" * 9 + "etc/hostname", "onnx/../../x", "a\0b", "\ud800", "a\nb", "", ".", "x" * 300)
NAMES: dict[str, Attack] = {
    **{f"a file called {name[:20]!r}": Attack(_listing(name), "outside|missing|can't be read") for name in _ODD},
    "a link to a file outside": Attack(_linked(CARD, str(_OUTSIDE)), "link out"),
    "a link to a folder outside": Attack(_linked("docs", "/etc"), "link out"),
    "a link to /dev/zero": Attack(_linked(NOVELTY, "/dev/zero"), "link out"),
    "a link to itself": Attack(_linked(NOVELTY, NOVELTY), "can't be read|missing"),
    "spectraderm.json a link outside": Attack(_linked(FACTS, str(_OUTSIDE)), "link out"),
    "a hard link to a secret": Attack(_hard_linked, "altered"),
    "10,000 files": Attack(
        _rewrite(FACTS, lambda _: json.dumps({"sha256": {str(n): "" for n in range(4_000)}}).encode()), "does not list"
    ),
}

_CONFIG = b'{"id2label": {"0": "BA- a", "1": "b-c", "2": "%s"}}'

JSONS = {
    **{
        f"spectraderm.json is {what[:12]!r}": Attack(_rewrite(FACTS, lambda _, what=what: what), "damaged|altered")  # type: ignore[misc]
        for what in (b"", b"[]", b"1", b"null", b"\xff\xfe", b'{"sha256": 3}', b'{"sha256": [[1, 2]]}', b"[" * 100_000,
                     b'{"a":' * 100_000, b'{"sha256": {"a": ' + b"9" * 100_000 + b"}}")
    },
    **{
        f"signed config.json is {what[:24]!r}": _signed("damaged|names no|not a JSON|class", config=what)
        for what in (b"[" * 100_000, b"[]", b'{"id2label": 5}', b'{"id2label": "abc"}', b'{"id2label": null}', b"NaN",
                     b'{"id2label": {"0": "a"}, "id2label": {}}')
    },
    "a class with an escape sequence": _signed("can't be shown in a line", config=_CONFIG % rb"\u001b[2J"),
    "a class of half a character": _signed("can't be shown in a line", config=_CONFIG % rb"\ud800"),
    "a class of a million letters": _signed("has 1000000 characters", config=_CONFIG % (b"x" * 1_000_000)),
    "a model id with an escape sequence": Attack(_nothing, "can't be shown in a line", facts={"model_id": "\x1b[2J"}),
    "display names that are numbers": Attack(_nothing, "", facts={"display_names": {"BA- a": 3}}),
    "a class called as a script": _signed("", config=_CONFIG % b"<script>alert(1)</script>"),
    **{
        f"preprocessor with {new}": _signed(
            "preprocessor|belong",
            preprocessor_config=model_files()[PREPROCESSOR].replace(old.encode(), new.encode()),
        )
        for old, new in (('"height": 56', '"height": 1e999'), ('"height": 56', '"height": NaN'),
                         ('"height": 56', '"height": -1'),
                         ('"height": 56', '"height": 1000000'), ("0.229", "NaN"),
                         ("0.485", "Infinity"), ('"size"', '"sizes"'))
    },
    **{
        f"a temperature of {value!r}": Attack(
            _rewrite(FACTS, lambda data, value=value: data.replace(b': 1.0', b": " + value, 1)),  # type: ignore[misc]
            "is damaged",
        )
        for value in (b"5e-324", b"9" * 5000)
    },
    "a coverage of 2": Attack(_nothing, "is damaged", facts={"calibration": calibration(3, coverage=2.0)}),
    "config.json of 50,000 classes": _signed(
        "names no classes", config=b'{"id2label": {%s}}' % b",".join(b'"%d":"%d"' % (n, n) for n in range(50_000))
    ),
    "spectraderm.json of 700,000 lists": Attack(
        _rewrite(FACTS, lambda _: b'{"sha256": {}, "a": [' + b"[]," * 700_000 + b"[]]}"), "more than"
    ),
    "spectraderm.json with a NaN somewhere": Attack(
        _rewrite(FACTS, lambda data: data.replace(b"{", b'{"x": [NaN],', 1)), "damaged"
    ),
}  # fmt: skip

ARRAYS = {
    "novelty.npy of pickled objects": _signed("novelty", novelty=npy([{"a": 1}])),
    "training_photos.npy of pickled objects": _signed("training_photos", training_photos=npy([None])),
    "novelty.npy of 10^13 rows": _signed("novelty", novelty=_lying("(10000000000000, 3)")),
    "novelty.npy of 10^10 rows": _signed("novelty", novelty=_lying("(10000000000, 3)")),
    "novelty.npy of -1 rows": _signed("novelty", novelty=_lying("(-1, 3)")),
    "novelty.npy with NaN": _signed("novelty", novelty=npy([[1.0, np.nan, 1.0]])),
    "novelty.npy beyond single precision": _signed("novelty", novelty=npy([[1e300, 1.0, 1.0]])),
    "novelty.npy of zeros": _signed("", novelty=npy(np.zeros((1, 3)))),
    "novelty.npy nested 10,000 deep": _signed("novelty", novelty=_lying("(" * 9000)),
}


def flipped_graphs(count: int, seed: int) -> list[bytes]:
    """The network of a right folder with bits flipped, bytes replaced, parts cut out or doubled."""
    right, random, made = graph(), np.random.default_rng(seed), []
    for _ in range(count):
        data, at = bytearray(right), int(random.integers(len(right)))
        kind, length = random.integers(4), int(random.integers(1, 40))
        if kind < 2:
            for place in random.integers(0, len(right), 1 + 3 * kind):
                data[place] = data[place] ^ (1 << random.integers(8)) if kind == 0 else random.integers(256)
        elif kind == 2:
            del data[at : at + length]
        else:
            data[at:at] = data[at : at + length]
        made.append(bytes(data))
    return made


@dataclass(frozen=True)
class Damaged:
    """Many damaged networks, whose checksums were made anew: each is refused or answers, and none ends the process."""

    count: int
    refused: str = ""

    def build(self) -> bytes:
        """Nothing is needed but the networks, which are quick to make."""
        return b""

    def call(self, _data: bytes) -> str:
        """Load and ask each."""
        refused, pixels = 0, np.full((1, 56, 56, 3), 90, np.uint8)
        for network in flipped_graphs(self.count, seed=1):
            try:
                Engine(network, PREPROCESSING, threads=1)(pixels)
            except ModelFolderError:
                refused += 1
        if not 0 < refused < self.count:
            raise ValueError("all of them alike")
        return f"{refused} of {self.count} refused"


ATTACKS: dict[str, Attack | Damaged] = (
    FILES
    | NAMES
    | JSONS
    | ARRAYS
    | {name: Attack(_nothing, refused, {ONNX: network}) for name, (network, refused) in GRAPHS.items()}
    | {"150 networks, damaged and signed anew": Damaged(150)}
)
