"""`python -m benchmarks peers ...` is `python benchmarks/peers.py ...`; without a name, what there is."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if '"__main__"' in path.read_text() and path.stem != "__main__")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"python -m benchmarks NAME ...; NAME is one of {', '.join(NAMES)}")
    sys.path[0] = str(HERE)
    sys.argv = [str(HERE / f"{sys.argv[1]}.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
