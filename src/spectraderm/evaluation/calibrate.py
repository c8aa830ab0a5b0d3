"""Held-out logits and novelties -> the settings of a model, and proof out of fold that the settings hold.

Nothing is ever set on the photos it is then scored on. With k folds of `grouped`, or one a source of `by-source`, each
fold's test photos are judged by settings found on the test photos of the other folds, and the exported model gets those
found on all of them. With one fold they come from its calibration photos, or, where the folders as they came have none,
from its validation photos. Every photo group counts once. Photos of `other` set nothing but the second risk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spectraderm.core import files
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import CALIBRATION, FINAL, NOVELTY, Run
from spectraderm.evaluation.bootstrap import Integers, Judged
from spectraderm.evaluation.fitting import NOVELTY_KEPT, Settings, answers, draft, promising
from spectraderm.evaluation.outputs import FoldOutputs, Outputs, pool, read_outputs, references
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, NO_ANSWER, Control, control, needed
from spectraderm.inference.calibration import Calibration, Calibrations

ELSEWHERE = "elsewhere"
_SUREST = 0.25
"""Where the sequence of thresholds begins at home: nearly all of these photos are surely right."""


def calibrate(run: Run, settings: Settings | None = None) -> dict[str, Any]:
    """Find the final model's settings at home and write `calibration.json` and `novelty.npy`.

    Settings elsewhere stay where they are of the same logits, and go where the run was trained again. Of `by-source`
    they are found on its sources, each by the logits of the fold that was trained without it.

    Raises:
        RunFolderError: the run is not trained to the end.
    """
    settings, (final, *_), crossed = settings or Settings(), *read_outputs(run)
    source, held = held_out(crossed)
    fitted, proof = fit(held, settings)
    known = run.features(final.fold)[references(final.splits, final.groups)]
    result = {"home": home(fitted, proof, settings, held.groups, source)}
    before = run.calibration.get(ELSEWHERE) if run.path(CALIBRATION).is_file() else None
    if before and before["fitted_on"] == "sources" and of_these_logits(run, before):
        result[ELSEWHERE] = before
    elif run.config["protocol"] == "by-source" and len(crossed) > 1:
        from spectraderm.evaluation.calibrate_elsewhere import calibrate_elsewhere  # noqa: PLC0415 - as below

        found = calibrate_elsewhere(left_out(run, crossed), fitted, settings.promised_accuracy)
        result[ELSEWHERE] = {**found, "fitted_on": "left_out_sources"}
    files.write_array(run.path(NOVELTY), known)
    files.write_json(run.path(CALIBRATION), result)
    return result


def home(fitted: Calibration, proof: Control, settings: Settings, groups: Integers, source: str) -> dict[str, Any]:
    """`home` of `calibration.json`, found on photos of these groups `int64[n]`, which are `source`."""
    return {
        **fitted.to_dict(),
        "per_class": settings.per_class,
        "promise_asked": settings.promised_accuracy,
        "fitted_on": source,
        "n_photos": len(groups),
        "n_groups": len(np.unique(groups)),
        "novelty_method": "knn",
        "novelty_kept": NOVELTY_KEPT,
        "promise_fails_at": FAILS_AT,
        "why": proof.why,
    }


def left_out(run: Run, crossed: Sequence[FoldOutputs]) -> Outputs:
    """The test photos of folds of `by-source` whose source is known, source by source."""
    rows, test = {row["path"]: row for row in run.rows}, pool(crossed)
    sources = np.array([rows[path]["source"] for path in test.paths.tolist()])
    usable = np.array([not rows[path].get("unusable") for path in test.paths.tolist()])
    known = np.flatnonzero(sources != "")
    in_order = known[np.argsort(sources[known], kind="stable")]
    return replace(test, sources=sources, usable=usable).take(in_order)


def of_these_logits(run: Run, facts: Mapping[str, Any]) -> bool:
    """Whether something was made from the logits of the run's final model: their SHA-256 is its `logits_sha256`."""
    return facts.get("logits_sha256") == files.sha256(run.fold(FINAL).logits.read_bytes())


def tested(run: Run) -> tuple[list[FoldOutputs], Judged]:
    """The folds whose test photos are the score; and these, pooled in order and judged."""
    _, crossed = read_outputs(run)
    return crossed, judge(crossed, settings_of(run))


def settings_of(run: Run) -> Settings:
    """The settings that a run was calibrated with. Raises `RunFolderError` where it was not."""
    stored = run.calibration
    try:
        Calibrations.from_dict(stored)
        kept = {name: stored["home"][name] for name in ("coverage", "set_method", "per_class")}
        return Settings(**kept, promised_accuracy=stored["home"]["promise_asked"])
    except (KeyError, TypeError, ValueError) as error:
        remedy = "Run `spectraderm calibrate RUN` first"
        raise RunFolderError(f"{run.path(CALIBRATION)} is damaged ({error!r})", remedy) from error


def held_out(crossed: Sequence[FoldOutputs]) -> tuple[str, FoldOutputs]:
    """The photos that the final model's settings are found on, and which these are: `out_of_fold` or a split.

    Of folds that `crossing` gives: all tests of several, or of a single one what it held out beside its test. Raises
    `RunFolderError` where there are no such photos.
    """
    if len(crossed) > 1:
        return "out_of_fold", pool(crossed)
    for split in ("calibration", "val"):
        if split in crossed[0].splits:
            return split, crossed[0].of(split)
    raise RunFolderError(f"fold {crossed[0].fold} has no calibration or validation photos", "Split again")


def judge(crossed: Sequence[FoldOutputs], settings: Settings) -> Judged:
    """Judge the pooled test photos of folds, each by settings that were found without them."""
    tests = [fold.of("test") for fold in crossed]
    if len(crossed) == 1:
        calibrations = [fit(held_out(crossed)[1], settings)[0]]
    else:
        calibrations = [fit(pool([other for other in crossed if other is not fold]), settings)[0] for fold in crossed]
    parts = [test.judged(fitted) for fitted, test in zip(calibrations, tests, strict=True)]
    return replace(Judged.joined(parts), folds=np.repeat(np.arange(len(parts)), [len(part) for part in parts]))


def fit(held: Outputs, settings: Settings) -> tuple[Calibration, Control]:
    """Find all settings on held-out photos; and how their promise was proved.

    At home own photos are those whose set holds one class, not `other`, and that are in scope, from the surest quarter
    on. The second risk is that of the photos of `other`, where these are enough to prove it at all.
    """
    fitted = draft(held.own, settings)
    own, others = answers(held.own, fitted), answers(held.others, fitted)
    enough = len(others) >= needed(1 - ANSWERED_OTHERS)
    could = own.take(own.confidence > NO_ANSWER)
    proof = control(could, others if enough else None, settings.promises, start=_SUREST)
    fitted = promising(fitted, proof)
    return replace(fitted, answered_others=ANSWERED_OTHERS if enough and proof.promise else None), proof
