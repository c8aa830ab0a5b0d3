"""The REST interface: what can be asked, and how the answers are told. FastAPI's door.

Bodies are in memory, bounded and complete before anything here sees them (`limits`); photos go to `workers`.
"""

import asyncio
from typing import Annotated, Any, NoReturn

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import Prediction
from spectraderm.serving import schemas as answers
from spectraderm.serving import uploads
from spectraderm.serving.journal import KEY, Journal, Record
from spectraderm.serving.metrics import CONTENT_TYPE, Metrics
from spectraderm.serving.middleware import Guards, Limits
from spectraderm.serving.pool import Pool
from spectraderm.serving.refusals import JSON, Malformed, NotReady, TooBusy, told
from spectraderm.serving.schemas import NOTICE, Answer, Failed, ModelFacts, Score, State, documented

_OF_PHOTOS = (400, 408, 413, 415, 422, 429, 503)
"""How requests with photos may fail, beside those that any may."""
_PHOTO = {"image/*": answers.BINARY, uploads.BYTES: answers.BINARY}


def create_app(pool: Pool, folder: ModelFolder, guards: Guards | None = None) -> FastAPI:
    """The REST interface to a pool, which whoever calls this starts and stops.

    Args:
        pool: answers for photos.
        folder: the pool's model.
        guards: what a request may cost.
    """
    guards, metrics = guards or Guards(), Metrics(pool)
    app = FastAPI(
        title="SpectraDerm",
        summary=NOTICE,
        version=str(folder.facts.get("spectraderm", "")) or "0",
        docs_url=None,  # the pages would come from elsewhere, and at run time nothing does
        redoc_url=None,
        middleware=[
            *_cors(guards),
            Middleware(Journal, metrics=metrics, draining=lambda: pool.draining),
            Middleware(Limits, guards=guards, over=lambda: pool.over),
        ],
        exception_handlers={RequestValidationError: _malformed, HTTPException: _http},
        responses=documented(401, 500),
    )
    _about_the_server(app, pool, folder, metrics)
    _about_photos(app, pool)
    _as_hugging_face(app, pool)
    return app


def _about_the_server(app: FastAPI, pool: Pool, folder: ModelFolder, metrics: Metrics) -> None:
    facts = answers.model_facts(folder)

    @app.get("/health")
    async def health() -> State:
        """The server is alive. Needs no key."""
        return State(status="ok")

    @app.get("/ready", responses=documented(503))
    async def ready() -> State:
        """The server answers for photos: the model has been loaded, and no stop is near. Needs no key."""
        if not pool.ready:
            raise NotReady("the model is being loaded, or the server is about to stop", "Ask again in some seconds")
        return State(status="ready")

    @app.get("/model", response_model=ModelFacts)
    async def model() -> Response:
        """What is known of the model, and what it promises."""
        return JSONResponse(facts)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def counted() -> Response:
        """What the server counts, for Prometheus."""
        return Response(metrics.page(), media_type=CONTENT_TYPE)


def _about_photos(app: FastAPI, pool: Pool) -> None:
    form = {uploads.FORM: answers.form_schema(uploads.MAX_PHOTOS)}

    @app.post(
        "/predict",
        response_model=Answer | list[Answer | Failed],
        responses=documented(*_OF_PHOTOS),
        openapi_extra={"requestBody": {"required": True, "content": _PHOTO | form}},
    )
    async def predict(
        request: Request,
        heatmap: Annotated[bool, Query(description="Say where the evidence lies.")] = False,
    ) -> Response:
        """What the model says of a photo, or of each of up to 16 photos of a form, in order."""
        media, record = uploads.kind(request), _record(request)
        if media == uploads.FORM:
            return JSONResponse(await _each(pool, await uploads.several(request), heatmap, record))
        if not uploads.is_photo(media):
            raise uploads.wrong_type(media, "image/jpeg", uploads.BYTES, uploads.FORM)
        return JSONResponse(answers.answer(await _noted(pool, await uploads.one(request), record), heatmap))


def _as_hugging_face(app: FastAPI, pool: Pool) -> None:
    asked = {JSON: {"schema": answers.asked_schema()}}

    @app.post(
        "/",
        response_model=list[Score],
        responses=documented(*_OF_PHOTOS),
        openapi_extra={"requestBody": {"required": True, "content": _PHOTO | asked}},
    )
    async def classify(request: Request) -> Response:
        """As Hugging Face's image classification; the verdict, which its answer has no place for, is in a header."""
        media, top_k = uploads.kind(request), answers.Parameters().top_k
        if media == JSON:
            data, top_k = uploads.asked(await request.body())
        elif uploads.is_photo(media) or not media:  # its clients do not say what they send
            data = await uploads.one(request)
        else:
            raise uploads.wrong_type(media, JSON, "image/jpeg", uploads.BYTES)
        said = await _noted(pool, data, _record(request))
        scores = [{"label": label, "score": score} for label, score in said.probabilities.items()]
        return JSONResponse(scores[:top_k], headers={"x-verdict": said.verdict, "x-notice": NOTICE})


async def _noted(pool: Pool, data: bytes, record: Record) -> Prediction:
    """Predict, and note what came of it."""
    try:
        said = await pool.predict(data)
    except SpectraDermError as error:
        record.outcomes.append(type(error).__name__)
        raise
    record.outcomes.append(said.verdict)
    return said


async def _each(pool: Pool, photos: list[bytes], heatmap: bool, record: Record) -> list[dict[str, Any]]:
    """Of each photo an `Answer` or a `Failed`, in order; no more at once than there are workers, so others get a turn.

    Raises `TooBusy` or `NotReady` where no photo got an answer, and that is among the reasons.
    """
    turns = asyncio.Semaphore(pool.workers)

    async def one(photo: bytes) -> Prediction | SpectraDermError:
        async with turns:
            try:
                return await pool.predict(photo)
            except SpectraDermError as error:
                return error

    said = await asyncio.gather(*map(one, photos))
    record.outcomes += [each.verdict if isinstance(each, Prediction) else type(each).__name__ for each in said]
    for each in said:
        if isinstance(each, (TooBusy, NotReady)) and not any(isinstance(other, Prediction) for other in said):
            raise each
    return [
        answers.answer(each, heatmap) if isinstance(each, Prediction) else {"error": told(each), "notice": NOTICE}
        for each in said
    ]


def _record(request: Request) -> Record:
    record: Record = request.scope["state"][KEY]
    return record


def _cors(guards: Guards) -> list[Middleware]:
    """Closed where no origin is named. Outermost, so that pages can read refusals, too."""
    if not guards.cors:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(guards.cors),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key"],
        expose_headers=["x-request-id", "x-verdict", "x-notice", "retry-after"],
    )
    return [cors]


async def _malformed(_: Request, error: Exception) -> NoReturn:
    raise Malformed("a parameter is not what is asked for", "See /openapi.json") from error


async def _http(request: Request, error: Exception) -> Response:
    """What FastAPI itself refuses: an address or a method that there is not."""
    assert isinstance(error, HTTPException)
    record = _record(request)
    record.error = {404: "NotFound", 405: "WrongMethod"}.get(error.status_code, "Malformed")
    problem = answers.WHY.get(error.status_code, answers.WHY[400]).rstrip(".")
    content = {"type": record.error, "problem": problem, "remedy": "See /openapi.json"}
    told_so = {"error": content, "request_id": record.request_id}
    return JSONResponse(told_so, error.status_code, dict(error.headers or {}))
