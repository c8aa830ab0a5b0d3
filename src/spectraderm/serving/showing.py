"""Pages for whoever made a model: the report of a run, and two models beside each other on one photo."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.middleware import Middleware

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError, needs
from spectraderm.inference.model_folder import open_model
from spectraderm.serving.journal import Journal
from spectraderm.serving.metrics import Metrics
from spectraderm.serving.middleware import Limits
from spectraderm.serving.pool import Pool
from spectraderm.serving.server import ServeOptions, run


def serve_report(folder: Path, host: str, port: int) -> None:
    """Serve the report of a run at `/`, and its gallery of copies, until SIGINT or SIGTERM.

    Raises:
        RunFolderError: the run has no report.
    """
    report = folder / artifacts.REPORT
    if not report.is_file():
        raise RunFolderError(f"{folder} has no {artifacts.REPORT}", "Run `spectraderm evaluate RUN` first")
    run(report_app(folder), [], ServeOptions(host=host, port=port), str(report))


def report_app(folder: Path) -> FastAPI:
    """What `serve_report` serves: these two files of the run folder and no other."""
    app = FastAPI(openapi_url=None)

    @app.get(f"/{artifacts.GALLERY}")
    async def gallery() -> FileResponse:
        return FileResponse(folder / artifacts.GALLERY)

    @app.get("/")
    @app.get(f"/{artifacts.REPORT}")
    async def report() -> FileResponse:
        return FileResponse(folder / artifacts.REPORT)

    return app


def serve_comparison(models: list[str | None], host: str, port: int) -> None:
    """Serve a page that shows what several models say of one photo, until SIGINT or SIGTERM.

    Raises:
        ModelFolderError: as `spectraderm.load_model`.
        MissingExtra: Gradio is not installed.
    """
    knowns = [open_model(model) for model in models]
    with needs("page", "the web page"):
        from spectraderm.serving.page.mount import mount_compare  # noqa: PLC0415
    options = ServeOptions(host=host, port=port, workers=1)
    pools = [Pool(model, options.workers, options.queue, options.seconds) for model in models]
    journal = Middleware(Journal, metrics=Metrics(pools[0]), draining=lambda: pools[0].draining)
    app = FastAPI(openapi_url=None, middleware=[journal, Middleware(Limits, guards=options.guards, over=lambda: False)])
    asked = [(known, pool.predict) for known, pool in zip(knowns, pools, strict=True)]
    run(mount_compare(app, asked), pools, options, " and ".join(known.model_id for known in knowns))
