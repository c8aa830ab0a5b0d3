"""What went wrong, with which file, and what to do about it.

Every error that a user can cause or meet is one of these; anything else that escapes is a defect of ours.
"""


class SpectraDermError(Exception):
    """An expected failure, worded for the person at the keyboard.

    Args:
        problem: what is wrong, naming the file, folder or class concerned.
        remedy: what to do about it; empty where nothing can be done.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class UnreadablePhoto(SpectraDermError):
    """These bytes are not a photo that can be decoded safely."""


class DatasetError(SpectraDermError):
    """The folder of photos can't be used as it is."""


class SplitError(SpectraDermError):
    """The photos can't be split as asked, or a split breaks its promise."""


class RecipeError(SpectraDermError):
    """A recipe file or one of its settings is wrong."""


class BackboneError(SpectraDermError):
    """The pretrained weights can't be loaded."""


class RunFolderError(SpectraDermError):
    """A run folder lacks what this stage needs, or belongs to another run."""


class ModelFolderError(SpectraDermError):
    """A model folder is incomplete, altered, or of a kind that is never opened."""


class ParityError(SpectraDermError):
    """The exported model does not give the logits that training gave."""


class MissingExtra(SpectraDermError):
    """An optional part of SpectraDerm is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed", f'Install it with: pip install "spectraderm[{extra}]"')
