"""A data folder that version 0.1.0 wrote, questions to it, and digests of that version's answers.

``tests/data/make_old_folder.py`` made the folder and the digests.
"""

import csv
import json
import tarfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import urllib3

from specserver.client.api import SpecClient

ARCHIVE = Path(__file__).parent / "data" / "old_folder.tar.xz"
ANSWERS = Path(__file__).parent / "data" / "old_folder.json"
EXTRA = ["flux_b", "ivar_b", "mask_b", "flux_r", "ivar_r", "mask_r", "flux_z", "ivar_z", "mask_z"]
Question = dict[str, Any]

SDSS: dict[str, Question] = {
    "all columns": {"fields": ["*"], "primary": False},
    "the best": {"fields": ["specobjid", "ra", "dec", "specprimary"]},
    "no condition": {"primary": False},
    "ordered": {"constraint": "z > 0 order by z desc limit 5", "fields": ["z", "class"]},
    "by plate": {"constraint": "plate > 1000 and class = 'GALAXY'", "primary": False},
    "half the sky": {"cone": [180.0, 0.0, 90.0], "fields": ["specobjid", "z"], "primary": False},
    "polygon": {"polygon": [[0, -30], [179, -30], [179, 60], [0, 60]], "primary": False},
    "a table": {"catalog": "masses", "fields": ["*"]},
    "a join": {
        "catalog": "masses",
        "constraint": "mass > 9.2 and specobj.z > 0",
        "fields": ["mass", "note", "specobj.z", "plate"],
    },
}
DESI: dict[str, Question] = {
    "all columns": {"fields": ["*"], "primary": False},
    "the best": {"fields": ["targetid", "program", "zcat_primary"]},
    "a programme": {"constraint": "program = 'backup'", "fields": ["@telling"], "primary": False},
    "a table": {"catalog": "widths", "fields": ["*"]},
    "a join": {"catalog": "widths", "constraint": "width > 2", "fields": ["width", "z", "program"]},
}
OWN: dict[str, Question] = {
    "all columns": {"fields": ["*"], "primary": False},
    "ordered": {"constraint": "z >= 0.1 order by z desc", "fields": ["id", "z"]},
}


def unpack_old_folder(folder: Path) -> Path:
    """Write the old data folder below a folder, and return its path."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "data"


def old_token() -> str:
    """Return the token that shows the private context."""
    return str(json.loads(ANSWERS.read_text("utf-8"))["token"])


def old_answers() -> dict[str, str]:
    """Return the digests of the answers of version 0.1.0, by question."""
    return dict(json.loads(ANSWERS.read_text("utf-8"))["answers"])


def ask_all(url: str, token: str, sdss: str) -> dict[str, str]:
    """Ask a service of the folder all questions; return a digest of each answer.

    Parameters
    ----------
    sdss : name of the context with the spectra of the first survey
    """
    return {**ask_sdss(url, sdss), **_ask_desi(url), **_ask_own(url, token)}


def ask_sdss(url: str, context: str) -> dict[str, str]:
    """Ask what concerns the context of the first survey."""
    told = {f"sdss: {name}": _query(url, context, asked) for name, asked in SDSS.items()}
    spec = SpecClient(context, svc_url=url)
    found = spec.query(fields="specobjid,plate,mjd,fiberid,run2d", primary=False)
    told["sdss: spectra"] = _of_arrays(spec.getSpec(found["specobjid"]))
    rows = [tuple(row)[1:] for row in found]
    told["sdss: tuples"] = _of_arrays(spec.getSpec(rows[::-1], values="flux,or_mask"))
    every = [(int(plate), "*", "*") for plate in sorted(set(found["plate"]))]
    told["sdss: wildcards"] = _of_arrays(spec.getSpec(every, values="model"))
    aligned = spec.getSpec(_on_lattice(spec, found["specobjid"]), align=True, cutout=(5000, 9000))
    told["sdss: aligned"] = _of_arrays([aligned])
    return told


def _on_lattice(spec: SpecClient, ids: Any) -> Any:
    """Return the identifiers of spectra whose wavelengths are on the lattice."""
    at = [float(one["loglam"][0]) * 1e4 for one in spec.getSpec(ids, values="loglam")]
    return ids[np.abs(at - np.round(at)) < 0.1]


def _ask_desi(url: str) -> dict[str, str]:
    told = {f"desi: {name}": _query(url, "desi_edr", asked) for name, asked in DESI.items()}
    spec = SpecClient("desi_edr", svc_url=url)
    found = spec.query(fields="survey,program,coadd", primary=False)
    rows = [tuple(found[name][at] for name in found.colnames) for at in range(len(found))]
    assert len({row[0] for row in rows}) < len(rows), "no target has several spectra"
    told["desi: spectra"] = _of_arrays(spec.getSpec(rows))
    told["desi: the best of each"] = _of_arrays(spec.getSpec(sorted({row[0] for row in rows})))
    told["desi: arms"] = _of_arrays(spec.getSpec(rows, values=EXTRA))
    return told


def _ask_own(url: str, token: str) -> dict[str, str]:
    told = {f"own: {name}": _query(url, "my_survey", asked, token) for name, asked in OWN.items()}
    spec = SpecClient("my_survey", svc_url=url)
    spec.set_token(token)
    found = spec.getSpec(spec.query(fields="id", primary=False))
    return told | {"own: spectra": _of_arrays(found)}


def _query(url: str, context: str, asked: Question, token: str = "") -> str:
    """Return the digest of an answer; its columns may come in any order, its rows may not."""
    headers = {"Accept": "text/csv", "X-DL-AuthToken": token}
    body = {"context": context, **asked}
    answer = urllib3.request("POST", f"{url}/bulk/query", json=body, headers=headers)
    assert answer.status == 200, answer.data
    rows: list[Mapping[str, str]] = list(csv.DictReader(StringIO(answer.data.decode())))
    assert rows, asked
    return sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def _of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Return the digest of arrays: their types, shapes and bits."""
    digest = sha256()
    for array in arrays:
        digest.update(f"{array.dtype.descr} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
