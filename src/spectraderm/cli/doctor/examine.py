"""All that is looked at, in the order in which it is shown. What breaks in one place is a finding, and not the end."""

from collections.abc import Callable, Iterable, Iterator

from spectraderm.cli.doctor.fact import Fact, State
from spectraderm.core.errors import SpectraDermError


def examine(offline: bool = False, training: bool = False) -> list[Fact]:
    """Look at this machine. Takes a second, and up to three more where the Hub does not answer.

    Args:
        offline: don't ask the Hub whether it is there, the only thing here that uses the network.
        training: also import what training needs, torch among it, each in a process of its own: ten seconds.
    """
    answer = _reach(offline)
    parts: list[tuple[str, Callable[[], Iterable[Fact]]]] = [
        ("Predictions", _predicting),
        ("Packages", _packages),
        ("Processor", _processor),
        ("Graphics card", _graphics),
        ("Memory and disk", _room),
        ("Environment", _surroundings),
        ("Training", lambda: _training(answer, training)),
        ("Static page", _pages),
        ("Hugging Face Hub", lambda: _hub(answer)),
    ]
    return [fact for theme, look in parts for fact in _guarded(theme, look)]


def _guarded(theme: str, look: Callable[[], Iterable[Fact]]) -> Iterator[Fact]:
    """Facts, and the exception that ends them, if one does. Only predictions are the basic use."""
    state = State.broken if theme == "Predictions" else State.warning
    try:
        yield from look()
    except SpectraDermError as error:
        yield Fact(theme, "error", error.problem, state, error.remedy)
    except Exception as error:  # whatever breaks is what the doctor was called for
        remedy = "pip install --force-reinstall spectraderm; if that does not help, report it with this text"
        yield Fact(theme, "error", f"{type(error).__name__}: {error}", state, remedy)


def _reach(offline: bool) -> str:
    from spectraderm.cli.doctor.hub import reach  # noqa: PLC0415

    try:
        return reach(offline)
    except Exception as error:  # such as an HF_ENDPOINT that is no address
        return repr(error)


def _predicting() -> Iterable[Fact]:
    from spectraderm.cli.doctor.predicting import predicting  # noqa: PLC0415

    return predicting()


def _packages() -> Iterable[Fact]:
    from spectraderm.cli.doctor.clashes import clashes  # noqa: PLC0415
    from spectraderm.cli.doctor.packages import packages  # noqa: PLC0415

    return [*packages(), *clashes()]


def _processor() -> Iterable[Fact]:
    from spectraderm.cli.doctor.processor import processor  # noqa: PLC0415

    return processor()


def _graphics() -> Iterable[Fact]:
    from spectraderm.cli.doctor.graphics import graphics  # noqa: PLC0415

    return graphics()


def _room() -> Iterable[Fact]:
    from spectraderm.cli.doctor.room import room  # noqa: PLC0415
    from spectraderm.inference.remembering import cache_folder  # noqa: PLC0415

    return room(cache_folder())


def _surroundings() -> Iterable[Fact]:
    from spectraderm.cli.doctor.surroundings import surroundings  # noqa: PLC0415

    return surroundings()


def _training(answer: str, tried: bool) -> Iterable[Fact]:
    from spectraderm.cli.doctor.graphics import nvidia  # noqa: PLC0415
    from spectraderm.cli.doctor.training import training  # noqa: PLC0415

    return training(answer, tried, bool(nvidia()[0]))


def _pages() -> Iterable[Fact]:
    from spectraderm.cli.doctor.pages import pages  # noqa: PLC0415

    return pages()


def _hub(answer: str) -> Iterable[Fact]:
    from spectraderm.cli.doctor.hub import hub  # noqa: PLC0415

    return hub(answer)
