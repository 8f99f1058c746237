"""The server's front door: errors are JSON with a fitting status, limits hold, nothing blocks."""

import io
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import urllib3

from serving import Served
from specserver.data.root import open_root
from specserver.model.ids import pack_specobjid


@pytest.fixture(scope="module")
def pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, timeout=60)


def post(pool: urllib3.PoolManager, url: str, body: Any) -> urllib3.BaseHTTPResponse:
    return pool.request("POST", url, json=body)


SPECTRA = "/bulk/spectra"
QUERY = "/bulk/query"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (SPECTRA, {}, 422, "invalid_request"),
        (SPECTRA, {"ids": 5}, 422, "invalid_request"),
        (SPECTRA, {"ids": "1", "extra": 1}, 422, "invalid_request"),
        (SPECTRA, {"ids": "abc"}, 400, "bad_identifier"),
        (SPECTRA, {"ids": "(*,*,*)"}, 400, "bad_identifier"),
        (SPECTRA, {"ids": "123"}, 404, "not_found"),
        (SPECTRA, {"ids": "(99999,99999,9999)"}, 404, "not_found"),
        (SPECTRA, {"ids": "1", "context": "sdss_dr99"}, 404, "unknown_context"),
        (SPECTRA, {"ids": "1", "context": "../../etc"}, 404, "unknown_context"),
        (SPECTRA, {"ids": "1", "profile": "other"}, 404, "unknown_profile"),
        (QUERY, {"constraint": "z >"}, 400, "bad_constraint"),
        (QUERY, {"constraint": "nosuch = 1"}, 400, "unknown_field"),
        (QUERY, {"constraint": "1=1; select 1"}, 400, "bad_constraint"),
        (QUERY, {"cone": [0, 95, 1]}, 400, "bad_region"),
        (QUERY, {"cone": [0, 0]}, 422, "invalid_request"),
        (QUERY, {"polygon": [[0, 0], [1, 1]]}, 400, "bad_region"),
        (QUERY, {"cone": [0, 0, 1], "polygon": [[0, 0], [1, 0], [0, 1]]}, 400, "bad_parameter"),
        (QUERY, {"fields": ["_source"]}, 400, "unknown_field"),
        (QUERY, {"catalog": "sdss_dr17.nothing"}, 404, "unknown_catalog"),
        (QUERY, {"timeout_s": -1}, 422, "invalid_request"),
    ],
)
def test_a_wrong_request_is_told_why(
    served: Served, pool: urllib3.PoolManager, path: str, body: Any, status: int, code: str
) -> None:
    answer = post(pool, served.url + path, body)
    told = json.loads(answer.data)
    assert (answer.status, told["code"]) == (status, code), told
    assert len(told["message"]) > 10


def test_wrong_vectors_and_columns_fail_before_the_first_byte(
    served: Served, pool: urllib3.PoolManager
) -> None:
    ids = str(served.ids[0])
    for extra in ({"vectors": ["fluxx"]}, {"columns": ["zz"]}, {"cutout": [7000, 6000]}):
        answer = post(pool, served.url + SPECTRA, {"ids": ids, **extra})
        assert answer.status == 400, extra


def test_unknown_paths_and_methods_are_json_too(served: Served, pool: urllib3.PoolManager) -> None:
    assert json.loads(pool.request("GET", f"{served.url}/nowhere").data)["code"] == "http_404"
    assert pool.request("GET", served.url + SPECTRA).status == 405


def test_a_body_beyond_the_limit_is_refused(served: Served, pool: urllib3.PoolManager) -> None:
    answer = pool.request(
        "POST",
        served.url + SPECTRA,
        body=b" ",
        headers={"Content-Length": str(10**9), "Content-Type": "application/json"},
    )
    assert answer.status == 413
    assert json.loads(answer.data)["code"] == "too_much"


def test_a_body_that_hides_its_length_is_refused_too(served: Served) -> None:
    host, port = served.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        head = "POST /spec/bulk/spectra HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        link.sendall(head.encode())
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        try:
            for _ in range(80):
                link.sendall(chunk)
            link.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert link.recv(20).startswith(b"HTTP/1.1 413")


@pytest.mark.proof
def test_a_ping_is_answered_while_big_answers_are_made(
    served: Served, pool: urllib3.PoolManager
) -> None:
    """The predecessor froze every other user for 47 s."""
    body = {"ids": "\n".join(map(str, np.tile(served.ids, 20).tolist()))}
    stop = threading.Event()

    def load() -> None:
        own = urllib3.PoolManager(retries=False, timeout=60)
        while not stop.is_set():
            post(own, served.url + SPECTRA, body)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    waits = []
    for _ in range(30):
        begun = time.perf_counter()
        assert pool.request("GET", f"{served.url}/ping").status == 200
        waits.append(time.perf_counter() - begun)
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    # Not a timing of speed: a blocked event loop would wait for a whole answer each time.
    assert sorted(waits)[len(waits) // 2] < 2.0


def test_a_slow_reader_holds_batches_not_the_answer(served: Served) -> None:
    """An answer that nobody reads must not be made in memory: the server waits for its reader."""
    ids = "\n".join(map(str, np.tile(served.ids, 200).tolist()))
    body = json.dumps({"ids": ids}).encode()
    host, port = served.url.split("/")[2].split(":")
    memory = f"/proc/{served.process.pid}/status"
    with socket.create_connection((host, int(port)), timeout=30) as link:
        head = f"POST /spec/bulk/spectra HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        link.sendall(head.encode() + body)
        link.recv(1000)
        before = _resident_kb(memory)
        time.sleep(1.0)
        grown = _resident_kb(memory) - before
    # The whole answer is 1.9 GB of frames; what is held is a few copies of one batch.
    assert grown < 400_000


def _resident_kb(path: str) -> int:
    with Path(path).open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_an_empty_query_answer_is_a_table_without_rows(
    served: Served, pool: urllib3.PoolManager
) -> None:
    body = {"cone": [10, 10, 1e-6], "fields": ["z", "class"]}
    answer = post(pool, served.url + QUERY, body)
    table = pa.ipc.open_stream(io.BytesIO(answer.data)).read_all()
    assert (table.column_names, table.num_rows) == (["z", "class"], 0)


def test_the_description_lists_every_endpoint(served: Served, pool: urllib3.PoolManager) -> None:
    paths = json.loads(pool.request("GET", f"{served.url}/openapi.json").data)["paths"]
    for name in ("getSpec", "query", "listSpan", "contexts", "profiles", "catalogs", "validate",
                 "available", "ping", "bulk/spectra", "bulk/query"):  # fmt: skip
        assert f"/spec/{name}" in paths


def test_an_empty_folder_is_served_with_a_clear_message(
    tmp_path: Any, pool: urllib3.PoolManager
) -> None:
    from specserver.errors import CatalogError, UnknownContext
    from specserver.service import SpectroscopicService

    service = SpectroscopicService(open_root(tmp_path))
    assert service.contexts() == []
    with pytest.raises((UnknownContext, CatalogError), match="ingest"):
        service.resolve(str(pack_specobjid(1, 51000, 1, 26)), "default")
