"""Catalogues of several versions of an index, and of parts with different columns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specserver.catalog.base import Catalogue, Rows
from specserver.catalog.catalogue import MappedCatalogue
from specserver.catalog.index.build import write_sorted
from specserver.catalog.index.manifest import (
    PartEntry,
    commit_manifest,
    new_rows,
    newest_manifest,
)
from specserver.catalog.index.part import open_part
from specserver.catalog.opening import newest_state, open_catalogue, open_table
from specserver.catalog.sql.expressions import Condition, Order
from specserver.catalog.tables.vac import add_vac, refresh_vac
from specserver.data.context import IndexFolder
from specserver.data.root import open_root
from specserver.model.id_tuple import parse_id_tuple
from specserver.service.resolver import SpectrumResolver
from specserver.surveys.sdss import SDSS
from test_catalogue_contract import BACK_ENDS, Model, plain_rows, written
from test_import_cost import probe


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Rows in three parts; some are dead, and some of the best are only marked so."""
    return written(tmp_path, SDSS, "sdss_dr17", plain_rows(), BACK_ENDS["parts"])


def commit_parts(index: IndexFolder, parts: Sequence[PartEntry]) -> None:
    made = replace(newest_manifest(index), parts=tuple(parts), rows=new_rows())
    commit_manifest(index, lambda _: made)


def test_rows_of_a_table_are_linked_again_only_where_the_spectra_changed(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = open_root(tmp_path).context("sdss_dr17")
    files = context.table("myvac")
    own = {"specobjid": model.ids[::2], "number": np.arange(len(model.ids[::2]))}
    pq.write_table(pa.table(own), tmp_path / "rows.parquet")
    add_vac(files, SDSS, tmp_path / "rows.parquet")
    held = SpectrumResolver(SDSS, SDSS.releases[-1], model.catalogue, None)
    refresh_vac(files, held)
    asked: list[int] = []
    search = MappedCatalogue.with_ids

    def counted(self: MappedCatalogue, ids: npt.NDArray[np.uint64]) -> Rows:
        asked.append(len(ids))
        return search(self, ids)

    monkeypatch.setattr(MappedCatalogue, "with_ids", counted)
    names = ["number", "specobj.specobjid", "specobj.class", "specobj.specprimary"]
    every = np.arange(len(model.ids[::2]))
    first, second, third = newest_manifest(context.index).parts
    assert first.marks
    spectra: Catalogue | None = None
    table: Catalogue | None = None
    counts = []
    for parts in (
        [first, second],
        [first, second, third],
        [third, first, second],
        [third, second],
        [third, replace(second, marks="")],
    ):
        commit_parts(context.index, parts)
        spectra = open_catalogue(context, SDSS, before=spectra)
        state = newest_state(files.index)
        table = open_table(files, held, state, spectra, table)
        asked.clear()
        found = table.columns_of(names, every)
        counts.append(sum(asked))
        fresh = open_table(files, held, state, open_catalogue(context, SDSS))
        assert found.equals(fresh.columns_of(names, every))
    assert counts[0] == len(every)
    assert counts[2] == 0, "parts that only stand elsewhere have the same rows"
    assert all(0 < count < len(every) for count in (counts[1], *counts[3:]))


def lacking_one(index: IndexFolder, name: str) -> PartEntry:
    """Write the first part again without a column, in place of that part."""
    first, *others = newest_manifest(index).parts
    old = open_part(index.part(first.name), SDSS)
    table = old.columns.every([known for known in old.schema.names if known != name])
    folder = index.new_part("test")
    write_sorted(folder, SDSS, table, old.record.segments)
    made = replace(first, name=folder.name)
    commit_parts(index, [made, *others])
    return made


@pytest.mark.parametrize("several", [True, False])
def test_a_part_without_a_column_has_nulls_in_it(
    model: Model, tmp_path: Path, *, several: bool
) -> None:
    context = open_root(tmp_path).context("sdss_dr17")
    whole = open_catalogue(context, SDSS)
    made = lacking_one(context.index, "zerr")
    catalogue = open_catalogue(context, SDSS)
    every = np.arange(len(model.ids) if several else made.nrows)
    for rows in (every, every[::-1], np.repeat(every[::-7], 2), every[:1], every[:0]):
        found = catalogue.columns_of(["zerr"], rows)["zerr"]
        before = whole.columns_of(["zerr"], rows)["zerr"].to_pylist()
        wanted = [None if row < made.nrows else z for row, z in zip(rows, before, strict=True)]
        assert str(found.to_pylist()) == str(wanted)
        others = [name for name in whole.columns if name != "zerr"]
        some = catalogue.columns_of([*others, "zerr"], rows).select(others)
        assert str(some.to_pylist()) == str(whole.columns_of(others, rows).to_pylist())
    falling = Condition(order=(Order("z", descending=True),), limit=5)
    assert len(catalogue.query([*catalogue.columns], falling, None, primary=False)) == 5


@pytest.mark.parametrize("lacking", ["plate", "run2d"])
def test_a_part_without_a_column_of_the_identifier_has_no_row_with_a_value_of_it(
    model: Model, tmp_path: Path, lacking: str
) -> None:
    context = open_root(tmp_path).context("sdss_dr17")
    lacking_one(context.index, lacking)
    catalogue = open_catalogue(context, SDSS)

    def matching(*given: str) -> set[tuple[int, int]]:
        rows, table = catalogue.matching(parse_id_tuple(given))
        assert table.column_names == list(SDSS.id_parts)
        return set(replace(model, catalogue=catalogue).pairs(rows))

    of_plate = model.table["plate"] == 267
    of_both = of_plate & (model.table["run2d"] == "26")
    elsewhere = model.table["_segment"] != 0
    found = of_plate & elsewhere if lacking == "plate" else of_plate
    assert matching("267", "*", "*", "*") == model.where(found)
    assert matching("267", "*", "*", "26") == model.where(of_both & elsewhere)


@pytest.mark.proof
def test_the_first_cone_of_a_process_does_not_load_pandas(model: Model, tmp_path: Path) -> None:
    """pyarrow's own conversions load it, which takes longer than all else of that request."""
    row = int(np.flatnonzero(~np.isnan(model.table["ra"]))[0])
    ra, dec = float(model.table["ra"][row]), float(model.table["dec"][row])
    code = f"""
import sys
from specserver.data.root import open_root
from specserver.model.region import cone
from specserver.service import QueryRequest, SpectroscopicService
asked = QueryRequest("sdss_dr17", cone({ra}, {dec}, 1.0), fields=("ra", "plate"), primary=False)
assert len(SpectroscopicService(open_root({str(tmp_path)!r})).query(asked))
print(*sys.modules)
"""
    assert "pandas" not in probe(code).split()
