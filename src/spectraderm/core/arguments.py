"""What the commands' functions are given in Python: taken by one rule a name, or refused before anything begins."""

import functools
import inspect
import io
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from spectraderm.core.errors import WrongArgument, is_url
from spectraderm.core.run import Run

P = ParamSpec("P")
R = TypeVar("R")

MAX_SEED = 2**31 - 1
_PATHS = frozenset({"photos", "other", "out", "label_map", "notes", "recipe", "backbone", "model", "folder"})
_RUNS = frozenset({"run", "run_a", "run_b", "target"})
_INTS = {"seed": (0, MAX_SEED), "folds": (0, 1000), "epochs": (1, 100_000), "batch_size": (1, 100_000),
         "patience": (0, 100_000)}  # fmt: skip
_FLOATS = {"lr": (0, 1000), "coverage": (0.5, 0.999), "promise": (0.5, 0.999), "min_weight": (0, 1)}
"""The least and the most that a number may be."""
_CHOICES = {
    "split": ("grouped", "original", "deduplicated", "by-source"),
    "conformal": ("lac", "raps"),
    "device": ("auto", "cpu"),
    "log": ("tensorboard", "mlflow", "wandb"),
    "calibration": ("auto", "home", "elsewhere"),
}
_FLAGS = frozenset({"resume", "crops", "fix", "external", "per_class", "onnx_only", "int8", "chosen_on", "force",
                    "add_classes"})  # fmt: skip
_NO_LIST = (str, bytes, bytearray, memoryview, os.PathLike, Run, Mapping, io.IOBase)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function that takes its arguments as these are meant: paths without `~`, numbers as Python's own.

    Raises:
        WrongArgument: when it is called with another argument than it takes; says what it takes.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            takes = ", ".join(signature.parameters)
            raise WrongArgument(f"{function.__name__}: {error}", f"It takes {takes}") from error
        for name, value in bound.arguments.items():
            kinds = str(signature.parameters[name].annotation)
            if value is not None or not ("None" in kinds or "Optional" in kinds):  # as Python calls `Literal | None`
                bound.arguments[name] = _taken(name, value, several="Sequence" in kinds)
        return function(*bound.args, **bound.kwargs)

    return call


def _taken(name: str, value: Any, *, several: bool) -> Any:  # noqa: ANN401
    """An argument as its function takes it; `several`: also a list of paths."""
    if name in _PATHS | _RUNS:
        is_many = isinstance(value, Iterable) and not isinstance(value, _NO_LIST) and not hasattr(value, "dtype")
        if not several or not is_many:
            return _path(name, value, several=several)
        paths = [_path(name, each, several=several) for each in value]
        if not paths and name != "other":
            raise WrongArgument(f"{name} names no folder", "Give one at least")
        return paths
    if name in _INTS:
        return int(_number(name, value, numbers.Integral, "a whole number", _INTS[name]))
    if name in _FLOATS:
        return float(_number(name, value, numbers.Real, "a number", _FLOATS[name]))
    if name in _CHOICES and (not isinstance(value, str) or value not in _CHOICES[name]):
        raise _wrong(name, value, ", ".join(map(repr, _CHOICES[name])))
    if name in _FLAGS:
        if type(value).__name__ not in ("bool", "bool_"):
            raise _wrong(name, value, "True or False")
        return bool(value)
    return value


def _path(name: str, value: Any, *, several: bool) -> Any:  # noqa: ANN401
    """A path as it was given, but for `~`, the user's home folder; or a run folder."""
    if isinstance(value, Run) and name in _RUNS:
        return value
    if not isinstance(value, str | os.PathLike):
        run, many = ", or a `Run`" if name in _RUNS else "", ", or a list of them" if several else ""
        raise _wrong(name, value, f"a path, as text or `Path`{run}{many}")
    text = os.fsdecode(value)
    if not text.strip() or "\0" in text:
        raise WrongArgument(f"{name} is {text!r}, which names no file or folder", "Give a path")
    if is_url(text):
        raise WrongArgument(f"{name}: {text} is an address, and nothing is fetched", "Download it, and give its path")
    home = os.path.expanduser(text) if text.startswith("~") and not os.path.lexists(text) else text  # noqa: PTH111
    return home if isinstance(value, str) or home != text or isinstance(os.fspath(value), bytes) else value


def _number(name: str, value: Any, kind: Any, called: str, bounds: Sequence[float]) -> Any:  # noqa: ANN401
    least, most = bounds
    is_number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:
        raise _wrong(name, value, f"{called} from {least} to {most}")
    return value


def _wrong(name: str, value: object, takes: str) -> WrongArgument:
    shown = repr(value)
    about = shown if len(shown) < 60 and shown.isprintable() else f"a {type(value).__name__}"
    return WrongArgument(f"{name} can't be {about}", f"It takes {takes}")
