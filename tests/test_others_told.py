"""A query of primary spectra says how many others it leaves out, once, and where that is cheap."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from serving import Served
from specserver.client.api import SpecClient

EVERY = "plate > 0"


@pytest.fixture
def client(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


def split(client: SpecClient) -> tuple[np.ndarray, np.ndarray]:
    """Return the primary spectra and the others."""
    every = client.query(constraint=EVERY, primary=False)
    primary = client.query(constraint=EVERY, primary=True)
    others = np.setdiff1d(every, primary)
    assert len(primary) > 20
    assert len(others) > 2
    return primary, others


def test_an_answer_without_the_others_says_so_once(client: SpecClient) -> None:
    _, others = split(client)
    listed = f"specobjid in ({','.join(map(str, others[:2]))}) or plate < 0"
    with pytest.warns(
        UserWarning, match=r"no primary spectrum is found, but 2 others: primary=False"
    ):
        assert len(client.query(constraint=listed)) == 0
    # Of an empty answer again, as the caller has nothing else to go on.
    with pytest.warns(UserWarning, match="no primary spectrum is found, but 2 others"):
        client.query(constraint=listed, fields="ra,dec")
    # Told explicitly, the caller knows.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(client.query(constraint=listed, primary=True)) == 0
        assert len(client.query(constraint=listed, primary=False)) == 2
        client.query(constraint="plate < 0")  # there are none at all


def test_a_region_counts_them_at_no_cost_and_tells_once_a_context(client: SpecClient) -> None:
    _, others = split(client)
    text = f"{len(others):,} more are not the survey's primary spectra"
    with pytest.warns(UserWarning, match=text):
        found = client.query(180.0, 0.0, 180.0)
    assert len(found) > 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.query(180.0, 0.0, 180.0)
    with pytest.warns(UserWarning, match=text):
        SpecClient(svc_url=client.get_svc_url()).query(180.0, 0.0, 180.0, fields="ra,dec,z")


def test_few_rows_of_a_condition_are_searched_once_more_and_a_limit_is_not(
    client: SpecClient,
) -> None:
    primary, others = split(client)
    some = [*primary[:3].tolist(), int(others[0])]
    listed = f"specobjid in ({','.join(map(str, some))}) and plate > 0"
    with pytest.warns(UserWarning, match="^1 more is no primary spectrum: "):
        assert sorted(client.query(constraint=listed)) == sorted(some[:3])
    fresh = SpecClient(svc_url=client.get_svc_url())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fresh.query(constraint=f"{listed} limit 2")) == 2
        # Many rows of a condition: counting would be a second scan.
        assert len(fresh.query(constraint=EVERY)) > 100 or len(primary) <= 100


def test_several_contexts_and_tuples_are_told_too(client: SpecClient) -> None:
    _, others = split(client)
    listed = f"specobjid in ({','.join(map(str, others[:2]))}) and plate > 0"
    with pytest.warns(UserWarning, match="no primary spectrum is found, but 2 others"):
        assert client.query(constraint=listed, context=["sdss_dr17"]) == []
    with pytest.warns(UserWarning, match="no primary spectrum is found, but 2 others"):
        assert len(client.query(constraint=listed, fields="tuple")) == 0


@pytest.mark.proof
def test_the_command_line_tells_in_a_sentence(served: Served, tmp_path: Path) -> None:
    client = SpecClient(svc_url=served.url)
    _, others = split(client)
    command = [sys.executable, "-m", "specserver", "query", "--url", served.url]
    listed = ["--where", f"specobjid in ({others[0]}) and plate > 0"]
    done = subprocess.run(
        [*command, *listed], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "warning: no primary spectrum is found, but 1 other: " in done.stderr
    assert "--all" in done.stderr
    done = subprocess.run(
        [*command, *listed, "--all"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == (f"{others[0]}\n", "")
