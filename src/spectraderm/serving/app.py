"""The REST interface: its routes, and how photos arrive in their requests. FastAPI's door.

Bodies are complete, in memory and within the limits before any route runs (`middleware`); photos go to the `pool`.
"""

import asyncio
import json
import mimetypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import Prediction, experience, promise
from spectraderm.serving.bodies import (
    BYTES,
    FORM,
    JSON,
    MAX_PHOTOS,
    TOP_K,
    form_photos,
    json_photo,
    media_type,
    whole_photo,
)
from spectraderm.serving.middleware import Gate, LogEntry, ServeOptions
from spectraderm.serving.pool import Pool
from spectraderm.serving.refusals import Refusal, kind_of, public
from spectraderm.serving.schemas import BINARY, INPUTS, NOTICE, About, Answer, Failed, Score, documented
from spectraderm.serving.spaces.site import page_files

_PHOTO = {"image/*": BINARY, BYTES: BINARY}
_PHOTO_ERRORS = documented(400, 408, 413, 415, 422, 429, 503)
_Parsed = TypeVar("_Parsed")
_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


def create_app(pool: Pool, model: ModelFolder, options: ServeOptions) -> FastAPI:
    """The REST interface to a pool, which the caller starts and stops, and the page at `/`; `model` is the pool's."""
    registry = CollectorRegistry()
    gate = Middleware(Gate, options=options, draining=lambda: pool.draining, log=_logger(registry, pool))
    app = FastAPI(
        title="SpectraDerm",
        summary=NOTICE,
        version=str(model.facts.get("spectraderm", "")) or "0",
        openapi_url=None,
        docs_url=None,  # the pages would load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,  # its addresses would be made of what the client says is the host
        middleware=[gate],
        exception_handlers={RequestValidationError: _refuse, HTTPException: _refuse},
        responses=documented(401, 500),
    )
    _add_server_routes(app, pool, model, registry)
    _add_photo_routes(app, pool, int(1e6 * options.max_mb))
    files = page_files(model, options.max_mb)  # the page's script sends photos to `/predict`
    files["openapi.json"] = json.dumps(app.openapi()).encode()  # once, not for each who asks
    for name, data in files.items():
        file = Response(data, media_type=mimetypes.guess_type(name)[0] or BYTES)
        app.routes.append(Route("/" if name == "index.html" else f"/{name}", file, methods=["GET"]))
    return app


def _add_server_routes(app: FastAPI, pool: Pool, model: ModelFolder, registry: CollectorRegistry) -> None:
    facts: dict[str, Any] = {name: model.facts.get(name) for name in ("parity", "robustness", "recipe")}
    facts |= {"model_id": model.model_id, "labels": model.labels, "display_names": model.display_names}
    facts |= {"training_photos": len(model.references), "calibration": model.facts["calibration"], "notice": NOTICE}
    facts |= {"experience": experience(model.facts["calibration"]), "promise": promise(model.calibrations)}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The server is alive. Needs no key."""
        return {"status": "ok"}

    @app.get("/ready", responses=documented(503))
    async def ready() -> dict[str, str]:
        """The server classifies photos, and is not about to stop. Needs no key."""
        if not pool.ready:
            raise Refusal("NotReady", "the server is about to stop, or restarts its workers", "Ask again in a second")
        return {"status": "ready"}

    @app.get("/model", response_model=About)
    async def facts_of_model() -> JSONResponse:
        """What the model knows, how often it was right on photos from elsewhere, and what it promises."""
        return JSONResponse(facts)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters of requests, photos and seconds, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _add_photo_routes(app: FastAPI, pool: Pool, most: int) -> None:
    files = {"type": "array", "minItems": 1, "maxItems": MAX_PHOTOS, "items": BINARY["schema"]}
    form = {FORM: {"schema": {"type": "object", "required": ["photo"], "properties": {"photo": files}}}}
    one_at_a_time = ThreadPoolExecutor(1)  # parsing copies a body a few times

    async def parsed(parse: Callable[..., _Parsed], *arguments: object) -> _Parsed:
        """What a function of a body gives, which may take longer than others should wait."""
        return await asyncio.get_running_loop().run_in_executor(one_at_a_time, parse, *arguments)

    @app.post(
        "/predict",
        response_model=Answer | list[Answer | Failed],
        responses=_PHOTO_ERRORS,
        openapi_extra={"requestBody": {"required": True, "content": _PHOTO | form}},
    )
    async def predict(
        request: Request, heatmap: Annotated[bool, Query(description="Also where the evidence lies.")] = False
    ) -> Response:
        """The prediction of one photo, or of each of up to 16 photos of a form, in order."""
        sent, body = request.headers.get("content-type", ""), request.state.body
        media = media_type(sent)
        photos = await parsed(form_photos, body, sent) if media == FORM else [whole_photo(body, media, FORM)]
        results = await _predict(pool, request, photos)
        if media != FORM and not isinstance(results[0], Prediction):
            raise results[0]
        answers = [
            (one if heatmap else replace(one, heatmap=[])).to_dict() | {"notice": NOTICE}
            if isinstance(one, Prediction)
            else {"error": public(one), "notice": NOTICE}
            for one in results
        ]
        return JSONResponse(answers if media == FORM else answers[0])

    @app.post(
        "/",
        response_model=list[Score],
        responses=_PHOTO_ERRORS,
        openapi_extra={"requestBody": {"required": True, "content": _PHOTO | {JSON: {"schema": INPUTS}}}},
    )
    async def classify(request: Request) -> Response:
        """As Hugging Face's image classification; headers hold the verdict, for which its body has no place."""
        body, top_k = request.state.body, TOP_K[0]
        media = media_type(request.headers.get("content-type", "")) or BYTES  # its clients name no type
        if media == JSON:
            photo, top_k = await parsed(json_photo, body, most)
        else:
            photo = whole_photo(body, media, JSON)
        (result,) = await _predict(pool, request, [photo])
        if not isinstance(result, Prediction):
            raise result
        scores = [{"label": label, "score": score} for label, score in result.probabilities.items()]
        return JSONResponse(scores[:top_k], headers={"x-verdict": result.verdict, "x-notice": NOTICE})


def _logger(registry: CollectorRegistry, pool: Pool) -> Callable[[LogEntry], None]:
    """Counts each finished request in the metrics, and writes its line of the access log to stderr."""
    requests = Counter("spectraderm_requests", "By HTTP status.", ["status"], registry=registry)
    photos = Counter("spectraderm_photos", "By verdict, or by error.", ["outcome"], registry=registry)
    seconds = Histogram("spectraderm_request_seconds", "Of requests with photos.", buckets=_BUCKETS, registry=registry)
    pending = Gauge("spectraderm_photos_pending", "Waiting or being classified.", registry=registry)
    pending.set_function(lambda: pool.pending)

    def log(entry: LogEntry) -> None:
        requests.labels(str(entry.status)).inc()
        for outcome in entry.outcomes:
            photos.labels(outcome).inc()
        if entry.outcomes:
            seconds.observe(entry.seconds)
        if sys.stderr is not None:
            sys.stderr.write(entry.line() + "\n")

    return log


async def _predict(pool: Pool, request: Request, photos: list[bytes]) -> list[Prediction | SpectraDermError]:
    """The result of each photo, in order; no more at once than there are workers, so that others get a turn.

    Raises a `Refusal` where the server is too busy, or about to stop, and no photo has a prediction.
    """
    turns = asyncio.Semaphore(pool.size)

    async def one(photo: bytes) -> Prediction | SpectraDermError:
        async with turns:
            try:
                return await pool.predict(photo)
            except SpectraDermError as error:
                return error

    results = await asyncio.gather(*map(one, photos))
    entry: LogEntry = request.scope["state"]["entry"]
    entry.outcomes += [one.verdict if isinstance(one, Prediction) else kind_of(one) for one in results]
    busy = [one for one in results if isinstance(one, Refusal) and one.status in (429, 503)]
    if busy and not any(isinstance(one, Prediction) for one in results):
        raise busy[0]
    return results


async def _refuse(_: Request, error: Exception) -> NoReturn:
    """Turn FastAPI's refusal of a path, method or parameter into a `Refusal`."""
    kind = {404: "NotFound", 405: "WrongMethod"}.get(getattr(error, "status_code", 400), "Malformed")
    problem = "there is no such path, method or value of a parameter"
    raise Refusal(kind, problem, "See /openapi.json", dict(getattr(error, "headers", None) or {})) from error
