"""Requests of every shape, right and wrong, made from the interface's own description."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from handmade import write_model
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from test_server import Running


@pytest.fixture(scope="module")
def interface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    server = Running(write_model(tmp_path_factory.mktemp("m") / "model"), workers=1)
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    server.end()


POSTS = [(path, "POST", mode) for path in ("/predict", "/") for mode in GenerationMode]
GETS = [(path, "GET", GenerationMode.POSITIVE) for path in ("/health", "/ready", "/model", "/metrics")]


@pytest.mark.parametrize(("path", "method", "mode"), POSTS + GETS)
def test_every_answer_is_as_described_and_no_request_is_a_defect(
    interface: BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    operation = interface[path][method]

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])  # any bytes may be sent, but few are photos

    asked()
