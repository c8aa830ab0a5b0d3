"""The README's results: the notebook's recipe as it was measured, then `grouped`, and fine-tuning `grouped`.

    python benchmarks/accuracy.py PHOTOS [--out runs] [--backbone open-nsfw-thin] [--skip-finetune]

Makes three run folders and prints them side by side; finished ones are not made again. Fine-tuning takes about half an
hour on two cores, the other two a minute each.
"""

import argparse
import sys
from pathlib import Path

from spectraderm import pipeline
from spectraderm.cli import tables as terminal
from spectraderm.core.errors import SpectraDermError
from spectraderm.core.progress import progress
from spectraderm.core.run import MODEL
from spectraderm.pipeline import Options

DRAWS = 10


def main() -> None:
    """Run what is missing, then print all scores in one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--backbone", default="open-nsfw-thin")
    parser.add_argument("--skip-finetune", action="store_true")
    arguments = parser.parse_args()
    plans = {
        "notebook-original": Options("notebook", arguments.backbone, "original", DRAWS),
        "notebook-grouped": Options("notebook", arguments.backbone, "grouped"),
        "finetune-grouped": Options("finetune", arguments.backbone, "grouped"),
    }
    if arguments.skip_finetune:
        del plans["finetune-grouped"]
    runs = [arguments.out / name for name in plans]
    with progress() as track:
        for run, options in zip(runs, plans.values(), strict=True):
            if not (run / MODEL).is_dir():
                resume = Options(options.recipe, options.backbone, options.protocol, options.folds, resume=True)
                pipeline.run(arguments.photos, run, resume, track)
    terminal.say_audit(runs[0])
    terminal.say_scores(runs, [pipeline.evaluate(run) for run in runs])


if __name__ == "__main__":
    try:
        main()
    except SpectraDermError as error:
        sys.exit(f"error: {error}")
