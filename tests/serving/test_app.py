"""The REST interface and its middleware, in one process: every request, right and wrong."""

import asyncio
import base64
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import encode, jpeg_of_size, paint
from fastapi.testclient import TestClient
from handmade import LABELS, write_model
from httpx import Response
from PIL import Image
from pydantic import TypeAdapter

import spectraderm
from spectraderm import Classifier
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.inference.prediction import Prediction
from spectraderm.serving import pool as pools
from spectraderm.serving.app import create_app
from spectraderm.serving.content import WORDS
from spectraderm.serving.middleware import ServeOptions
from spectraderm.serving.pool import Pool
from spectraderm.serving.schemas import Answer, Refused

JPEG = {"content-type": "image/jpeg"}


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
    load = 0

    def __init__(self, *_: str | None) -> None:
        self.alive = True

    async def start(self) -> None: ...

    def kill(self) -> None: ...

    async def predict(self, photo: bytes, *_: object) -> Prediction:
        return await asyncio.to_thread(self.model.predict, photo)


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, model: Classifier, opened: ModelFolder) -> Serve:
    """Gives a client of a server with these options."""
    monkeypatch.setattr(pools, "Worker", Here)
    monkeypatch.setattr(Here, "model", model, raising=False)

    def start(**options: Any) -> TestClient:  # noqa: ANN401
        settings = ServeOptions(workers=2, queue=4, **options)
        pool = Pool(settings)
        asyncio.run(pool.start())
        return TestClient(create_app(pool, opened, settings), raise_server_exceptions=False)

    return start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """Of a server with the usual options."""
    return serve()


def latin(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("latin-1") for name, value in headers.items()}


def at_once(client: TestClient, requests: int, body: Callable[[], bytes | AsyncIterator[bytes]]) -> list[Response]:
    """The answers to that many photos."""

    async def send() -> list[Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://server") as link:
            each = (link.post("/predict", content=body(), headers=JPEG) for _ in range(requests))
            return await asyncio.gather(*each)

    return asyncio.run(send())


def test_a_photo_gets_the_prediction_of_every_other_door(client: TestClient, model: Classifier, photo: bytes) -> None:
    expected = model.predict(photo).to_dict() | {"notice": WORDS["notice"]}
    got = client.post("/predict", content=photo, headers=JPEG)
    assert (got.status_code, got.json()) == (200, expected | {"heatmap": []})
    got = client.post("/predict?heatmap=true", content=photo, headers={"content-type": "application/octet-stream; x=y"})
    assert got.json() == expected
    assert list(got.json()["probabilities"]) == list(expected["probabilities"])
    black = client.post("/predict", content=encode(Image.new("RGB", (99, 99)), "PNG"), headers=JPEG)
    assert (black.status_code, black.json()["verdict"]) == (200, "unusable_photo")
    for one in (got, black):
        TypeAdapter(Answer).validate_python(one.json(), strict=False)


def test_several_photos_in_order_and_a_bad_one_harms_no_other(
    client: TestClient, model: Classifier, photo: bytes
) -> None:
    photos = [photo, b"no photo", *(encode(paint(seed)) for seed in range(14))]
    got = client.post("/predict", files=[("photo", ("canary.jpg", data)) for data in photos])
    assert got.status_code == 200
    listed = got.json()
    assert listed[1]["error"]["type"] == "UnreadablePhoto"
    assert ["error" in one for one in listed] == [number == 1 for number in range(16)]  # though few may wait
    assert [one["notice"] for one in listed] == [WORDS["notice"]] * 16
    for one, data in zip(listed, photos, strict=True):
        if "error" not in one:
            assert one["novelty"] == model.predict(data).novelty
    assert "canary" not in got.text
    alone = client.post("/predict", files={"x": ("a", photo)})
    assert len(alone.json()) == 1


def test_nothing_is_written_to_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of a photo larger than what Starlette keeps in memory."""
    large = encode(paint(1, (1600, 1200)), "BMP")
    assert len(large) > 5_000_000

    def rollover(self: object) -> None:
        raise AssertionError("written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    got = client.post("/predict", files={"photo": ("a.bmp", large)})
    assert got.json()[0]["label"] in LABELS


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
    client: TestClient, content: bytes, headers: dict[str, str], status: int, kind: str, folder: Path
) -> None:
    got = client.post("/predict", content=content, headers=latin(headers))
    assert (got.status_code, got.json()["error"]["type"]) == (status, kind)
    assert got.json()["error"]["problem"]
    assert got.json()["request_id"] == got.headers["x-request-id"]
    Refused.model_validate(got.json(), strict=True)
    assert folder.name not in got.text
    assert "(" not in got.json()["error"]["problem"]  # what the decoder says could quote the photo


def test_addresses_methods_and_parameters_that_there_are_not(client: TestClient, photo: bytes) -> None:
    assert client.get("/nothing").json()["error"]["type"] == "NotFound"
    got = client.get("/predict")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    got = client.post("/predict?heatmap=perhaps", content=photo, headers=JPEG)
    assert (got.status_code, got.json()["error"]["type"]) == (400, "Malformed")
    assert "perhaps" not in got.text
    for path in ("/docs", "/redoc"):  # their pages would load scripts from elsewhere
        assert client.get(path).status_code == 404


def test_hugging_face_inference(client: TestClient, model: Classifier, photo: bytes) -> None:
    expected = [{"label": name, "score": value} for name, value in model.predict(photo).probabilities.items()]
    text = base64.b64encode(photo).decode()
    got = client.post("/", content=photo, headers=JPEG)
    assert (got.json(), got.headers["x-verdict"]) == (expected, model.predict(photo).verdict)
    assert got.headers["x-notice"] == WORDS["notice"]
    assert client.post("/", json={"inputs": text}).json() == expected
    got = client.post("/", json={"inputs": text, "parameters": {"top_k": 1}})
    assert got.json() == expected[:1]
    got = client.post("/", json={"inputs": text, "canary": 1})
    assert (got.status_code, got.json()["error"]["type"]) == (400, "Malformed")
    assert "canary" not in got.text
    assert client.post("/", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/", content=photo).json() == expected  # as Hugging Face's client sends bytes
    assert client.post("/", content=b"x", headers=JPEG).status_code == 422


def test_health_readiness_and_facts(client: TestClient, model: Classifier) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    facts = client.get("/model").json()
    assert (facts["model_id"], facts["labels"]) == (model.model_id, model.labels)
    assert facts["calibration"] == model.calibrations.to_dict()
    assert "right far less often" in facts["experience"]
    assert "`spectraderm calibrate MODEL --external PHOTOS`" in facts["promise"]
    assert facts["training_photos"] == len(model.folder.references)
    about = client.get("/openapi.json").json()["components"]["schemas"]["About"]["properties"]
    assert all(about[name]["description"] for name in ("experience", "promise", "calibration"))


def test_metrics_count_what_happened(client: TestClient, photo: bytes, model: Classifier) -> None:
    verdict = model.predict(photo).verdict

    client.post("/predict", content=photo, headers=JPEG)
    client.post("/predict", content=b"x", headers=JPEG)
    client.post("/predict", files=[("a", ("a", photo)), ("a", ("b", b"x"))])
    got = client.get("/metrics")
    lines = dict(line.rsplit(" ", 1) for line in got.text.splitlines() if not line.startswith("#"))
    assert lines[f'spectraderm_photos_total{{outcome="{verdict}"}}'] == "2.0"
    assert lines['spectraderm_photos_total{outcome="UnreadablePhoto"}'] == "2.0"
    assert lines['spectraderm_requests_total{status="200"}'] == "2.0"
    assert lines['spectraderm_requests_total{status="422"}'] == "1.0"
    assert lines["spectraderm_request_seconds_count"] == "3.0"
    assert lines["spectraderm_photos_pending"] == "0.0"


def test_the_access_log_has_a_line_per_request_and_nothing_of_the_photo(
    client: TestClient, photo: bytes, model: Classifier, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = {"x-request-id": "canary", "user-agent": "canary"}
    client.post("/predict?canary=1", content=photo, headers=JPEG | mine)
    client.post("/predict", content=b"canary", headers=JPEG)
    client.post("/predict", files=[("canary", ("canary", photo)), ("a", ("b", b"canary"))])
    client.post("/predict", content=b"--canary", headers={"content-type": "multipart/form-data; boundary=y"})
    client.get("/canary")
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
    client: TestClient,
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
    got = client.post("/predict", content=photo, headers=JPEG)
    assert (got.status_code, got.json()["error"]["type"]) == (status, kind)
    assert "secret-place" not in got.text
    assert "pip" not in got.text
    printed = capfd.readouterr().err
    assert json.loads(printed)["verdict"] == kind
    assert "secret-place" not in printed
    assert ("where" in printed) == (kind == "KeyError")


def test_a_body_is_counted_as_it_comes(serve: Serve) -> None:
    client = serve(max_mb=0.1)
    for content in (b"x" * 100_001, (b"x" * 1000 for _ in range(101))):
        got = client.post("/predict", content=content, headers=JPEG)
        assert (got.status_code, got.json()["error"]["type"]) == (413, "TooLarge")
    assert client.post("/predict", content=b"x" * 100_000, headers=JPEG).status_code == 422


def test_bodies_at_once_share_a_bounded_memory(serve: Serve) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    client = serve(max_mb=0.01)
    assert {one.status_code for one in at_once(client, 20, dripping)} == {422, 429}
    assert at_once(client, 1, dripping)[0].status_code == 422  # all has been given back


def test_few_large_bodies_that_stall_or_wait_keep_no_photo_out(serve: Serve, photo: bytes) -> None:
    client, sent = serve(max_mb=2, body_seconds=9), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * 1_900_000
        await sent.wait()

    async def send() -> tuple[Response, list[Response]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://server") as link:
            large = [asyncio.create_task(link.post("/predict", content=stalling(), headers=JPEG)) for _ in range(16)]
            await asyncio.sleep(0.1)
            small = await link.post("/predict", content=photo, headers=JPEG)
            sent.set()
            return small, await asyncio.gather(*large)

    small, large = asyncio.run(send())
    assert small.status_code == 200
    assert sorted(one.status_code for one in large) == [422] * 6 + [429] * 10


def test_a_full_queue_refuses_at_once(client: TestClient, photo: bytes) -> None:
    got = at_once(client, 12, lambda: photo)
    assert sorted(one.status_code for one in got) == [200] * 6 + [429] * 6
    assert all(one.headers["retry-after"] == "1" for one in got if one.status_code == 429)


def test_a_key_is_needed_everywhere_but_for_probes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRADERM_API_KEY", "key")
    assert "key=" not in repr(ServeOptions())
    client = serve()
    for path, method in (("/predict", "POST"), ("/", "POST"), ("/model", "GET"), ("/nowhere", "GET")):
        for wrong in ({}, {"x-api-key": "other"}, {"authorization": "Basic key"}, {"x-api-key": "k\xe9y"}):
            got = client.request(method, path, headers=latin(wrong))
            assert (got.status_code, got.json()["error"]["type"]) == (401, "NoKey")
            assert got.headers["www-authenticate"] == "Bearer"
    page = client.get("/", headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["www-authenticate"][:6]) == (401, "Basic ")
    password = {"authorization": f"Basic {base64.b64encode(b'anybody:key').decode()}"}
    for right in ({"x-api-key": "key"}, {"Authorization": "bearer key"}, password):
        assert client.get("/model", headers=right).status_code == 200
    assert [client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]


def test_pages_elsewhere_may_call_it_only_where_they_are_named(serve: Serve, photo: bytes) -> None:
    origin = {"origin": "https://a.example"}
    preflight = origin | {"access-control-request-method": "POST"}
    closed, opened = serve(), serve(cors=("https://a.example",), api_key="k")
    got = closed.post("/predict", content=photo, headers=JPEG | origin)
    assert "access-control-allow-origin" not in got.headers
    assert (got.headers["x-content-type-options"], got.headers["cache-control"]) == ("nosniff", "no-store")
    assert got.headers["referrer-policy"] == "no-referrer"
    assert closed.options("/predict", headers=preflight).status_code == 405
    assert opened.options("/predict", headers=preflight).status_code == 200
    got = opened.post("/predict", content=b"", headers=JPEG | origin | {"x-api-key": "k"})
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (400, "https://a.example")
    named = {"access-control-allow-origin": "https://a.example"}.items()
    for method, path in (("GET", "/health"), ("HEAD", "/"), ("GET", "/nothing"), ("PUT", "/"), ("GET", "/app.css")):
        assert opened.request(method, path, headers=origin).headers.items() >= named  # 401 without the key
    assert "access-control-allow-credentials" not in got.headers
    assert serve(cors=("*",)).get("/health", headers=origin).headers["access-control-allow-origin"] == "*"
    other = opened.post("/predict", headers={"origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers


def test_pages_that_may_show_it_in_a_frame_are_named(serve: Serve) -> None:
    policy = "content-security-policy"
    assert serve().get("/").headers[policy] == "frame-ancestors 'self'"
    hub = serve(frame_ancestors=("https://huggingface.co", "https://*.hf.space"))
    assert hub.get("/nothing").headers[policy] == "frame-ancestors 'self' https://huggingface.co https://*.hf.space"


@pytest.mark.parametrize(
    "bad", ["a.example", "https://a.example/", "https://a.example;x", "'self'", "https://a b", "null"]
)
def test_an_origin_that_browsers_would_not_understand_is_refused(bad: str) -> None:
    for name in ("cors", "frame_ancestors"):
        with pytest.raises(SpectraDermError, match="as https://HOST"):
            ServeOptions(**{name: (bad,)})  # type: ignore[arg-type]
    with pytest.raises(SpectraDermError, match="--cors"):
        ServeOptions(cors=("https://*.a.example",))


def test_a_head_is_that_of_the_get(client: TestClient) -> None:
    paths = ["/", "/health", "/ready", "/model", "/metrics", "/openapi.json", "/app.css", "/nothing", "/predict"]
    for path in paths:
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        different = {name for name in got.headers if got.headers[name] != head.headers[name]}
        assert different <= {"x-request-id", *(["content-length"] if path == "/metrics" else [])}


def test_the_page_is_at_the_root(client: TestClient) -> None:
    index = client.get("/")
    assert index.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="([\w.-]+)"', index.text):
        assert client.get(f"/{name}").status_code == 200
    facts = client.get("/model/model.json").json()
    assert facts["engine"] == "server"
    assert client.get(f"/{facts['paintings'][0]}").content.startswith(b"\xff\xd8")
    assert client.put("/").status_code == 405


def test_the_description_names_every_answer(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    predict = described["paths"]["/predict"]["post"]
    statuses = {"200", "400", "401", "408", "413", "415", "422", "429", "500", "503"}
    assert set(predict["responses"]) == statuses
    assert set(predict["requestBody"]["content"]) == {"image/*", "application/octet-stream", "multipart/form-data"}
    assert set(described["paths"]["/"]["post"]["responses"]) == statuses
    text = json.dumps(described)
    assert "HTTPValidationError" not in text
    defined = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(re.findall(r'"\$ref": "([^"]+)"', text)) <= defined
