"""What the commands' functions are given in Python: as signatures say, or refused before anything begins."""

import functools
import inspect
import io
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from spectraderm.core.errors import WrongArgument, is_url
from spectraderm.core.run import Run

P = ParamSpec("P")
R = TypeVar("R")

_BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1), "folds": (0, 1000), "epochs": (1, 100_000), "batch_size": (1, 100_000),
    "patience": (0, 100_000), "lr": (0, 1000), "coverage": (0.5, 0.999), "promise": (0.5, 0.999), "min_weight": (0, 1),
}  # fmt: skip
"""The least and the most that a number may be."""
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
            bound.arguments[name] = _taken(name, value, _kinds(signature.parameters[name].annotation))
        return function(*bound.args, **bound.kwargs)

    return call


def _kinds(annotation: Any) -> Sequence[Any]:  # noqa: ANN401
    """Of which kinds an argument may be: without what a `Sequence` is of."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [Sequence if get_origin(kind) is Sequence else kind for kind in kinds]


def _taken(name: str, value: Any, kinds: Sequence[Any]) -> Any:  # noqa: ANN401
    """An argument as its function takes it."""
    if value is None and NoneType in kinds:
        return None
    if os.PathLike[str] in kinds:
        return _paths(name, value, kinds)
    if int in kinds:
        return int(_number(name, value, numbers.Integral, "a whole number"))
    if float in kinds:
        return float(_number(name, value, numbers.Real, "a number"))
    if bool in kinds:
        if type(value).__name__ not in ("bool", "bool_"):
            raise _wrong(name, value, "True or False")
        return bool(value)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and (not isinstance(value, str) or value not in choices):
        raise _wrong(name, value, ", ".join(map(repr, choices)))
    return value


def _paths(name: str, value: Any, kinds: Sequence[Any]) -> Any:  # noqa: ANN401
    """A path, or a list of them where its function takes several."""
    is_many = isinstance(value, Iterable) and not isinstance(value, _NO_LIST) and not hasattr(value, "dtype")
    if Sequence not in kinds or not is_many:
        return _path(name, value, kinds)
    paths = [_path(name, each, kinds) for each in value]
    if not paths and name != "other":
        raise WrongArgument(f"{name} names no folder", "Give one at least")
    return paths


def _path(name: str, value: Any, kinds: Sequence[Any]) -> Any:  # noqa: ANN401
    """A path as it was given, but for `~`, the user's home folder; or a run folder."""
    if isinstance(value, Run) and Run in kinds:
        return value
    if not isinstance(value, str | os.PathLike):
        run, many = ", or a `Run`" if Run in kinds else "", ", or a list of them" if Sequence in kinds else ""
        raise _wrong(name, value, f"a path, as text or `Path`{run}{many}")
    text = os.fsdecode(value)
    if not text.strip() or "\0" in text:
        raise WrongArgument(f"{name} is {text!r}, which names no file or folder", "Give a path")
    if is_url(text):
        raise WrongArgument(f"{name}: {text} is an address, and nothing is fetched", "Download it, and give its path")
    home = os.path.expanduser(text) if text.startswith("~") and not os.path.lexists(text) else text  # noqa: PTH111
    return home if isinstance(value, str) or home != text or isinstance(os.fspath(value), bytes) else value


def _number(name: str, value: Any, kind: Any, called: str) -> Any:  # noqa: ANN401
    least, most = _BOUNDS[name]
    is_number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:
        raise _wrong(name, value, f"{called} from {least} to {most}")
    return value


def _wrong(name: str, value: object, takes: str) -> WrongArgument:
    shown = repr(value)
    about = shown if len(shown) < 60 and shown.isprintable() else f"a {type(value).__name__}"
    return WrongArgument(f"{name} can't be {about}", f"It takes {takes}")
