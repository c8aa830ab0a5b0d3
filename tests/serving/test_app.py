"""The REST interface and its middleware, in one process: every request, right and wrong."""

import asyncio
import base64
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import encode, jpeg_of_size, paint
from handmade import LABELS, write_model
from PIL import Image
from pydantic import TypeAdapter

import spectraderm
from spectraderm import Classifier
from spectraderm.core.errors import MissingExtra, ModelFolderError
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.inference.prediction import Prediction
from spectraderm.serving import pool as pools
from spectraderm.serving.app import create_app
from spectraderm.serving.content import WORDS
from spectraderm.serving.middleware import ServeOptions
from spectraderm.serving.pool import Pool
from spectraderm.serving.schemas import Answer, Refused

JPEG = {"content-type": "image/jpeg"}
Client = httpx.AsyncClient


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "secret-place")


@pytest.fixture(scope="module")
def model(folder: Path) -> Classifier:
    return spectraderm.load_model(folder, threads=1)


@pytest.fixture(scope="module")
def opened(folder: Path) -> ModelFolder:
    return open_model(folder)


@pytest.fixture
def photo() -> bytes:
    return encode(paint(3, (230, 170)))


class Here:
    """In place of a worker process: the model in this one."""

    model: Classifier

    def __init__(self, source: str | None, runtime: str) -> None:  # noqa: ARG002
        self.alive = True

    async def start(self) -> None: ...

    def kill(self) -> None: ...

    async def predict(self, photo: bytes) -> Prediction:
        return await asyncio.to_thread(self.model.predict, photo)


Steps = Callable[[Client], Coroutine[Any, Any, None]]
Serve = Callable[..., None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, model: Classifier, opened: ModelFolder) -> Serve:
    """Runs steps with a client of a server with these options."""
    monkeypatch.setattr(pools, "Worker", Here)
    monkeypatch.setattr(Here, "model", model, raising=False)

    def run(steps: Steps, **options: Any) -> None:  # noqa: ANN401
        async def all_of_it() -> None:
            settings = ServeOptions(workers=2, queue=4, **options)
            pool = Pool(settings)
            await pool.start()
            transport = httpx.ASGITransport(create_app(pool, opened, settings))
            async with Client(transport=transport, base_url="http://server") as client:
                await steps(client)
            pool.stop()

        asyncio.run(all_of_it())

    return run


def test_a_photo_gets_the_prediction_of_every_other_door(serve: Serve, model: Classifier, photo: bytes) -> None:
    expected = model.predict(photo).to_dict() | {"notice": WORDS["notice"]}

    async def steps(client: Client) -> None:
        got = await client.post("/predict", content=photo, headers=JPEG)
        assert (got.status_code, got.json()) == (200, expected | {"heatmap": []})
        got = await client.post("/predict?heatmap=true", content=photo, headers={"content-type": octets})
        assert got.json() == expected
        assert list(got.json()["probabilities"]) == list(expected["probabilities"])
        black = await client.post("/predict", content=encode(Image.new("RGB", (99, 99)), "PNG"), headers=JPEG)
        assert (black.status_code, black.json()["verdict"]) == (200, "unusable_photo")
        for one in (got, black):
            TypeAdapter(Answer).validate_python(one.json(), strict=False)

    octets = "application/octet-stream; x=y"
    serve(steps)


def test_several_photos_in_order_and_a_bad_one_harms_no_other(serve: Serve, model: Classifier, photo: bytes) -> None:
    photos = [photo, b"no photo", *(encode(paint(seed)) for seed in range(14))]

    async def steps(client: Client) -> None:
        got = await client.post("/predict", files=[("photo", ("canary.jpg", data)) for data in photos])
        assert got.status_code == 200
        listed = got.json()
        assert listed[1]["error"]["type"] == "UnreadablePhoto"
        assert ["error" in one for one in listed] == [number == 1 for number in range(16)]  # though few may wait
        assert [one["notice"] for one in listed] == [WORDS["notice"]] * 16
        for one, data in zip(listed, photos, strict=True):
            if "error" not in one:
                assert one["novelty"] == model.predict(data).novelty
        assert "canary" not in got.text
        alone = await client.post("/predict", files={"x": ("a", photo)})
        assert len(alone.json()) == 1

    serve(steps)


def test_nothing_is_written_to_disk(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of a photo larger than what Starlette keeps in memory."""
    large = encode(paint(1, (1600, 1200)), "BMP")
    assert len(large) > 5_000_000

    def rollover(self: object) -> None:
        raise AssertionError("written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)

    async def steps(client: Client) -> None:
        got = await client.post("/predict", files={"photo": ("a.bmp", large)})
        assert got.json()[0]["label"] in LABELS

    serve(steps)


def form(*parts: bytes, boundary: bytes = b"x") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


_FILE = b'Content-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
_FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'
_FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "kind"),
    [
        (b"", JPEG, 400, "Malformed"),
        (b"text", JPEG, 422, "UnreadablePhoto"),
        (jpeg_of_size(30000, 30000), JPEG, 422, "UnreadablePhoto"),
        (encode(paint(0))[:900], JPEG, 422, "UnreadablePhoto"),
        (b"x", {}, 415, "WrongType"),
        (b"x", {"content-type": "application/x-www-form-urlencoded"}, 415, "WrongType"),
        (b"x", {"content-type": "/;;;\xff"}, 415, "WrongType"),
        (b"x", JPEG | {"content-encoding": "gzip"}, 415, "WrongType"),
        (b"x", {"content-type": "multipart/form-data"}, 400, "Malformed"),
        (b"x", _FORM, 400, "Malformed"),
        (form(_FILE + b"y", boundary=b"other"), _FORM, 400, "Malformed"),
        (form(_FILE + b"y")[:-8], _FORM, 400, "Malformed"),
        (form(), _FORM, 400, "Malformed"),
        (form(_FIELD + b"no file"), _FORM, 400, "Malformed"),
        (form(_FILE + b"y", _FIELD + b"no file"), _FORM, 400, "Malformed"),
        (form(*[_FILE + b"y"] * 17), _FORM, 400, "Malformed"),
        (form(*[_FIELD + b"y"] * 10_000), _FORM, 400, "Malformed"),
        (form(b"No-Disposition: 1\r\n\r\nx"), _FORM, 400, "Malformed"),
        (form(_FIELD + b"y" * 100_000), _FORM, 400, "Malformed"),
    ],
)
def test_bad_bodies_are_refused(
    serve: Serve, content: bytes, headers: dict[str, str], status: int, kind: str, folder: Path
) -> None:
    async def steps(client: Client) -> None:
        raw = httpx.Headers(headers, encoding="latin-1")
        got = await client.post("/predict", content=content, headers=raw)
        assert (got.status_code, got.json()["error"]["type"]) == (status, kind)
        assert got.json()["error"]["problem"]
        assert got.json()["request_id"] == got.headers["x-request-id"]
        Refused.model_validate(got.json(), strict=True)
        assert folder.name not in got.text
        assert "(" not in got.json()["error"]["problem"]  # what the decoder says could quote the photo

    serve(steps)


def test_addresses_methods_and_parameters_that_there_are_not(serve: Serve, photo: bytes) -> None:
    async def steps(client: Client) -> None:
        assert (await client.get("/nothing")).json()["error"]["type"] == "NotFound"
        got = await client.get("/predict")
        assert (got.status_code, got.headers["allow"]) == (405, "POST")
        got = await client.post("/predict?heatmap=perhaps", content=photo, headers=JPEG)
        assert (got.status_code, got.json()["error"]["type"]) == (400, "Malformed")
        assert "perhaps" not in got.text
        for path in ("/docs", "/redoc"):  # their pages would load scripts from elsewhere
            assert (await client.get(path)).status_code == 404

    serve(steps)


def test_hugging_face_inference(serve: Serve, model: Classifier, photo: bytes) -> None:
    expected = [{"label": name, "score": value} for name, value in model.predict(photo).probabilities.items()]
    text = base64.b64encode(photo).decode()

    async def steps(client: Client) -> None:
        got = await client.post("/", content=photo, headers=JPEG)
        assert (got.json(), got.headers["x-verdict"]) == (expected, model.predict(photo).verdict)
        assert got.headers["x-notice"] == WORDS["notice"]
        assert (await client.post("/", json={"inputs": text})).json() == expected
        got = await client.post("/", json={"inputs": text, "parameters": {"top_k": 1}})
        assert got.json() == expected[:1]
        refused: tuple[object, ...] = (
            {"inputs": "https://example.org/a.jpg"},
            {"inputs": 3},
            {},
            [],
            {"inputs": text, "parameters": {"top_k": 0}},
            {"inputs": text, "parameters": {"canary": 1}},
            {"inputs": text, "canary": 1},
        )
        for bad in refused:
            got = await client.post("/", json=bad)
            assert (got.status_code, got.json()["error"]["type"]) == (400, "Malformed")
            assert "canary" not in got.text
        for nested in (b"[" * 100_000, b"{", b"\xff\xfe"):
            got = await client.post("/", content=nested, headers={"content-type": "application/json"})
            assert got.status_code == 400
        assert (await client.post("/", content=b"x", headers={"content-type": "text/plain"})).status_code == 415
        assert (await client.post("/", content=photo)).json() == expected  # as Hugging Face's client sends bytes
        assert (await client.post("/", content=b"x", headers=JPEG)).status_code == 422

    serve(steps)


def test_health_readiness_and_facts(serve: Serve, model: Classifier) -> None:
    async def steps(client: Client) -> None:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).json() == {"status": "ready"}
        facts = (await client.get("/model")).json()
        assert (facts["model_id"], facts["labels"]) == (model.model_id, model.labels)
        assert facts["calibration"]["coverage"] == model.calibration.coverage

    serve(steps)


def test_metrics_count_what_happened(serve: Serve, photo: bytes, model: Classifier) -> None:
    verdict = model.predict(photo).verdict

    async def steps(client: Client) -> None:
        await client.post("/predict", content=photo, headers=JPEG)
        await client.post("/predict", content=b"x", headers=JPEG)
        await client.post("/predict", files=[("a", ("a", photo)), ("a", ("b", b"x"))])
        got = await client.get("/metrics")
        lines = dict(line.rsplit(" ", 1) for line in got.text.splitlines() if not line.startswith("#"))
        assert lines[f'spectraderm_photos_total{{outcome="{verdict}"}}'] == "2.0"
        assert lines['spectraderm_photos_total{outcome="UnreadablePhoto"}'] == "2.0"
        assert lines['spectraderm_requests_total{status="200"}'] == "2.0"
        assert lines['spectraderm_requests_total{status="422"}'] == "1.0"
        assert lines["spectraderm_request_seconds_count"] == "3.0"
        assert lines["spectraderm_photos_pending"] == "0.0"

    serve(steps)


def test_the_access_log_has_a_line_per_request_and_nothing_of_the_photo(
    serve: Serve, photo: bytes, model: Classifier, capfd: pytest.CaptureFixture[str]
) -> None:
    async def steps(client: Client) -> None:
        mine = {"x-request-id": "canary", "user-agent": "canary"}
        await client.post("/predict?canary=1", content=photo, headers=JPEG | mine)
        await client.post("/predict", content=b"canary", headers=JPEG)
        await client.post("/predict", files=[("canary", ("canary", photo)), ("a", ("b", b"canary"))])
        await client.post("/predict", content=b"--canary", headers={"content-type": "multipart/form-data; boundary=y"})
        await client.get("/canary")

    serve(steps)
    printed = capfd.readouterr()
    lines = [json.loads(line) for line in printed.err.splitlines()]
    verdict = model.predict(photo).verdict
    logged = [verdict, "UnreadablePhoto", [verdict, "UnreadablePhoto"], "Malformed", "NotFound"]
    assert [line["verdict"] for line in lines] == logged
    assert all(set(line) == {"time", "request_id", "verdict", "ms"} for line in lines)
    assert "canary" not in printed.err + printed.out


@pytest.mark.parametrize(
    ("fails", "status", "kind"),
    [
        (ModelFolderError("/root/secret-place is damaged"), 500, "ModelFolderError"),
        (KeyError("secret-place"), 500, "KeyError"),
        (MissingExtra("a HEIC photo's decoder", "heic"), 422, "MissingExtra"),
    ],
)
def test_failures_of_the_server_say_nothing_of_it(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    photo: bytes,
    fails: Exception,
    status: int,
    kind: str,
) -> None:
    async def predict(self: Pool, data: bytes) -> Prediction:
        raise fails

    monkeypatch.setattr(Pool, "predict", predict)

    async def steps(client: Client) -> None:
        got = await client.post("/predict", content=photo, headers=JPEG)
        assert (got.status_code, got.json()["error"]["type"]) == (status, kind)
        assert "secret-place" not in got.text
        assert "pip" not in got.text

    serve(steps)
    printed = capfd.readouterr().err
    assert json.loads(printed)["verdict"] == kind
    assert "secret-place" not in printed
    assert ("where" in printed) == (kind == "KeyError")


async def dripping(size: int, pause: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000
        await asyncio.sleep(pause)


def test_a_body_is_counted_as_it_comes(serve: Serve) -> None:
    async def steps(client: Client) -> None:
        for content in (b"x" * 100_001, dripping(101_000)):
            got = await client.post("/predict", content=content, headers=JPEG)
            assert (got.status_code, got.json()["error"]["type"]) == (413, "TooLarge")
        assert (await client.post("/predict", content=dripping(100_000), headers=JPEG)).status_code == 422

    serve(steps, max_mb=0.1)


def test_a_slow_body_is_given_up(serve: Serve) -> None:
    async def steps(client: Client) -> None:
        got = await client.post("/predict", content=dripping(100_000, 0.02), headers=JPEG)
        assert (got.status_code, got.json()["error"]["type"]) == (408, "SlowBody")

    serve(steps, body_seconds=0.1)


def test_bodies_at_once_share_a_bounded_memory(serve: Serve) -> None:
    async def steps(client: Client) -> None:
        def post() -> Coroutine[Any, Any, httpx.Response]:
            return client.post("/predict", content=dripping(10_000, 0.01), headers=JPEG)

        statuses = {one.status_code for one in await asyncio.gather(*(post() for _ in range(20)))}
        assert statuses == {422, 429}
        assert (await post()).status_code == 422  # all has been given back

    serve(steps, max_mb=0.01)


def test_a_full_queue_refuses_at_once(serve: Serve, photo: bytes) -> None:
    async def steps(client: Client) -> None:
        got = await asyncio.gather(*(client.post("/predict", content=photo, headers=JPEG) for _ in range(12)))
        assert sorted(one.status_code for one in got) == [200] * 6 + [429] * 6
        assert all(one.headers["retry-after"] == "1" for one in got if one.status_code == 429)

    serve(steps)


def test_a_key_is_needed_everywhere_but_for_probes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(client: Client) -> None:
        for path, method in (("/predict", "POST"), ("/", "POST"), ("/model", "GET"), ("/nowhere", "GET")):
            for wrong in ({}, {"x-api-key": "other"}, {"authorization": "Basic key"}, {"x-api-key": "k\xe9y"}):
                got = await client.request(method, path, headers=httpx.Headers(wrong, encoding="latin-1"))
                assert (got.status_code, got.json()["error"]["type"]) == (401, "NoKey")
                assert got.headers["www-authenticate"] == "Bearer"
        page = await client.get("/", headers={"accept": "text/html,*/*"})
        assert (page.status_code, page.headers["www-authenticate"][:6]) == (401, "Basic ")
        password = {"authorization": f"Basic {base64.b64encode(b'anybody:key').decode()}"}
        for right in ({"x-api-key": "key"}, {"Authorization": "bearer key"}, password):
            assert (await client.get("/model", headers=right)).status_code == 200
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200

    monkeypatch.setenv("SPECTRADERM_API_KEY", "key")
    assert "key=" not in repr(ServeOptions())
    serve(steps)
    serve(steps, api_key="key")


def test_pages_elsewhere_may_call_it_only_where_they_are_named(serve: Serve, photo: bytes) -> None:
    origin = {"origin": "https://a.example"}
    preflight = origin | {"access-control-request-method": "POST"}

    async def closed(client: Client) -> None:
        got = await client.post("/predict", content=photo, headers=JPEG | origin)
        assert "access-control-allow-origin" not in got.headers
        assert (got.headers["x-content-type-options"], got.headers["cache-control"]) == ("nosniff", "no-store")
        assert got.headers["referrer-policy"] == "no-referrer"
        assert (await client.options("/predict", headers=preflight)).status_code == 405

    async def opened(client: Client) -> None:
        assert (await client.options("/predict", headers=preflight)).status_code == 200
        got = await client.post("/predict", content=b"", headers=JPEG | origin | {"x-api-key": "k"})
        assert (got.status_code, got.headers["access-control-allow-origin"]) == (400, "https://a.example")
        other = await client.post("/predict", headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers

    serve(closed)
    serve(opened, cors=("https://a.example",), api_key="k")


def test_the_page_is_at_the_root(serve: Serve) -> None:
    async def steps(client: Client) -> None:
        index = await client.get("/")
        assert index.headers["content-type"].startswith("text/html")
        for name in re.findall(r'(?:src|href)="([\w.-]+)"', index.text):
            assert (await client.get(f"/{name}")).status_code == 200
        facts = (await client.get("/model/model.json")).json()
        assert facts["engine"] == "server"
        assert (await client.get(f"/{facts['paintings'][0]}")).content.startswith(b"\xff\xd8")
        assert (await client.put("/")).status_code == 405

    serve(steps)


def test_the_description_names_every_answer(serve: Serve) -> None:
    async def steps(client: Client) -> None:
        described = (await client.get("/openapi.json")).json()
        predict = described["paths"]["/predict"]["post"]
        statuses = {"200", "400", "401", "408", "413", "415", "422", "429", "500", "503"}
        assert set(predict["responses"]) == statuses
        assert set(predict["requestBody"]["content"]) == {"image/*", "application/octet-stream", "multipart/form-data"}
        assert set(described["paths"]["/"]["post"]["responses"]) == statuses
        text = json.dumps(described)
        assert "HTTPValidationError" not in text
        defined = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
        assert set(re.findall(r'"\$ref": "([^"]+)"', text)) <= defined

    serve(steps)
