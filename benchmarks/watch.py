"""Runs a command, and prints as JSON what it took; small itself, for Linux counts a parent's memory as its child's.

    python -S watch.py COMMAND [ARGUMENT ...]

`first` and `seconds` until the first line and until the end, `peak` resident MB of the largest process, number of
`lines`, and the `last` of them.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run and watch; ends as the command does."""
    start = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
    assert child.stdout
    last, lines, first = b"", 0, 0.0
    for last in child.stdout:  # noqa: B007
        first = first or time.perf_counter() - start
        lines += 1
    _, status, used = os.wait4(child.pid, 0)
    told = {"first": first, "seconds": time.perf_counter() - start, "peak": used.ru_maxrss / 1024, "lines": lines}
    print(json.dumps(told | {"last": last.decode()}), flush=True)
    child.returncode = 0  # it was waited for
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
