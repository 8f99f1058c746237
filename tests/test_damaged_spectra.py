"""One damaged spectrum in a list: an error names it, and with ``missing='skip'`` it is left out.

Each context holds damage of another kind; a real service tells of it to our client, to the command
line and to the predecessor's requests.
"""

import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pytest
import urllib3
from pyarrow import ipc

from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import DamagedSpectrum, NoOriginal, StoreError
from specserver.ingest import run_ingest
from specserver.service import SpectroscopicService
from specserver.service.fits_tree_source import FitsTreeSource, add_tree
from specserver.simulate import simulate_desi, simulate_sdss
from specserver.store.layout import list_segments
from specserver.store.zarr import Segment
from stored import flip_chunks, shard_of

SDSS, DESI, TREE = "sdss_dr17", "desi_edr", "sdss_dr16"
_REDUCTIONS = ("26", "v5_7_0", "v5_10_0", "v5_11_0", "v5_13_0", "v5_13_2")
_BATCH = 128
"""Spectra in the first batch of an answer."""


@dataclass(frozen=True)
class Damaged:
    """A running service, and what it holds."""

    served: Served
    sdss: list[int]
    """Of more than one batch; the last one is the damaged one."""
    desi: list[int]
    tree: list[int]

    @property
    def bad(self) -> int:
        """The damaged spectrum of the store."""
        return self.sdss[-1]

    @property
    def client(self) -> SpecClient:
        """A client of the service."""
        return SpecClient(svc_url=self.served.url)


def place_of(data: Path, context: str, number: int) -> tuple[Segment, int]:
    """Return the segment that holds a spectrum, and its row there."""
    for info in list_segments(open_root(data).context(context)):
        segment = Segment(open_root(data).context(context).segment(info.name))
        if number in segment.ids:
            return segment, int(np.flatnonzero(segment.ids == number)[0])
    raise AssertionError


def flip_chunk(data: Path, context: str, number: int, vector: str = "flux") -> Path:
    """Change a byte in the middle of the chunk of a spectrum; return its shard."""
    segment, row = place_of(data, context, number)
    return flip_chunks(segment, vector, [row])


@pytest.fixture(scope="module")
def damaged(
    mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Damaged]:
    """A service over damaged spectra."""
    top = tmp_path_factory.mktemp("damaged")
    data = top / "data"
    shutil.copytree(mock_data, data)
    simulate_desi(top / "desi", 8, seed=5, per_file=4)
    run_ingest(open_root(data), DESI, [top / "desi"], workers=1)
    simulate_sdss(top / "tree", 5, seed=8)
    add_tree(open_root(data), TREE, top / "tree", reductions=_REDUCTIONS)
    service = SpectroscopicService(open_root(data))
    (source,) = service.archive.search(TREE).sources
    assert isinstance(source, FitsTreeSource)
    held = source.tree
    files = [held.find(*one) for one in held.search(lambda *_: True, None)]
    found = sorted((one.id, one.path) for one in files if one is not None)
    # Cut off, so that it is no spectrum any more.
    found[-1][1].write_bytes(found[-1][1].read_bytes()[:20_000])
    ids = {
        context: sorted(
            int(number)
            for info in list_segments(open_root(data).context(context))
            for number in Segment(open_root(data).context(context).segment(info.name)).ids
        )
        for context in (SDSS, DESI)
    }
    # On the common lattice, so that all can be aligned.
    on = [one for one in ids[SDSS] if place_of(data, SDSS, one)[0].on_lattice]
    assert len(on) > _BATCH
    flip_chunk(data, SDSS, on[-1])
    flip_chunk(data, DESI, ids[DESI][-1], "ivar")
    with serve(data, mock_survey) as running:
        yield Damaged(running, on, ids[DESI], [number for number, _ in found])


def raw(damaged: Damaged, path: str, body: Any, *, form: bool = False) -> urllib3.BaseHTTPResponse:
    """Post JSON, or a form, and return the answer as it comes."""
    how: dict[str, Any] = {"json": body}
    if form:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        how = {"body": urlencode(body), "headers": kind}
    return urllib3.request(
        "POST", f"{damaged.served.url}/{path}", retries=False, preload_content=False, **how
    )


def _kept(answer: urllib3.BaseHTTPResponse, body: bytearray) -> Iterator[bytes]:
    """Keep what comes of an answer before it breaks off."""
    for piece in answer.stream(2**16):
        body += piece
        yield b""


CALLS: dict[str, Callable[[SpecClient, list[int], dict[str, Any]], Any]] = {
    "numpy": lambda spec, ids, how: spec.getSpec(ids, **how),
    "aligned": lambda spec, ids, how: spec.getSpec(ids, align=True, **how),
    "resampled": lambda spec, ids, how: spec.getSpec(ids, align="resample", **how),
    "cutout": lambda spec, ids, how: spec.getSpec(ids, cutout="5000-6000", **how),
    "vector": lambda spec, ids, how: spec.getSpec(ids, values="flux", **how),
    "pandas": lambda spec, ids, how: spec.getSpec(ids, fmt="pandas", **how),
    "tables": lambda spec, ids, how: spec.getSpec(ids, fmt="tables", **how),
    "list": lambda spec, ids, how: spec.getSpec(ids[-20:], fmt="SpectrumList", **how),
    "rebuilt": lambda spec, ids, how: spec.getSpec(ids[-9:], fmt="FITS", fits="rebuilt", **how),
    "stack": lambda spec, ids, how: spec.stack(ids, **how),
    "stackedImage": lambda spec, ids, how: spec.stackedImage(ids, **how),
    "image as numpy": lambda spec, ids, how: spec.stackedImage(ids, fmt="numpy", **how),
    "plotGrid": lambda spec, ids, how: spec.plotGrid(ids[-4:], 2, 2, **how),
    "preview": lambda spec, ids, how: spec.preview(ids[-3:], **how),
    "plot": lambda spec, ids, how: spec.plot(ids[-3:], out="plot.png", **how),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_error_names_the_damaged_spectrum(
    damaged: Damaged, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DamagedSpectrum, match=rf"{SDSS}: {damaged.bad} cannot be read .*skip"):
        CALLS[name](damaged.client, damaged.sdss, {"context": SDSS})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proof
@pytest.mark.parametrize("name", CALLS)
def test_skipping_leaves_it_out_with_a_warning(
    damaged: Damaged, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    how = {"context": SDSS, "missing": "skip"}
    with pytest.warns(UserWarning, match=rf"cannot be read.*{damaged.bad}"):
        got = CALLS[name](damaged.client, damaged.sdss, how)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        few = damaged.sdss[-4:-1] if name in {"plotGrid", "plot", "preview"} else damaged.sdss[:-1]
        if name == "plotGrid":
            assert got == damaged.client.plotGrid(few, 2, 2, context=SDSS)
        elif name in {"preview", "stackedImage"}:
            few = few[1:] if name == "preview" else few
            assert got == getattr(damaged.client, name)(few, context=SDSS)
        elif name == "stack":
            assert got.nspec == len(few)
            assert got.meta["damaged"] == [str(damaged.bad)]
        elif name == "plot":
            assert (tmp_path / "plot.png").stat().st_size > 0
        else:
            few = few[-8:] if name == "rebuilt" else few[-19:] if name == "list" else few
            same = CALLS[name](damaged.client, few, {"context": SDSS})
            assert len(got) == len(same)
            if name in {"numpy", "aligned", "cutout", "vector", "rebuilt", "image as numpy"}:
                whole = zip(got, same, strict=True)
                assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in whole)


@pytest.mark.parametrize("vector", ["ivar", "flux"])
def test_only_vectors_that_are_asked_for_matter(damaged: Damaged, vector: str) -> None:
    got = damaged.client.getSpec(damaged.desi, context=DESI, values="flux", missing="skip")
    assert len(got) == len(damaged.desi)
    if vector == "ivar":
        with pytest.raises(DamagedSpectrum, match=str(damaged.desi[-1])):
            damaged.client.getSpec(damaged.desi, context=DESI, values="ivar")


def test_files_are_written_of_all_others(damaged: Damaged, tmp_path: Path) -> None:
    for fmt, kind in (("FITS", "rebuilt"), ("numpy", "original"), ("FITS", "original")):
        out = tmp_path / f"{fmt}-{kind}"
        wanted = sorted(set(damaged.desi))
        if kind == "rebuilt" or fmt == "numpy":
            with pytest.warns(UserWarning, match=rf"cannot be read.*{damaged.desi[-1]}"):
                damaged.client.getSpec(
                    wanted, fmt=fmt, fits=kind, out=out, context=DESI, missing="skip"
                )
            assert len(list(out.iterdir())) == len(wanted) - 1
        else:
            # The original file is as it was.
            damaged.client.getSpec(wanted, fmt=fmt, fits=kind, out=out, context=DESI)
            assert list(out.iterdir())
    with pytest.raises(DamagedSpectrum, match=str(damaged.desi[-1])):
        damaged.client.getSpec(damaged.desi, fmt="numpy", out=tmp_path / "error", context=DESI)


def test_an_original_that_is_gone_is_left_out(mock_survey: Path, tmp_path: Path) -> None:
    # Tests in other processes read the files of the mock survey: these are copies.
    folder, data, gone = tmp_path / "files", tmp_path / "data", tmp_path / "gone"
    folder.mkdir()
    for path in sorted(mock_survey.rglob("spec-*.fits"))[:4]:
        shutil.copy2(path, folder)
    run_ingest(open_root(data), SDSS, [folder], workers=1)
    original = min(folder.iterdir())
    with serve(data, folder) as running:
        client, ids = SpecClient(svc_url=running.url), running.ids
        original.rename(gone)
        with pytest.raises(NoOriginal):
            client.getSpec(ids, context=SDSS, fmt="FITS")
        with pytest.warns(UserWarning, match="cannot be read"):
            got = client.getSpec(ids, context=SDSS, fmt="FITS", missing="skip")
        assert len(got) == len(ids) - 1
        gone.rename(original)
        assert len(client.getSpec(ids, context=SDSS, fmt="FITS")) == len(ids)


def test_a_file_of_a_tree(damaged: Damaged) -> None:
    for how in ({}, {"align": True}, {"fmt": "FITS"}, {"fmt": "FITS", "fits": "rebuilt"}):
        with pytest.raises(DamagedSpectrum, match=rf"{TREE}: {damaged.tree[-1]} cannot be read"):
            damaged.client.getSpec(damaged.tree, context=TREE, **how)
    for how in ({}, {"fmt": "FITS"}, {"fmt": "FITS", "fits": "rebuilt"}):
        with pytest.warns(UserWarning, match=rf"cannot be read.*{damaged.tree[-1]}"):
            got = damaged.client.getSpec(damaged.tree, context=TREE, missing="skip", **how)
        assert len(got) == len(damaged.tree) - 1


def test_a_wildcard_keeps_what_can_be_read(damaged: Damaged) -> None:
    plate, mjd, fiber, run2d = damaged.client.query(
        context=SDSS, constraint=f"specobjid = {damaged.bad}", fields="tuple", primary=False
    )[0]
    exact = f"({plate},{mjd},{fiber},{run2d})"
    with pytest.raises(DamagedSpectrum, match=str(damaged.bad)):
        damaged.client.getSpec([f"({plate},*,*,*)", damaged.sdss[0]], context=SDSS)
    with pytest.warns(UserWarning, match=rf"cannot be read.*{plate}, {mjd}, {fiber}"):
        got = damaged.client.getSpec([exact, damaged.sdss[0]], context=SDSS, missing="skip")
    assert len(got) == 1


def test_nothing_but_damage(damaged: Damaged) -> None:
    for call in ("preview", "stackedImage", "stack"):
        with pytest.raises(StoreError, match=str(damaged.bad)):
            getattr(damaged.client, call)([damaged.bad], context=SDSS, missing="skip")
    with pytest.warns(UserWarning, match=str(damaged.bad)):
        assert damaged.client.getSpec([damaged.bad], context=SDSS, missing="skip") == []


def test_redshifts_stay_with_their_spectra(damaged: Damaged) -> None:
    ids = [damaged.sdss[0], damaged.bad, damaged.sdss[1]]
    with pytest.warns(UserWarning, match="cannot be read"):
        made = damaged.client.stack(ids, z=[0.1, 9.0, 0.2], context=SDSS, missing="skip")
    same = damaged.client.stack([ids[0], ids[2]], z=[0.1, 0.2], context=SDSS)
    np.testing.assert_array_equal(made.flux, same.flux)


def test_the_stream_tells_and_breaks_off(damaged: Damaged) -> None:
    """What docs/wire.md says, read without our client."""
    ids = "\n".join(map(str, damaged.sdss))
    answer = raw(damaged, "bulk/spectra", {"ids": ids, "context": SDSS})
    assert answer.status == 200
    body = bytearray()
    with pytest.raises(urllib3.exceptions.HTTPError):
        body.extend(b"".join(_kept(answer, body)))
    reader = ipc.open_stream(io.BytesIO(body))
    sent = []
    batch, told = reader.read_next_batch_with_custom_metadata()
    while batch.num_rows:
        assert told is None
        sent.append(batch.num_rows)
        batch, told = reader.read_next_batch_with_custom_metadata()
    # The first ones are small, so that a reader has something to do early.
    assert sent == [32, 64]
    assert b"damaged_spectrum" in told[b"specserver"]
    assert str(damaged.bad).encode() in told[b"specserver"]
    assert str(damaged.served.data).encode() not in told[b"specserver"]
    with pytest.raises((StopIteration, pa.ArrowInvalid, OSError)):
        reader.read_next_batch_with_custom_metadata()


@pytest.mark.parametrize("form", ["few", "many"])
def test_the_predecessors_requests(damaged: Damaged, form: str) -> None:
    ids = damaged.sdss[-3:] if form == "few" else damaged.sdss
    for more in ({}, {"align": "True"}):
        fields = {"id_list": ",".join(map(str, ids)), "context": SDSS, **more}
        answer = raw(damaged, "getSpec", fields, form=True)
        if answer.status == 200:
            # Too much to be looked through before it is sent: it breaks off for all to see.
            assert form == "many"
            with pytest.raises(urllib3.exceptions.HTTPError):
                answer.read()
        else:
            said = answer.json()
            assert said["code"] == "damaged_spectrum"
            assert str(damaged.bad) in said["message"]


def test_the_command_line(damaged: Damaged, tmp_path: Path) -> None:
    where = ("--url", damaged.served.url, "--context", SDSS)
    listed = tmp_path / "ids.txt"
    listed.write_text("\n".join(map(str, damaged.sdss)))
    out = tmp_path / "out"
    said = command("get", "--ids", listed, *where, "--out", out, "--fmt", "npy", code=1)
    assert str(damaged.bad) in said
    shutil.rmtree(out, ignore_errors=True)
    more = ("--fmt", "npy", "--skip-missing")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        said = command("get", "--ids", listed, *where, "--out", out, *more)
    assert f"cannot be read and are left out: {damaged.bad}" in said
    assert len(list(out.iterdir())) == len(damaged.sdss) - 1


@pytest.mark.parametrize("how", ["truncated", "absent", "index", "other id"])
def test_other_damage_names_its_spectra(mock_data: Path, tmp_path: Path, how: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(mock_data, data)
    infos = [info for info in list_segments(open_root(data).context(SDSS)) if info.nspec > 1]
    segment = Segment(open_root(data).context(SDSS).segment(infos[0].name))
    lost = [int(one) for one in segment.ids]
    shard = shard_of(segment, "flux")
    if how == "truncated":
        os.truncate(shard, shard.stat().st_size // 2)
    elif how == "absent":
        shard.unlink()
    elif how == "index":
        content = bytearray(shard.read_bytes())
        content[-100] ^= 255
        shard.write_bytes(content)
    else:
        ids = segment.arrays.entry("id/c/0").local_path()
        content = bytearray(ids.read_bytes())
        content[len(content) // 2] ^= 1
        ids.write_bytes(content)
    others = [
        int(number)
        for info in list_segments(open_root(data).context(SDSS))
        if info.name != infos[0].name
        for number in Segment(open_root(data).context(SDSS).segment(info.name)).ids
    ]
    service = SpectroscopicService(open_root(data))
    with pytest.raises(DamagedSpectrum, match=rf"{SDSS}: ({'|'.join(map(str, lost))})"):
        list(service.read(service.resolve([*others, *lost], SDSS)))
    selection = service.resolve([*others, *lost], SDSS, missing="skip")
    assert sorted(map(int, selection.damaged)) == sorted(lost)
    assert selection.ids.tolist() == others
    assert len(list(service.read(selection))) == len(others)
