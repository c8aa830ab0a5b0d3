"""What the comparisons need before a clock runs: networks, run folders, trained models, painted photos. Made once."""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sides
from PIL import Image

import spectraderm
from spectraderm.data.synthetic import paint, paint_photo

LABEL = "FU-ringworm"
DEFAULT, FULL, THIN = "default model", "full ResNet-50", "open-nsfw-thin"


@dataclass(frozen=True)
class Bench:
    """Where everything lies, and how much of it is measured.

    Attributes:
        given: photos in train_set and test_set; None where they are painted.
        work: what is prepared goes there.
        peers: Python that has the peers; it need not be there.
        rounds: how often each side takes its turn.
        smoke: whether this only tries the scripts out.
    """

    given: Path | None
    work: Path
    peers: Path
    rounds: int
    smoke: bool

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Bench":
        """As the options of `sides.parser` say."""
        work = given.work / "smoke" if given.smoke else given.work
        work.mkdir(parents=True, exist_ok=True)
        rounds = 1 if given.smoke else given.rounds
        return cls(None if given.smoke else given.data, work.resolve(), given.peers, rounds, given.smoke)

    @property
    def with_peers(self) -> bool:
        """Whether there is another side."""
        return self.peers.exists() and not self.smoke

    @property
    def data(self) -> Path:
        """The photos."""
        if self.given:
            return self.given.resolve()
        painted = self.work / "photos"
        if not painted.is_dir():
            for broken in paint(painted, per_class=4 if self.smoke else 24).unreadable:
                (painted / broken).unlink()
        return painted

    @property
    def tests(self) -> Path:
        """The test photos."""
        return self.data / "test_set"

    @property
    def weights(self) -> Path:
        """A full ResNet-50."""
        import resnet50  # noqa: PLC0415  # it brings torch along

        return resnet50.write(self.work / "resnet50", self.smoke)

    @cached_property
    def photo(self) -> Path:
        """A photo of common size."""
        return painted(self.work / "photo.jpg", (640, 480))

    @cached_property
    def large_photo(self) -> Path:
        """A photo of 12 megapixels, as phones take them."""
        return painted(self.work / "large.jpg", (800, 600) if self.smoke else (4000, 3000))

    @cached_property
    def pipeline_model(self) -> Path:
        """A full ResNet-50 as `transformers.pipeline` opens it."""
        folder = self.work / "pipeline"
        if not (folder / "config.json").is_file():
            script = sides.program(self.peers, "transformers_pipeline.py", "write", folder, self.weights)
            subprocess.run(script, check=True, capture_output=True, env=sides.environment())
        return folder

    @cached_property
    def models(self) -> dict[str, Path]:
        """The model folders of ours that are compared, by name."""
        full = self.model(FULL)
        return {DEFAULT: full if self.smoke else Path(spectraderm.__file__).parent / "default_model", FULL: full}

    def split(self) -> Path:
        """A run folder, audited and split as the folders came, and not trained."""
        run = self.work / "split"
        if not (run / "split.csv").is_file():
            shutil.rmtree(run, ignore_errors=True)
            sides.ours("audit", self.data, "--out", run, "--no-crops")
            sides.ours("split", run, "--split", "original", "--folds", 1)
        return run

    def backbone(self, name: str) -> str:
        """What `--backbone` is to say."""
        return str(self.weights) if name == FULL or self.smoke else THIN

    def model(self, name: str) -> Path:
        """A model folder of the recipe `notebook` on a backbone."""
        run = self.work / name.replace(" ", "-")
        if not (run / "model").is_dir():
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(self.split(), run)
            train(run, self.backbone(name), self.work / "cache", 1 if self.smoke else None)
            sides.ours("export", run)
        return run / "model"


def train(run: Path, backbone: str, cache: Path, epochs: int | None = None) -> list[sides.Watched]:
    """The recipe `notebook` in a split run folder, to its accuracy on the test photos."""
    some = ("--epochs", epochs) if epochs else ()
    command = ("train", run, "--recipe", "notebook", "--backbone", backbone, "--device", "cpu", *some)
    return [sides.ours(*command, cache=cache), sides.ours("calibrate", run), sides.ours("evaluate", run)]


def painted(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """A painted JPEG at `path`; large ones are painted smaller, enlarged, and given grain, as a camera's have."""
    if not path.is_file():
        rng = np.random.default_rng(seed)
        small = min(size[0], 1000), min(size[1], 750)
        image: Image.Image = paint_photo(LABEL, rng, small).resize(size, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
        grainy = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(grainy).save(path, quality=90)
    return path


def start(about: str | None) -> Bench:
    """A script's options."""
    bench = Bench.of(sides.parser(about).parse_args())
    if not bench.with_peers and not bench.smoke:
        print(f"{bench.peers} is not there, so that only our side is measured: make bench-peers", file=sys.stderr)
    return bench
