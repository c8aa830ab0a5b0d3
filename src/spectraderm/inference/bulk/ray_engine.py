"""The photos that remain -> Parquet files, by a Ray cluster on this machine or elsewhere. An extra."""

import os
import secrets
import socket

import pyarrow as pa
import pyarrow.fs
from fsspec import AbstractFileSystem

from spectraderm.core import Choice
from spectraderm.core.errors import SpectraDermError, needs
from spectraderm.core.parallel import chunks, cores
from spectraderm.inference.bulk import table
from spectraderm.inference.bulk.sources import Item, read_photos
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.engine import Runtime, first_line
from spectraderm.inference.model_folder import ModelFolder

_AGAIN = "Run the same command again: it goes on where it was"
_SECONDS = 10
_OBJECT_STORE = 200 << 20
"""Bytes of shared memory of a cluster on this machine."""


class _Answer:
    """What a worker runs: one model, one thread, batch after batch."""

    def __init__(self, model: ModelFolder, runtime: Runtime, calibration: Choice) -> None:
        self._classifier = Classifier(model, 1, runtime, calibration)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Photos, as the columns of `Item` -> rows of `predictions/`."""
        items = [Item(**row) for row in batch.to_pylist()]
        rows = [row for few in chunks(read_photos(items)) for row in table.answers(self._classifier, few)]
        return table.to_table(rows, self._classifier.labels)


def predict(
    model: ModelFolder,
    filesystem: AbstractFileSystem,
    folder: str,
    shard_size: int,
    address: str,
    workers: int,
    runtime: Runtime,
    calibration: Choice,
) -> None:
    """Answer `remaining.parquet` into `predictions/` of an output folder, which every machine of the cluster reaches.

    A worker that dies is replaced, and its batch is answered again. A file that a killed worker left unfinished has no
    Parquet footer, and is deleted by the next call.

    Raises:
        MissingExtra: Ray is not installed.
        SpectraDermError: there is no such cluster, or it failed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:  # before Ray is imported, which reads them then: nobody else on this machine may ask the cluster
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with needs("ray", "what predicts on a cluster"):
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    _connect(ray, address, workers)
    try:
        size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        store = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(filesystem))
        ray.data.DataContext.get_current().enable_progress_bars = False
        photos = ray.data.read_parquet(f"{folder}/remaining.parquet", filesystem=store)
        photos.repartition(target_num_rows_per_block=shard_size).map_batches(
            _Answer,
            fn_constructor_args=(model, runtime, calibration),
            batch_size=shard_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size),
            num_cpus=1,
        ).write_parquet(f"{folder}/predictions", filesystem=store)
    except ray.exceptions.RayError as error:
        raise SpectraDermError(f"the Ray cluster failed ({first_line(error)})", _AGAIN) from error
    finally:
        ray.shutdown()


def _connect(ray: object, address: str, workers: int) -> None:
    """Join a cluster, or start one on this machine."""
    if address.startswith("ray://"):
        remedy = "Run the command on a machine of the cluster, with --address auto"
        raise SpectraDermError("Ray Data does not run through Ray Client (ray://)", remedy)
    options = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None if address else False}
    if not address:
        options |= {"num_cpus": workers or cores(), "object_store_memory": _OBJECT_STORE}
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would wait for minutes where nobody listens
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
        ray.init(address=address or "local", **options)  # type: ignore[attr-defined]
    except (OSError, ValueError, RuntimeError) as error:
        remedy = "Start one with `ray start --head`, or leave --address out" if address else _AGAIN
        raise SpectraDermError(
            f"no Ray cluster at {address or 'this machine'} ({first_line(error)})", remedy
        ) from error
