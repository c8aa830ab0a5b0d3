"""The table of the README: every comparison with a peer, in one run, as Markdown.

    python benchmarks/table.py PHOTOS [--rounds 5] [--peers PYTHON] [--only training predicting ...]

Each number is the median of the rounds, with the lowest and the highest; ratios are taken round by round. What is
prepared once (a ResNet-50, run folders, models) goes to `--work`.
"""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import first_answer
import large_photo
import latency
import onnxruntime
import predicting
import sides
import training
from prepared import Bench
from sides import Row

SCRIPTS = {
    "first_answer": first_answer.rows,
    "latency": latency.rows,
    "large_photo": large_photo.rows,
    "predicting": predicting.rows,
    "training": training.rows,
}
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
PACKAGES = ("spectraderm", "numpy", "pillow", "torch", "openvino")


def main() -> None:
    """Run them one after the other."""
    parser = sides.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    given = parser.parse_args()
    bench = Bench.of(given)
    print(
        f"{machine()}\n\n| what | peer | theirs | ours | | ratio |\n| --- | --- | --- | --- | --- | --- |", flush=True
    )
    for name in given.only:
        for row in SCRIPTS[name](bench):
            print(line(row), flush=True)
    if not bench.with_peers and not bench.smoke:
        sys.exit("Peers are missing: make bench-peers")


def line(row: Row) -> str:
    """A row of the table."""
    what, peer, theirs, subject, mine, ratio = sides.cells(row)
    ratio = f"{ratio} the bound" if row.bound and ratio else f"**{ratio}**" if ratio else ""
    return f"| {what} | {peer} | {theirs if peer else ''} | {subject} | {mine} | {ratio} |"


def machine() -> str:
    """Processor, what it can do, and versions."""
    cpu, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        facts = dict(pair.split(":", 1) for pair in info.read_text().splitlines() if ":" in pair)
        named = {name.strip(): value.strip() for name, value in facts.items()}
        cpu, flags = named.get("model name", cpu), named.get("flags", "")
    has = ", ".join(flag if flag in flags.split() else f"no {flag}" for flag in FLAGS)
    return f"{cpu}, {os.cpu_count()} cores ({has}); Python {platform.python_version()}, {versions()}."


def versions() -> str:
    """What is measured."""
    there = {dist.metadata["Name"].lower() for dist in metadata.distributions()}
    own = [f"{name} {metadata.version(name)}" for name in PACKAGES if name in there]
    return ", ".join([*own, f"onnxruntime {onnxruntime.__version__}"])


if __name__ == "__main__":
    main()
