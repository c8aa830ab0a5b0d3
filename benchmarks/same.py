"""Whether two versions of SpectraDerm do the same: one run and all predictions by each, compared.

    python benchmarks/same.py collect OUT PHOTOS [OTHERS ...]
    python benchmarks/same.py compare BEFORE AFTER [--rename OLD=NEW ...] [--most 20]

`collect`, run by each version in its own environment, makes the run folder OUT/run of PHOTOS (offline backbone, default
recipe, seed 0), and OUT/predictions.jsonl of all photos by the default model. `compare` holds two such folders against
each other: audit, manifest, split, out-of-fold logits, calibration, evaluation, and every photo's verdict. Numbers are
equal within 1e-5. `--rename` gives words that changed between the versions. Exit code 1 where anything differs.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CLOSE = 1e-5
JSON_FILES = ("audit.json", "calibration.json", "evaluation.json")
CSV_FILES = ("manifest.csv", "split.csv")


def main() -> None:
    """Collect, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out", type=Path)
    collecting.add_argument("photos", type=Path)
    collecting.add_argument("others", type=Path, nargs="*")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--rename", nargs="*", default=[], metavar="OLD=NEW")
    comparing.add_argument("--most", type=int, default=20, help="differences to print of each file")
    given = parser.parse_args()
    if given.command == "collect":
        collect(given.out, given.photos, given.others)
    else:
        sys.exit(compare(given.before, given.after, dict(word.split("=") for word in given.rename), given.most))


def collect(out: Path, photos: Path, others: list[Path]) -> None:
    """Run and predict by the version that this Python has."""
    spectraderm = [sys.executable, "-m", "spectraderm"]
    options = ["--out", str(out / "run"), "--backbone", "open-nsfw-thin", "--seed", "0"]
    subprocess.run([*spectraderm, "run", str(photos), *options], check=True)
    with (out / "predictions.jsonl").open("w") as file:
        predict = [*spectraderm, "predict", str(photos), *map(str, others), "--format", "jsonl"]
        subprocess.run(predict, stdout=file, check=False)  # 1: some of the photos are damaged


def compare(before: Path, after: Path, renames: dict[str, str], most: int) -> bool:
    """Print what differs, file by file; whether anything does."""
    one, other = before / "run", after / "run"
    differences = {name: list(of_json(load(one / name), load(other / name), renames)) for name in JSON_FILES}
    differences |= {name: list(of_csv(one / name, other / name, renames)) for name in CSV_FILES}
    differences["logits.csv"] = list(of_logits(one, other, renames))
    differences["predictions.jsonl"] = list(of_predictions(before, after))
    for name, lines in differences.items():
        print(f"{name}: {f'{len(lines)} differences' if lines else 'the same'}")
        for line in lines[:most]:
            print(f"    {line}")
    return any(differences.values())


def load(path: Path) -> dict[str, object]:
    """A JSON file."""
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


def flat(content: object, renames: dict[str, str], name: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of JSON: their path, and their value."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from flat(value, renames, f"{name}.{renames.get(key, key)}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from flat(value, renames, f"{name}[{number}]")
    else:
        yield name, renames.get(content, content) if isinstance(content, str) else content


def equal(one: object, other: object) -> bool:
    """Equal, or numbers within `CLOSE`."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return bool(np.isclose(one, other, rtol=CLOSE, atol=CLOSE))
    return one == other


def of_json(one: object, other: object, renames: dict[str, str]) -> Iterator[str]:
    """Values that differ, and those that only one has."""
    left, right = dict(flat(one, renames)), dict(flat(other, {}))
    for name in [*left, *(name for name in right if name not in left)]:
        if not equal(left.get(name, "-"), right.get(name, "-")):
            yield f"{name}: {left.get(name, '-')!r} -> {right.get(name, '-')!r}"


def rows(path: Path, renames: dict[str, str]) -> dict[tuple[str, str], dict[str, str]]:
    """Lines by fold and path."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [{key: renames.get(value, value) for key, value in line.items()} for line in csv.DictReader(file)]
    return {(line.get("fold", ""), line["path"]): line for line in lines}


def of_csv(one: Path, other: Path, renames: dict[str, str]) -> Iterator[str]:
    """Cells that differ, and lines that only one has."""
    left, right = rows(one, renames), rows(other, {})
    for key in [*left, *(key for key in right if key not in left)]:
        before, after = left.get(key, {}), right.get(key, {})
        changed = [name for name in before | after if not same_cell(before.get(name), after.get(name))]
        if changed:
            yield f"{' '.join(key)}: " + ", ".join(
                f"{name} {before.get(name)} -> {after.get(name)}" for name in changed
            )


def same_cell(one: str | None, other: str | None) -> bool:
    """Equal text, or text of equal numbers."""
    try:
        return equal(float(one or "nan"), float(other or "nan")) or one == other
    except ValueError:
        return one == other


def of_logits(one: Path, other: Path, renames: dict[str, str]) -> Iterator[str]:
    """Folds whose logits differ, with the largest difference."""
    for path in sorted(one.glob("folds/*/logits.csv")):
        fold = renames.get(path.parent.name, path.parent.name)
        before, after = rows(path, {}), rows(other / "folds" / fold / "logits.csv", {})
        if set(before) != set(after):
            yield f"{fold}: other photos"
            continue
        names = [name for name in next(iter(before.values())) if name.startswith("logit:")]
        values = [np.array([[float(lines[key][n]) for n in names] for key in before]) for lines in (before, after)]
        largest = float(np.abs(values[0] - values[1]).max())
        if largest > CLOSE:
            yield f"{fold}: logits differ by {largest:.2g} at most"


def of_predictions(before: Path, after: Path) -> Iterator[str]:
    """Photos whose verdict, label, set or probability differs, and photos that only one answered."""
    left, right = (
        {line["path"]: line for line in map(json.loads, (folder / "predictions.jsonl").open())}
        for folder in (before, after)
    )
    for path in sorted(left | right):
        one, other = left.get(path, {}), right.get(path, {})
        for name in ("verdict", "label", "prediction_set", "probability", "in_training"):
            if not equal(one.get(name), other.get(name)):
                yield f"{path}: {name} {one.get(name)} -> {other.get(name)}"


if __name__ == "__main__":
    main()
