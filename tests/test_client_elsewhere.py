"""A client in other processes, in threads, and after a fork."""

import logging
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import dask
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster

from serving import Served
from specserver import specClient
from specserver.client.api import SpecClient
from specserver.errors import (
    BadParameter,
    NotFound,
    Overloaded,
    SpecServerError,
    Unreachable,
    all_errors,
)


@pytest.fixture
def client(served: Served) -> SpecClient:
    return SpecClient("sdss_dr17", svc_url=served.url)


def same(one: Any, other: Any) -> bool:
    """Whether two arrays are alike bit for bit, and mean the same."""
    return (
        one.dtype == other.dtype and one.tobytes() == other.tobytes() and one.about == other.about
    )


def test_a_pickled_client_talks_to_the_same_service(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_URL", served.url)
    monkeypatch.setenv("SPECSERVER_TOKEN", "someone.secret")
    client = SpecClient("sdss_dr17")
    assert client.isAlive()
    sent = pickle.dumps((client, client.getSpec, specClient.query, client.vos))
    monkeypatch.setenv("SPECSERVER_URL", "http://127.0.0.1:9/spec")
    monkeypatch.delenv("SPECSERVER_TOKEN")
    other, get, query, vos = pickle.loads(sent)
    assert other.get_svc_url() == served.url
    assert other.get_token() == "someone.secret"
    assert other.get_context() == "sdss_dr17"
    assert query.__self__.get_svc_url() == vos._session.root == served.url
    other.set_token("")
    assert pickle.loads(pickle.dumps(other)).get_token() == ""
    get.__self__.set_token("")
    assert len(get(served.ids[0])) > 3000


def test_a_pickled_array_carries_its_meaning(client: SpecClient, served: Served) -> None:
    one, aligned = client.getSpec(served.ids[0]), client.getSpec(served.ids[:3], align=True)
    for array in (one, one[5:9], aligned, aligned[1]):
        for protocol in (2, pickle.HIGHEST_PROTOCOL):
            other = pickle.loads(pickle.dumps(array, protocol))
            assert same(other, array)
            assert other.about.flux_unit
    composite = client.stack(served.ids[:5])
    assert same_composite(pickle.loads(pickle.dumps(composite)), composite)


def same_composite(one: Any, other: Any) -> bool:
    return np.array_equal(one.flux, other.flux, equal_nan=True) and one.meta == other.meta


def test_every_error_survives_a_process() -> None:
    made = [BadParameter("fmt", "x", "y"), NotFound([1], ["a"]), Unreachable("u", "r")]
    made += [SpecServerError.from_wire(cls.code, "why") for cls in all_errors()]
    for error in (*made, Overloaded(7)):
        # Not by pickle: Dask, where it is loaded, changes how exceptions are pickled.
        make, args, state = error.__reduce__()
        other = make(*args)
        assert (type(other), str(other), state) == (type(error), str(error), vars(error))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """A Dask cluster of one process."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as made,
        Client(made) as client,
    ):
        yield client


@pytest.mark.proof
def test_dask_calls_a_client_in_other_processes(
    cluster: Client, client: SpecClient, served: Served
) -> None:
    ids = served.ids[:6].tolist()
    here = client.getSpec(ids)
    mapped = cluster.gather(cluster.map(client.getSpec, ids))
    delayed = dask.compute(*(dask.delayed(client.getSpec)(some) for some in (ids[:2], ids[2:])))
    for elsewhere in (mapped, [*delayed[0], *delayed[1]]):
        assert all(same(one, other) for one, other in zip(here, elsewhere, strict=True))
    # One connection serves all calls of a process, though each has a client of its own.
    assert cluster.submit(connections, served.url).result() <= 3
    with pytest.raises(NotFound, match="no spectrum for 5"):
        cluster.submit(client.getSpec, 5).result()


def connections(url: str) -> int:
    """Return how many connections this process has made to a service."""
    from specserver.client.pools import open_pool

    made: int = open_pool("").connection_from_url(url).num_connections
    return made


def test_many_threads_share_a_client(
    client: SpecClient, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    ids = np.resize(served.ids, 60).tolist()
    expected = client.getSpec(ids)
    caplog.set_level(logging.WARNING)
    with ThreadPoolExecutor(20) as threads:
        got = list(threads.map(client.getSpec, ids))
    assert all(same(one, other) for one, other in zip(got, expected, strict=True))
    assert caplog.records == []


def test_parent_and_children_of_a_fork_each_have_their_own_connections(
    client: SpecClient, served: Served
) -> None:
    ids = served.ids[:8].tolist()
    expected = [one.tobytes() for one in client.getSpec(ids)]
    fork = multiprocessing.get_context("fork")

    def fetch(end: Connection) -> None:
        got = [client.getSpec(number).tobytes() for number in ids * 3]
        end.send((os.getpid(), got))

    ends = []
    for _ in range(2):
        here, there = fork.Pipe()
        child = fork.Process(target=fetch, args=(there,))
        child.start()
        ends.append((child, here))
    assert [client.getSpec(number).tobytes() for number in ids * 3] == expected * 3
    for child, here in ends:
        assert here.poll(60)
        assert here.recv() == (child.pid, expected * 3)
        child.join()
