"""The attack table: every hostile photo and model folder of the tests, and what it meets.

    OMP_NUM_THREADS=1 python benchmarks/attack_table.py [--only NAME]

Each is tried in a forked child of its own. Prints input, answer, seconds and growth of memory in MB as Markdown, and
exits 1 where an answer is neither a typed error nor a result, or takes over 5 s (2 s on an idle machine) or 256 MB.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import hostile
import hostile_models
from measured import Answer, Attack, answers

SECONDS, MEGABYTES = 5, 256


def within(answer: Answer) -> bool:
    """Whether it is an answer that a door may give."""
    typed = answer.kind in ("ok", "UnreadablePhoto", "ModelFolderError")
    return typed and answer.seconds < SECONDS and answer.megabytes < MEGABYTES


def line(name: str, answer: Answer) -> str:
    """A row of the table."""
    said = answer.words.split("model/", 1)[-1].removeprefix("attack: ").split(". ")[0][:80]
    words = " ".join((f"{answer.kind}: {said}" if answer.kind != "ok" else said).split()).replace("|", "/")
    mark = "" if within(answer) else " **!**"
    return f"| {name} | {words}{mark} | {answer.seconds:.2f} | {answer.megabytes:.0f} |"


def main() -> int:
    """Try them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="those whose name contains this")
    only = parser.parse_args().only
    attacks: dict[str, Attack] = {**hostile.ATTACKS, **hostile.LARGE, **hostile_models.ATTACKS}
    print("| input | answer | s | MB |\n| --- | --- | --- | --- |")
    good = True
    for name, answer in answers({name: attack for name, attack in attacks.items() if only in name}):
        print(line(name, answer), flush=True)
        good &= within(answer)
    return 0 if good else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary  # where the model folders are written, and all that attacks may open
        sys.exit(main())
