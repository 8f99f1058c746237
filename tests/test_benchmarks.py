"""The benchmarks: that they ask what they should, and compute what they say. No timing here."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from benchmarks import __main__ as command
from benchmarks import measure, report
from benchmarks.bench import Bench
from benchmarks.cache import Cache, open_cache
from benchmarks.cases import Case, all_cases
from benchmarks.cases_fetch import require_equal
from benchmarks.data import Scale
from benchmarks.documents import write_docs
from benchmarks.measure import Gauge, NotRun, Spread, Trial, Unequal

ROOT = Path(__file__).parents[1]
TINY = Scale("tiny", 40, 1000, 12, 24, 24, 30, 6, 4, 2, 5, 0.3, 600, 500, 4)
# Each row of the agreed table, with its target; a row that asks several things is several cases.
AGREED = {
    "getspec_whole": 0.8,
    "getspec_static": 3.0,
    "getspec_aligned": 0.45,
    "getspec_flux": 0.2,
    "getspec_cutout": 0.1,
    "getspec_one": 3.0,
    "large_rate": 1.1,
    "large_server_memory": 150.0,
    "large_client_peak": 1.4,
    "eight_clients": 1.2,
    "ping_worst": 50.0,
    "spectrum1d": 0.15,
    "cone_003": 0.5,
    "cone_05": 0.5,
    "cone_5": 0.5,
    "resolve": 0.4,
    "conditions": 0.05,
    "ingest": 0.25,
    "ingest_dask": 1.15,
    "stack": 1.5,
    "stack_large": 1.1,
    "preview": 0.2,
    "grid": 0.5,
    "composite": 1.4,
    "cold_formats": 0.5,
    "renewal": 1.2,
    "renewal_s": 1.0,
    "parts_cone": 1.3,
    "parts_ids": 2.0,
    "parts_condition": 1.5,
    "opening": 0.5,
    "million_rows": 2.0,
    "million_memory": 300.0,
    "s3_cold": 1.5,
    "s3_latency": 3.0,
    "s3_again": 1.2,
    "postgres_cone": 5.0,
    "postgres_ids": 80.0,
    "postgres_conditions": 10.0,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that stands still unless its one value is changed."""
    now = [0.0]
    monkeypatch.setattr(measure, "perf_counter", lambda: now[0])
    return now


def _case(name: str = "fake", target: float | None = 0.5, unit: str = "s") -> Case:
    return Case(name, "a fake of {many}", "another", target, unit, "nothing", lambda _: None)


def test_every_row_of_the_agreed_table_is_a_case_with_its_target() -> None:
    cases = all_cases()
    assert {name: cases[name].target for name in AGREED} == AGREED
    extra = [case for name, case in cases.items() if name not in AGREED]
    assert {case.name for case in extra} == {
        "cone_columns", "conditions_dense", "match", "match_tree", "parts_cone_mixed",
        "ping_classic", "ping_idle", "two_nodes",
    }  # fmt: skip
    assert all(case.limits and case.title for case in cases.values())


def test_a_ratio_is_the_median_of_the_ratios_of_neighbours(clock: list[float]) -> None:
    # The first round does not count. The machine gets slower from round to round: the ratio of
    # the medians would be 2.0 / 4.0, too, but that of the ends would not.
    ours = iter([100.0, 1.0, 2.0, 2.0, 3.0, 9.0])
    theirs = iter([1.0, 2.0, 4.0, 5.0, 4.0, 10.0])
    order = []

    def take(name: str, times: Iterator[float], subject: int) -> None:
        order.append((name, subject))
        clock[0] += next(times)

    number = iter(range(99))
    outcome = measure.take_turns(
        Trial(
            lambda: next(number),
            lambda subject: take("ours", ours, subject),
            lambda subject: take("theirs", theirs, subject),
        ),
        5,
    )
    assert order == [(name, one) for one in range(6) for name in ("ours", "theirs")]
    assert outcome.rounds == 5
    assert outcome.ours == Spread(2.0, 1.0, 9.0)
    assert outcome.reference == Spread(4.0, 2.0, 10.0)
    assert outcome.ratio == Spread(0.5, 0.4, 0.9)


@pytest.mark.proof
def test_times_are_for_one_piece_of_work_and_in_process_is_judged_by_itself(
    clock: list[float],
) -> None:
    def wait(seconds: float) -> None:
        clock[0] += seconds

    trial = Trial(
        lambda: None,
        lambda _: wait(20.0),
        lambda _: wait(3.0),
        ours_per=10,
        reference_per=1,
        in_process=lambda _: wait(6.0),
    )
    outcome = measure.take_turns(trial, 1)
    assert outcome.rounds == measure.FEWEST_ROUNDS
    assert (outcome.ours.median, outcome.ratio.median) == pytest.approx((2.0, 2 / 3))
    assert outcome.in_process_ratio.median == pytest.approx(0.2)
    row = report.Row(_case(), outcome)
    assert (row.met, row.met_in_process) == (False, True)


def test_unequal_values_stop_a_case_before_it_is_timed() -> None:
    timed = []

    def check(_: object) -> None:
        require_equal([np.float32([1.0])], [np.float32([2.0])])

    with pytest.raises(Unequal):
        measure.take_turns(Trial(lambda: 0, timed.append, timed.append, check), 5)
    assert not timed


def test_equal_means_bit_for_bit() -> None:
    nan = np.float32([np.nan])
    require_equal([nan], [nan.astype(">f4")])
    for other in (np.float32([0.0]), np.float64([np.nan]), np.float32([np.nan, np.nan])):
        with pytest.raises(Unequal):
            require_equal([nan], [other])
    with pytest.raises(Unequal):
        require_equal([nan], [])


def test_of_a_gauge_the_worst_value_counts_when_it_says_so() -> None:
    values = iter([3.0, 70.0, 4.0])
    outcome = measure.read_gauge(Gauge(lambda: next(values), rounds=3, worst=True), 7)
    assert outcome.ours == Spread(70.0, 3.0, 70.0)
    assert report.Row(_case(target=50.0, unit="ms"), outcome).met is False
    values = iter([3.0, 70.0, 4.0])
    assert measure.read_gauge(Gauge(lambda: next(values), rounds=3), 7).ours.median == 4.0


def test_a_kept_run_has_its_fields_and_names_no_machine(tmp_path: Path) -> None:
    spread = Spread(0.25, 0.2, 0.3)
    rows = [
        report.Row(_case(), measure.Outcome(spread, spread, Spread(0.4, 0.3, 0.6), 5, note="n")),
        report.Row(_case("gone"), None, "not run: PostgreSQL + q3c missing"),
    ]
    result = report.collect(rows, TINY, {"postgresql": "15"})
    path = report.save(result, tmp_path)
    kept = json.loads(path.read_text("utf-8"))
    assert kept == result
    assert path.name == f"{kept['date'][:10]}-{kept['commit'][:9] or 'nocommit'}-tiny.json"
    assert set(kept) == {
        "format", "date", "commit", "changed", "scale", "machine", "versions", "cases",
    }  # fmt: skip
    assert set(kept["machine"]) == {"cpu", "cores", "memory_gb", "system"}
    assert {"python", "numpy", "tensorstore", "postgresql"} <= set(kept["versions"])
    fake, gone = kept["cases"]
    assert fake["title"] == "a fake of 12"
    assert fake["ratio"] == {"median": 0.4, "least": 0.3, "most": 0.6}
    assert (fake["met"], fake["rounds"], fake["target"]) == (True, 5, 0.5)
    assert (gone["met"], gone["ours"]) == (None, None)
    assert gone["note"] == "not run: PostgreSQL + q3c missing"
    report.show(kept)


def test_a_run_is_written_between_the_marks_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text("utf-8"), "utf-8")
    before = page.read_text("utf-8")
    row = report.Row(
        _case(), measure.Outcome(Spread(2.5e-3, 1, 1), Spread(1, 1, 1), Spread(0.4, 0.3, 0.6), 5)
    )
    result = report.collect([row], TINY, {})
    for _ in range(2):
        write_docs(result, {"fake": row.case}, page)
        text = page.read_text("utf-8")
        assert (
            "| a fake of 12 | another | 2.5 ms | 1.00 s | 0.40 | 0.30 … 0.60 | ≤ 0.5 | yes |"
            in text
        )
        assert text.count("a fake of 12") == 2
        assert text.splitlines()[0] == before.splitlines()[0]


def test_data_are_made_again_when_what_makes_them_has_changed(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").touch()

    cache = Cache(tmp_path)
    first, digest = cache.part("part", {"version": 1}, make)
    assert cache.part("part", {"version": 1}, make) == (first, digest)
    assert made == [first]
    assert cache.part("part", {"version": 2}, make)[1] != digest
    assert made == [first, first]


def test_an_interrupted_making_is_no_part(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Cache(tmp_path).part("part", {}, fail)
    folder, _ = Cache(tmp_path).part("part", {}, lambda one: (one / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_a_case_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    def prepare(_: Bench) -> Trial:
        raise NotRun("there is no database")

    case = Case("fake", "fake", "—", 1.0, "s", "nothing", prepare)
    result = command.run(tmp_path, TINY, [case], 5)
    assert result["cases"][0]["note"] == "not run: there is no database"


def test_a_case_that_fails_leaves_the_others_their_turn(tmp_path: Path) -> None:
    def prepare(_: Bench) -> Gauge:
        return Gauge(lambda: 1.0)

    def fail(_: Bench) -> Gauge:
        raise Unequal("the values differ")

    cases = [Case(str(one), "fake", "—", 1.0, "MB", "none", one) for one in (fail, prepare)]
    failed, well = command.run(tmp_path, TINY, cases, 5)["cases"]
    assert failed["note"] == "failed: Unequal: the values differ"
    assert (failed["met"], well["met"]) == (None, True)


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "getspec_whole,nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the data of all runs here."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.proof
def test_a_small_run_from_end_to_end(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FEWEST_ROUNDS", 1)
    cases = all_cases()
    names = (
        "getspec_whole", "getspec_static", "getspec_cutout", "cold_formats", "parts_ids",
        "renewal", "large_client_peak", "ping_worst",
    )  # fmt: skip
    result = command.run(tiny_data, TINY, [cases[name] for name in names], 1)
    for record in result["cases"]:
        assert record["ours"] is not None, record
        assert (record["ratio"] is not None) == (record["compared_with"] != "—")
    assert re.search(r"pings to all \d+ workers while", result["cases"][-1]["note"])


def test_files_arrays_and_the_store_hold_the_same_spectra(tiny_data: Path) -> None:
    with open_cache(tiny_data) as cache, ExitStack() as stack:
        bench = Bench(cache, TINY, stack)
        ids = bench.library.ids
        assert len(ids) == TINY.nspec
        selection = bench.service.resolve([int(one) for one in ids], "sdss_dr17")
        require_equal(list(bench.service.read(selection)), bench.load(ids))
        files = bench.library.of(ids, bench.library.fits)
        assert len(set(files)) == TINY.nspec
        assert all(Path(file).is_file() for file in files)
