"""Write ``old_folder.tar.xz``: a data folder as version 0.1.0 wrote it, before indices had parts.

It cannot be made again by a newer version. It was made at commit 68802c5 by::

    PYTHONPATH=tests python tests/data/make_old_folder.py

The spectra are simulated and cut to some hundred pixels, so that the archive is small. Sources are
stored with their paths, so all of it is done in ``/data``, which must not exist.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table

from commands import command
from old_folder import ANSWERS, ARCHIVE, ask_all
from serving import serve
from specserver.data.root import open_root
from specserver.service import QueryRequest, SpectroscopicService
from specserver.simulate import simulate_desi, simulate_sdss

ROOT = Path("/data")
SPECTRA, DATA = ROOT / "spectra", ROOT / "specserver"
KEPT_PIXELS = 150


def cut(path: Path, first: int, loglam_off: float = 0.0) -> None:
    """Keep some pixels of an SDSS spectrum, and perhaps move them off the lattice."""
    with fits.open(path, memmap=False) as units:
        table = units[1]
        table.data = table.data[first : first + KEPT_PIXELS].copy()
        name = next(name for name in table.columns.names if name.lower() == "loglam")
        table.data[name] += np.float32(loglam_off)
        units[:3].writeto(path, overwrite=True)


def brighten(path: Path) -> None:
    """Give a spectrum other values, as a new reduction of the same run does."""
    with fits.open(path, mode="update", memmap=False) as units:
        units[1].data["flux"] *= np.float32(1.25)


def sdss() -> None:
    """Four ingests: six spectra; four more; two off the lattice; two of the first replaced."""
    simulate_sdss(SPECTRA / "sdss", 12, seed=11, families=("26", "v5_7_0", "v5_13_2"))
    files = sorted((SPECTRA / "sdss").rglob("spec-*.fits"))
    for number, path in enumerate(files):
        cut(path, 1000 + 10 * number, 3.3e-5 if number in {3, 9} else 0.0)
    first, second = files[:7], files[7:]
    command("ingest", "sdss_dr17", *first, "--data", DATA, "--workers", 1)
    command("ingest", "sdss_dr17", *second, "--data", DATA, "--workers", 1)
    for path in (files[0], files[8]):
        brighten(path)
    command("ingest", "sdss_dr17", files[0], files[8], "--data", DATA, "--replace", "--workers", 1)


def desi() -> None:
    """Five targets, of which three have a second coadd, in another programme and segment."""
    simulate_desi(SPECTRA / "desi", 5, seed=5, per_file=5)
    (coadd,) = (SPECTRA / "desi").rglob("coadd-*.fits")
    (redrock,) = (SPECTRA / "desi").rglob("redrock-*.fits")
    for path in (coadd, redrock):
        darken(path)
    command("ingest", "desi_edr", SPECTRA / "desi", "--data", DATA, "--workers", 1)
    for path in (coadd, redrock):
        second(path)
    command("ingest", "desi_edr", SPECTRA / "desi", "--data", DATA, "--workers", 1)


def darken(path: Path) -> None:
    """Keep the values of some pixels around the overlaps of arms, zeros elsewhere."""
    with fits.open(path, mode="update", memmap=False) as units:
        for arm, kept in (("B", slice(2650, 2751)), ("R", slice(0, 100)), ("Z", slice(60, 200))):
            for what in ("FLUX", "IVAR", "MASK"):
                if f"{arm}_{what}" in units:
                    values = units[f"{arm}_{what}"].data
                    cleared = np.zeros_like(values)
                    cleared[:, kept] = values[:, kept]
                    units[f"{arm}_{what}"].data = cleared


def second(path: Path) -> None:
    """Write a coadd of the first three targets as another programme has it."""
    with fits.open(path, memmap=False) as units:
        old, new = units[0].header["PROGRAM"], "backup"
        units[0].header["PROGRAM"] = new
        for unit in units[1:]:
            if unit.data is not None and unit.data.ndim and len(unit.data) == 5:
                unit.data = unit.data[:3].copy()
        for arm in "BRZ":
            if f"{arm}_FLUX" in units:
                units[f"{arm}_FLUX"].data *= np.float32(0.75)
        units.writeto(path.with_name(path.name.replace(f"-{old}-", f"-{new}-")))


def own() -> None:
    """A survey that the folder declares: spectra of the first survey on axes of their own."""
    folder = SPECTRA / "own"
    folder.mkdir()
    rows = []
    for number, path in enumerate(sorted((SPECTRA / "sdss").rglob("spec-*.fits"))[:4]):
        with fits.open(path) as units:
            flux, ivar = (units[1].data[name].astype("f4") for name in ("flux", "ivar"))
            wave = 6000.0 + 1.5 * number + 0.7 * np.arange(len(flux))
            where = units[2].data["PLUG_RA"][0], units[2].data["PLUG_DEC"][0]
        error = np.where(ivar > 0, 1 / np.sqrt(np.where(ivar > 0, ivar, 1)), 0).astype("f4")
        Table({"wl": wave, "f": flux, "df": error}).write(folder / f"night{number}.fits")
        rows.append((100 + number, f"night{number}.fits", *where, 0.1 * number))
    names = ("id", "file", "ra", "dec", "z")
    Table(rows=rows, names=names).write(ROOT / "targets.csv")
    words = ("--wave", "wl", "--flux", "f", "--error", "df", "--wave-unit", "Angstrom")
    words += ("--flux-unit", "1e-17 erg / (s cm2 Angstrom)", "--medium", "vacuum")
    words += ("--catalog", ROOT / "targets.csv", "--data", DATA, "--workers", 1)
    command("ingest", "my_survey", folder, *words)
    command("context", "private", "my_survey", "--data", DATA)


def tables() -> None:
    """A table joined by identifier, and one whose rows name their spectra by tuples."""
    service = SpectroscopicService(open_root(DATA))
    asked = QueryRequest("sdss_dr17", None, "", ("specobjid", "ra", "dec", "z"), primary=False)
    found = service.query(asked)
    rows = found.slice(2, 8).rename_columns(["specobjid", "ra", "dec", "z"])
    rows = rows.append_column("mass", pa.array(np.linspace(9.0, 11.0, len(rows))))
    rows = rows.append_column("note", pa.array(["good", None] * (len(rows) // 2)))
    pq.write_table(rows, ROOT / "masses.parquet")
    command("catalog", "add", "sdss_dr17", "masses", ROOT / "masses.parquet", "--data", DATA)
    parts = ("targetid", "survey", "program", "coadd", "ra", "dec")
    found = service.query(QueryRequest("desi_edr", None, "", parts, primary=False))
    rows = found.append_column("width", pa.array(np.arange(len(found)) + 0.5))
    pq.write_table(rows, ROOT / "widths.parquet")
    command("catalog", "add", "desi_edr", "widths", ROOT / "widths.parquet", "--data", DATA)


def main() -> None:
    ROOT.mkdir()
    try:
        sdss()
        desi()
        own()
        tables()
        words = ("--user", "ada", "--context", "my_survey", "--expires", "3000w")
        secret = command("token", "create", *words, "--data", DATA).splitlines()[0]
        with serve(DATA, SPECTRA) as served:
            answers = ask_all(served.url, secret, "sdss_dr17")
        ANSWERS.write_text(json.dumps({"token": secret, "answers": answers}, indent=1) + "\n")
        with tarfile.open(ARCHIVE, "w:xz") as archive:
            archive.add(DATA, "data", filter=nobody)
    finally:
        shutil.rmtree(ROOT)


def nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Name no user of this machine."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


if __name__ == "__main__":
    main()
