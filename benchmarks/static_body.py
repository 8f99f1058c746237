"""One static body over HTTP, by uvicorn with the options of ``specserver serve``.

What a server of Python can hand out at best: nothing is looked up, read or encoded.
"""

import argparse
import os
from pathlib import Path
from typing import Any, Final

import uvicorn

from specserver.processes import end_with_parent, end_with_stdin

BODY_VARIABLE: Final = "BENCHMARK_BODY"


class StaticBody:
    """An ASGI application that answers every request with the same bytes."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.headers = [(b"content-length", str(len(body)).encode())]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer; a POST is read to its end first."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body", False):
            pass
        if scope["path"].endswith("/ping"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"here"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def create_app() -> Any:
    """Return the application, in each of the workers."""
    end_with_parent()
    return StaticBody(Path(os.environ[BODY_VARIABLE]).read_bytes())


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    end_with_stdin()
    uvicorn.run(
        f"{__package__}.static_body:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        workers=min(8, os.cpu_count() or 1),
        log_level="warning",
        access_log=False,
        lifespan="off",
    )


if __name__ == "__main__":
    main()
