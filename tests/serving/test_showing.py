"""The pages of `spectraderm page`: a run's report, and two models on one photo."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from spectraderm.core.errors import ModelFolderError, RunFolderError
from spectraderm.serving.showing import report_app, serve_comparison, serve_report


def test_a_report_shows_itself_and_nothing_else_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<h1>A report</h1>")
    (tmp_path / "gallery.html").write_text("<h1>Copies</h1>")
    (tmp_path / "manifest.csv").write_text("path")
    got = asyncio.run(fetch(report_app(tmp_path), "/", "/gallery.html"))
    assert [(answer.status_code, answer.text) for answer in got] == [
        (200, "<h1>A report</h1>"),
        (200, "<h1>Copies</h1>"),
    ]
    others = ("/manifest.csv", "/../manifest.csv", "/%2e%2e/manifest.csv", "/openapi.json")
    assert {answer.status_code for answer in asyncio.run(fetch(report_app(tmp_path), *others))} == {404}


async def fetch(app: FastAPI, *paths: str) -> list[httpx.Response]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return [await client.get(path) for path in paths]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="has no report"):
        serve_report(tmp_path, "127.0.0.1", 0)
    with pytest.raises(ModelFolderError):
        serve_comparison([str(tmp_path), None], "127.0.0.1", 0)
