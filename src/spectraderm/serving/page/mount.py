"""The web page, and Gradio's API beside it: Gradio's one door.

Nothing of it asks another host for anything, and no photo is ever written to a file.
"""

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import Prediction
from spectraderm.serving.content import WORDS
from spectraderm.serving.page import view
from spectraderm.serving.page.gate import Gate
from spectraderm.serving.page.intake import Uploads
from spectraderm.serving.page.overlay import picture
from spectraderm.serving.refusals import told


def _quiet() -> Path:
    """Before Gradio is imported: no telemetry, and a folder of its own for its scraps, in memory where there is one."""
    memory = Path("/dev/shm")  # noqa: S108
    folder = tempfile.mkdtemp(prefix="spectraderm-", dir=memory if os.access(memory, os.W_OK) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return Path(folder)


_SCRAPS = _quiet()
import gradio as gr  # noqa: E402

Predict = Callable[[bytes], Awaitable[Prediction]]
_FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")


@dataclass(frozen=True)
class _Model:
    """One model behind the page."""

    about: ModelFolder
    predict: Predict


def mount_page(app: FastAPI, predict: Predict, about: ModelFolder, max_mb: float = 16) -> FastAPI:
    """Add the page to an app, at `/`; every route that the app has by now goes first.

    Args:
        app: also gets what Gradio's clients need, below `/gradio_api`; the endpoint `/predict` there gives a
            `Prediction` as JSON.
        predict: bytes of a photo, as they came -> what the model says of it; may raise any `SpectraDermError`.
        about: the model.
        max_mb: megabytes that one photo may have.
    """
    return _mount(app, [_Model(about, predict)], max_mb)


def mount_compare(app: FastAPI, models: Sequence[tuple[ModelFolder, Predict]], max_mb: float = 16) -> FastAPI:
    """The same page for several models: one photo, their answers side by side; `/predict` gives a list."""
    return _mount(app, [_Model(about, predict) for about, predict in models], max_mb)


def _button(uploads: Uploads) -> gr.UploadButton:
    """A button for one photo; to Python it is the photo's bytes as they came.

    Gradio would open any path or address that a client gives for a file: this takes only the name of what was uploaded.
    (Not a subclass: Gradio writes a file beside the source of each.)
    """

    def taken(payload: Any) -> bytes:  # noqa: ANN401
        try:
            return uploads.take(payload.path if payload else "")
        except SpectraDermError as error:
            raise _told(error) from None

    async def untouched(name: str) -> str:
        return name

    button = gr.UploadButton(WORDS["page"]["choose"], elem_id="photo", variant="primary")
    button.preprocess = taken  # type: ignore[method-assign]
    button.async_move_resource_to_block_cache = untouched  # type: ignore[method-assign, assignment]
    return button


def _told(error: SpectraDermError) -> gr.Error:
    words = told(error)
    return gr.Error(f"{words['problem']}. {words['remedy']}", print_exception=False)


def _mount(app: FastAPI, models: Sequence[_Model], max_mb: float) -> FastAPI:
    uploads = Uploads(int(1e6 * max_mb))
    app.add_route("/gradio_api/upload", uploads.receive, methods=["POST"], include_in_schema=False)
    gr.mount_gradio_app(
        app,
        _blocks(models, uploads, max_mb),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=int(1e6 * max_mb),
        enable_monitoring=False,
        favicon_path=str(resources.files("spectraderm.serving.page") / "icon.png"),
        theme=gr.themes.Base(font=_FONTS, font_mono=("ui-monospace", "monospace")),
        head=view.head(),
    )
    shutil.rmtree(_SCRAPS, ignore_errors=True)  # nothing is needed there: what tried to write a file would fail
    whole = app.router.routes.pop()
    app.router.routes.append(Gate("/", whole.app))  # type: ignore[attr-defined]
    return app


def _blocks(models: Sequence[_Model], uploads: Uploads, max_mb: float) -> gr.Blocks:
    about, several = models[0].about, len(models) > 1
    blocks = gr.Blocks(title="SpectraDerm", analytics_enabled=False)
    with blocks:
        gr.HTML(view.part("top", several=several, count=len(about.labels)))
        with gr.Row(elem_id="work", elem_classes=["several"] if several else []):
            with gr.Column(elem_id="intake"):
                gr.HTML(view.part("drop"))
                photo = _button(uploads)
                gr.HTML(view.intake(max_mb))
            answer = gr.HTML(view.part("first"), elem_id="answer", js_on_load=_LIVE)
        gr.HTML(view.bottom([model.about for model in models]))
        _wire(models, photo, answer)
    blocks.queue(default_concurrency_limit=None)
    return blocks


_LIVE = "element.setAttribute('aria-live', 'polite'); element.setAttribute('role', 'status');"


def _wire(models: Sequence[_Model], photo: gr.UploadButton, answer: gr.HTML) -> None:
    look = asyncio.Semaphore(1)  # decoding for show: one photo at a time, however large

    async def show(data: bytes) -> AsyncIterator[str]:
        yield view.part("waiting")
        try:
            yield view.answers(await asyncio.gather(*(_ask(model, data, look) for model in models)))
        except Exception:
            yield view.part("failed")
            raise

    async def predict(data: bytes) -> dict[str, Any] | list[dict[str, Any]]:
        try:
            said = [one.to_dict() for one in await asyncio.gather(*(model.predict(data) for model in models))]
        except SpectraDermError as error:
            raise _told(error) from None
        return said if len(models) > 1 else said[0]

    photo.upload(show, photo, answer, show_progress="hidden", trigger_mode="always_last", api_visibility="private")
    asked, said = gr.Button(visible=False), gr.JSON(visible=False)
    asked.click(predict, photo, said, api_name="predict", api_description=f"What the model says. {WORDS['notice']}")


async def _ask(model: _Model, data: bytes, look: asyncio.Semaphore) -> view.Answer:
    try:
        said = await model.predict(data)
        shown = said.heatmap if said.verdict in ("predicted", "unsure") else []
        async with look:
            seen = await asyncio.to_thread(picture, data, shown, model.about.preprocessing)
    except SpectraDermError as error:
        return view.Answer(model.about, error)
    return view.Answer(model.about, said, seen)
