"""What of Gradio can be reached: what its page and its Python client need, and nothing else.

Gradio brings some sixty paths along: a proxy, a reader of files, video editing, bucket browsing. What is not named here
is not found, so that none of them needs to be trusted.
"""

import re
from collections.abc import MutableMapping
from typing import Any

from starlette.routing import Match, Mount

_READ = re.compile(
    r"/|/config/?|/theme\.css|/robots\.txt|/favicon\.ico|/manifest\.json|/(static|assets|svelte)/.+"
    r"|/gradio_api/(info|info/|app_id|app_id/|startup-events|theme\.css|queue/data|heartbeat/[\w-]+|call/[\w-]+/[\w-]+)"
)
_WRITTEN = re.compile(r"/gradio_api/(queue/join/?|call/[\w-]+/?|cancel|reset/?)")


class Gate(Mount):
    """An app at `/` of which only some paths exist; for the others the routes of the app around it are asked."""

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        """As Starlette asks of every route."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        allowed = {"GET": _READ, "HEAD": _READ, "POST": _WRITTEN}.get(scope.get("method", ""))
        if scope["type"] != "http" or not allowed or not allowed.fullmatch(path):
            return Match.NONE, {}
        return super().matches(scope)
