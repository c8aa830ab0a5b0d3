"""Scores that depend on the guesses alone, from weighted confusion matrices `float[r, true class, guess]`."""

import numpy as np
from scipy import sparse

from spectraderm.evaluation.bootstrap import Measure
from spectraderm.evaluation.scored import Reals, Scored


def tables(scored: Scored) -> Measure:
    """Photos and weights to `tables`, `float[c, c, r]`: the confusion matrix of each resample."""
    count, classes = len(scored), scored.classes
    cell = scored.labels * classes + scored.guesses
    cells = sparse.csr_array((np.ones(count), (np.arange(count), cell)), shape=(count, classes**2))
    return lambda drawn: {"tables": (drawn @ cells).T.reshape(classes, classes, -1)}


def measure(scored: Scored) -> Measure:
    """Accuracy, balanced accuracy and macro F1."""
    counted = tables(scored)

    def measured(drawn: Reals) -> dict[str, Reals]:
        table = counted(drawn)["tables"]
        return {
            "accuracy": _right(table).sum(0) / table.sum((0, 1)),
            "balanced_accuracy": balanced_accuracy(table),
            "macro_f1": macro_f1(table),
        }

    return measured


def balanced_accuracy(table: Reals) -> Reals:
    """Mean sensitivity over the classes that are there (Brodersen et al. 2010); `float[r]` of `float[c, c, r]`."""
    return average(_right(table) / table.sum(1))


def macro_f1(table: Reals) -> Reals:
    """Mean F1 over the classes that are there or were guessed; `float[r]` of `float[c, c, r]`."""
    return average(_f1(table))


def rates(table: Reals) -> dict[str, Reals]:
    """Each class against the rest, `float[c, r]` each: sensitivity, specificity, predictive values and F1."""
    right, true, guessed, total = _right(table), table.sum(1), table.sum(0), table.sum((0, 1))
    spared = total - true - guessed + right
    return {
        "sensitivity": right / true,
        "specificity": spared / (total - true),
        "ppv": right / guessed,
        "npv": spared / (total - guessed),
        "f1": _f1(table),
    }


def average(by_class: Reals) -> Reals:
    """The mean over the classes where it is defined; `float[r]` of `float[c, r]`."""
    result: Reals = np.nansum(by_class, axis=0) / np.isfinite(by_class).sum(0)
    return result


def _right(table: Reals) -> Reals:
    diagonal: Reals = np.diagonal(table).T
    return diagonal


def _f1(table: Reals) -> Reals:
    result: Reals = 2 * _right(table) / (table.sum(1) + table.sum(0))
    return result
