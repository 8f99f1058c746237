"""Several servers behind nginx."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch
from urllib.parse import urlsplit

from .bench import Bench, Ids
from .cases import case
from .measure import NotRun, Trial
from .nginx import Nginx, system_program
from .peers import Peer, fetch_at_once, some_peers
from .service import serve_data

_CLIENTS: Final = 16
_EACH: Final = 100


@case(
    "two_nodes",
    "16 clients × 100 at once, through nginx from two servers",
    reference="from one server",
    target=None,
    limits="the cores that clients, nginx and servers share: a second server brings none",
)
def two_nodes(bench: Bench) -> Trial:
    for name in ("nginx", "openssl"):
        if system_program(name) is None:
            raise NotRun(f"no {name}; as root: scripts/install-system-packages")
    stack = bench.case_stack
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="specserver-bench-")))
    servers = [bench.server, stack.enter_context(serve_data(bench.library.data))]
    ports = [urlsplit(server.url).port or 0 for server in servers]
    both = _clients_of(stack, folder / "two", ports)
    alone = _clients_of(stack, folder / "one", ports[:1])

    def draw() -> Ids:
        return bench.draw(_CLIENTS * _EACH)

    return Trial(draw, lambda ids: fetch_at_once(both, ids), lambda ids: fetch_at_once(alone, ids))


def _clients_of(stack: ExitStack, folder: Path, ports: Sequence[int]) -> list[Peer]:
    """Return clients of servers that are behind an nginx of their own."""
    nginx = Nginx(folder, ports)
    stack.callback(nginx.stop)
    nginx.start()
    with patch.dict(os.environ, {"SSL_CERT_FILE": str(nginx.certificate)}):
        return stack.enter_context(some_peers(nginx.url, _CLIENTS))
