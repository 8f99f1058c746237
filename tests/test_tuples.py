"""Tuples by the thousand: what one finds, ten thousand find, in their order."""

from pathlib import Path

import numpy as np
import pytest

from specserver.data.root import open_root
from specserver.errors import NotFound
from specserver.model.id_text import parse_id_text
from specserver.model.id_tuple import IdPattern, format_ids, parse_id_tuple
from specserver.model.ids import unpack_specobjid
from specserver.service import SpectroscopicService


@pytest.fixture(scope="module")
def service(mock_data: Path) -> SpectroscopicService:
    return SpectroscopicService(open_root(mock_data))


@pytest.fixture(scope="module")
def ids(service: SpectroscopicService) -> np.ndarray:
    catalog = service.archive.open_release("default").catalog
    found = catalog.place(np.arange(catalog.count(primary=False))).ids
    return np.random.default_rng(3).permutation(found)


def patterns(rows: list[tuple[object, ...]]) -> list[IdPattern]:
    return [parse_id_tuple(row) for row in rows]


def test_complete_tuples_are_their_identifiers(
    service: SpectroscopicService, ids: np.ndarray
) -> None:
    rows = unpack_specobjid(ids).tolist()
    assert service.resolve(patterns(rows), "default").ids.tolist() == ids.tolist()
    text = format_ids(patterns(rows))
    assert service.resolve(text, "default").ids.tolist() == ids.tolist()


@pytest.mark.proof
def test_an_open_reduction_finds_what_is_held_whichever_it_is(
    service: SpectroscopicService, ids: np.ndarray
) -> None:
    """Some are of the release's own reductions, and others of another release's."""
    rows = unpack_specobjid(ids).tolist()
    own = service.archive.open_release("default").release.reductions
    assert {row[3] in own for row in rows} == {True, False}
    alone = [service.resolve([one], "default").ids.tolist() for one in patterns(rows)]
    together = service.resolve(patterns([row[:3] for row in rows]), "default").ids.tolist()
    each = [service.resolve([parse_id_tuple(row[:3])], "default").ids[0] for row in rows]
    assert together == each
    # Nothing is held twice here, so the open tuple names the same spectrum as the complete one.
    assert [[one] for one in together] == alone


def test_order_duplicates_numbers_and_wildcards_mix(
    service: SpectroscopicService, ids: np.ndarray
) -> None:
    plate, mjd, fiber, run2d = unpack_specobjid(ids[0]).tolist()
    text = "\n".join(
        [str(ids[3]), f"({plate},{mjd},{fiber})", f"({plate}, '*')", str(ids[3]),
         f"({plate}, {mjd}, {fiber}, '{run2d}')"]
    )  # fmt: skip
    found = service.resolve(text, "default").ids.tolist()
    assert found[:2] == [ids[3], ids[0]]
    assert found[-2:] == [ids[3], ids[0]]
    parts = unpack_specobjid(ids)
    assert sorted(found[2:-2]) == sorted(ids[parts["plate"] == plate].tolist())


@pytest.mark.parametrize(
    "row", [(1, 51602, 999), (2**40, 51602, 1), (266, 0, 1), (266, 51602, 99999), (9, 9, 9, "26")]
)
def test_tuples_that_name_nothing_are_named(
    service: SpectroscopicService, ids: np.ndarray, row: tuple[int | str, ...]
) -> None:
    good = patterns(unpack_specobjid(ids[:5]).tolist())
    asked = [*good[:2], parse_id_tuple(row), *good[2:]]
    found = service.resolve(asked, "default", missing="skip")
    assert found.ids.tolist() == ids[:5].tolist()
    assert list(found.missing) == [format_ids([parse_id_tuple(row)])]
    with pytest.raises(NotFound):
        service.resolve(asked, "default")


def test_lines_of_exact_tuples_are_read_as_the_grammar_reads_them() -> None:
    lines = ["(1963, 54331, 19)", " (1963,54331,19,'26')", "(4055, 55359,  408, v5_7_0) ", ""]
    expected = patterns([(1963, 54331, 19), (1963, 54331, 19, 26), (4055, 55359, 408, "v5_7_0")])
    assert parse_id_text("\n".join(lines)) == expected
    # A comment keeps the quick way from being taken; the answer is the same.
    assert parse_id_text("# these\r\n" + "\r\n".join(lines)) == expected
    assert parse_id_text("(1963, 54331, 19, None)") == patterns([(1963, 54331, 19)])


@pytest.mark.parametrize(
    "given",
    [[1, 2**63, 7], [-5, 4], [parse_id_tuple((1963, 54331)), 5], [parse_id_tuple((7, "1-3", 2))]],
)
def test_many_identifiers_are_read_back_from_their_text(given: list[int | IdPattern]) -> None:
    assert parse_id_text(format_ids(given)) == given
