"""The record of a run: what goes in comes out, within its bounds, whatever happens to the run or its disk."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import store as store_module
from diagnose.errors import DiagnoseError
from diagnose.store import Store

BINS = 64


@pytest.fixture(params=["disk", "memory"])
def place(request, tmp_path):
    return tmp_path / "record" if request.param == "disk" else None


@pytest.fixture
def quick(monkeypatch):
    "Thousands of blocks are written where it does not matter that they outlive a power cut."
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def rows(first: int, steps: int, layers: int, seed: int = 0, stride: int = 1) -> dict:
    "What a gauge appends: a row a layer and step, incompressible, each value a function of nothing but its place."
    rng = np.random.default_rng([seed, first])
    step = np.repeat(np.arange(first, first + steps * stride, stride), layers)
    return {
        "step": step,
        "layer": [f"body.{i}.weight" for i in range(layers)] * steps,
        "mean": np.tile(np.arange(layers, dtype=np.float32), steps) + step.astype(np.float32) / 1024,
        **{f"noise{i}": rng.standard_normal(len(step), np.float32) for i in range(9)},
        "hist": rng.integers(0, 4097, (len(step), BINS), dtype=np.uint16),
    }


def files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file())


def record_steps(record: Store, first: int, last: int, layers: int = 3) -> None:
    "Append the steps first ... last - 1 to table t, one at a time."
    for step in range(first, last):
        record.append("t", rows(step, 1, layers))


def size(folder: Path) -> int:
    return sum(f.stat().st_size for f in files(folder))


def whole_records(frame: pd.DataFrame, layers: int) -> np.ndarray:
    "The steps that are left, after looking that each of them has every layer once, in order, with its own values."
    steps = frame["step"].to_numpy()
    assert (np.diff(steps) >= 0).all()
    assert len(steps) % layers == 0
    by_record = steps.reshape(-1, layers)
    assert (by_record == by_record[:, :1]).all()
    assert (np.diff(by_record[:, 0]) > 0).all(), "a step is there twice"
    wanted = np.tile(np.arange(layers, dtype=np.float32), len(by_record)) + steps.astype(np.float32) / 1024
    np.testing.assert_array_equal(frame["mean"].to_numpy(), wanted)
    return by_record[:, 0]


def in_a_process(code: str, *args: object, wait: bool = True) -> subprocess.Popen | subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    if wait:
        return subprocess.run(command, capture_output=True, text=True, check=True)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# what goes in comes out


def test_values_nulls_and_dtypes_survive_waiting_and_written(place):
    record = Store(place)
    record.append(
        "gradients",
        {
            "step": np.array([0, 0, 3], np.int32),
            "layer": ["stem", "head", None],
            "norm": np.array([np.nan, np.inf, -np.inf], np.float32),
            "exact": np.array([1e-300, 0.1, -0.0]),
            "share": [0.5, None, np.nan],
            "calls": np.ma.array([1, 2, 3], mask=[False, True, False]),
            "applied": np.array([True, False, True]),
            "half": np.array([1, 2, 65504], np.float16),
            "hist": np.array([[1, 2], [3, 65535], [0, 0]], np.uint16),
            "kind": "weight",
            "rate": 0.1,
        },
    )
    waiting = record.frame("gradients")
    schema = record.arrow("gradients").schema
    record.flush()
    written = record.frame("gradients")
    pd.testing.assert_frame_equal(waiting, written)
    assert record.arrow("gradients").schema == schema

    assert written["step"].tolist() == [0, 0, 3]
    assert written["layer"].tolist()[:2] == ["stem", "head"]
    assert written["layer"].isna().tolist() == [False, False, True]
    assert written["norm"].dtype == np.float32
    np.testing.assert_array_equal(written["norm"], np.array([np.nan, np.inf, -np.inf], np.float32))
    assert written["exact"].dtype == np.float64
    assert np.signbit(written["exact"][2])
    assert written["exact"][0] == 1e-300
    assert written["calls"].tolist() == [1, pd.NA, 3]
    assert written["calls"].dtype == "Int64"
    assert written["applied"].tolist() == [True, False, True]
    assert written["half"].dtype == np.float32
    np.testing.assert_array_equal(np.stack(written["hist"]), [[1, 2], [3, 65535], [0, 0]])
    assert written["hist"][0].dtype == np.uint16
    assert written["kind"].tolist() == ["weight"] * 3
    assert written["rate"].tolist() == [0.1] * 3
    share = record.arrow("gradients")["share"]
    assert share.is_null().to_pylist() == [False, True, False]
    assert np.isnan(share.to_pylist()[2])
    assert not written["layer"].cat.ordered
    assert written["layer"].cat.categories.tolist() == [
        "stem",
        "head",
    ]  # in the order of the model, not of the alphabet


@pytest.mark.parametrize("between", [False, True], ids=["one block", "two blocks"])
def test_columns_that_go_and_come_are_null_where_they_are_not(place, between):
    record = Store(place)
    record.append("t", {"step": [0, 1], "a": [1, 2], "hist": np.ones((2, 3), np.uint8)})
    if between:
        record.flush()
    record.append("t", {"step": [1, 2], "b": ["x", None], "flag": [True, None], "a": [0.5, None]})
    if between:
        record.flush()
    record.append("t", {"step": 3, "hist": np.full((1, 3), 7, np.uint16), "b": None, "never": None})
    record.close()
    read = record if place is None else Store.read(place)
    for frame in (record.frame("t"), read.frame("t")):
        assert frame.columns.tolist() == ["step", "a", "hist", "b", "flag"]
        assert frame["step"].tolist() == [0, 1, 1, 2, 3]
        np.testing.assert_array_equal(frame["a"], [1, 2, 0.5, np.nan, np.nan])
        assert frame["b"].isna().tolist() == [True, True, False, True, True]
        assert frame["flag"].dtype == "boolean"
        assert frame["flag"].isna().tolist() == [True, True, False, True, True]
        assert [None if h is None else h.tolist() for h in frame["hist"]] == [[1] * 3, [1] * 3, None, None, [7] * 3]
    assert record.arrow("t")["a"].null_count == 2


def test_only_the_columns_asked_for_in_their_order(place):
    record = Store(place)
    record.append("t", rows(0, 3, 2))
    record.flush()
    record.append("t", rows(3, 1, 2) | {"late": 1})
    frame = record.frame("t", ["mean", "late", "layer"])
    assert frame.columns.tolist() == ["mean", "late", "layer"]
    assert frame["late"].isna().tolist() == [True] * 6 + [False] * 2
    assert len(record.frame("t", ["late"])) == 8
    with pytest.raises(DiagnoseError, match=r"'t' has no column 'median'; it has: hist, late, layer, mean"):
        record.frame("t", ["median"])
    with pytest.raises(DiagnoseError, match="no table 'u' was recorded; there are: t"):
        record.frame("u")


def test_only_the_steps_asked_for_whether_written_or_waiting(place):
    with Store(place, block_records=4) as record:
        record_steps(record, 0, 10)
        whole = record.arrow("t").to_pandas()
        some = record.arrow("t", ["layer", "mean"], steps=[0, 5, 9, 77]).to_pandas()
        assert len(some) == 9
        assert some.equals(whole[whole["step"].isin([0, 5, 9])][["layer", "mean"]].reset_index(drop=True))
        assert record.arrow("t", steps=[]).num_rows == 0


def test_an_append_is_a_copy(place):
    record = Store(place)
    mean, layers, hist = np.zeros(2, np.float32), ["a", "b"], np.zeros((2, 4), np.uint16)
    record.append("t", {"step": [0, 0], "layer": layers, "mean": mean, "hist": hist})
    mean[:], hist[:], layers[0] = 9, 9, "changed"
    record.append("t", {"step": [1, 1], "layer": layers, "mean": mean, "hist": hist})
    frame = record.frame("t")
    assert frame["layer"].tolist() == ["a", "b", "changed", "b"]
    assert frame["mean"].tolist() == [0, 0, 9, 9]
    assert [h[0] for h in frame["hist"]] == [0, 0, 9, 9]


def test_arrays_of_any_layout_and_texts_of_any_kind(place):
    record = Store(place)
    wide = np.arange(12, dtype=np.float32).reshape(4, 3)
    record.append(
        "t",
        {
            "step": np.arange(8)[::2],
            "strided": wide[:, 1],
            "swapped": wide[:, 0].astype(">f4"),
            "hist": np.arange(16, dtype=np.uint8).reshape(4, 4).T,
            "layer": np.array(["a", "b", "a", "c"]),
            "odd": ["\udcff", "?", "é", ""],
            "objects": np.array(["x", None, "y", "x"], object),
        },
    )
    record.flush()
    frame = record.frame("t")
    assert frame["strided"].tolist() == [1, 4, 7, 10]
    assert frame["swapped"].tolist() == [0, 3, 6, 9]
    assert frame["hist"][1].tolist() == [1, 5, 9, 13]
    assert frame["layer"].tolist() == ["a", "b", "a", "c"]
    assert frame["odd"].tolist() == ["?", "?", "é", ""]
    assert frame["objects"].isna().tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"mean": [1.0]}, "integer column 'step'"),
        ({"step": [1.5], "mean": [1.0]}, "integer column 'step'"),
        ({"step": [None, 2], "mean": [1.0, 2.0]}, "integer column 'step'"),
        ({"step": [True]}, "this append has truth values"),
        ({"step": [4], "mean": [1.0]}, "must not fall; the newest is 5"),
        ({"step": [7, 6], "mean": 1.0}, "must not fall"),
        ({"step": [6, 7], "mean": [1.0]}, "1 rows where other columns have 2"),
        ({"step": [6], "mean": ["high"]}, "the table has numbers there, this append has texts"),
        ({"step": [6], "mean": True}, "the table has numbers there, this append has truth values"),
        ({"step": [6], "hist": np.zeros((1, 3), np.uint16)}, "has histograms of 2 bins there"),
        ({"step": [6], "layer": ["a", 1][1:]}, "the table has texts there"),
        ({"step": [6, 7], "layer": ["a", 1]}, "texts are expected, not int"),
        ({"step": [6], "new": np.zeros(1, complex)}, "complex128 is nothing that a table can hold"),
        ({"step": [6], "new": [object()]}, "object is nothing that a table can hold"),
        ({"step": [6], "new": np.zeros((1, 2, 3))}, "3-dimensional float64"),
        ({"step": [6], "new": np.zeros((1, 2), np.float32)}, "2-dimensional float32"),
    ],
)
def test_what_a_table_cannot_hold_is_refused_whole(columns, why):
    record = Store()
    record.append("t", {"step": 5, "mean": 1.0, "layer": "a", "hist": np.zeros((1, 2), np.uint16)})
    before = record.frame("t")
    with pytest.raises(DiagnoseError, match=why):
        record.append("t", columns)
    pd.testing.assert_frame_equal(record.frame("t"), before)
    record.append("t", {"step": 6, "mean": 2.0, "layer": "b"})
    assert record.frame("t")["layer"].tolist() == ["a", "b"]


def test_names_of_tables_cannot_leave_the_folder(tmp_path):
    record = Store(tmp_path / "record")
    for name in ("../elsewhere", "", "a/b", ".hidden"):
        with pytest.raises(DiagnoseError, match="the name of a table"):
            record.append(name, {"step": 0})
    assert record.tables == []


def test_no_rows_make_no_table(place):
    record = Store(place)
    record.append("t", {"step": np.zeros(0, int), "mean": np.zeros(0)})
    record.flush()
    assert record.tables == []
    with pytest.raises(DiagnoseError, match="none yet"):
        record.frame("t")


def test_closing(place):
    with Store(place) as record:
        record.append("t", {"step": 1})
    assert record.frame("t")["step"].tolist() == [1]
    with pytest.raises(DiagnoseError, match="closed"):
        record.append("t", {"step": 2})
    record.close()
    assert record.tables == ["t"]
    with pytest.raises(DiagnoseError, match="at least 1"):
        Store(memory=0)


# blocks


def test_a_full_block_is_written_with_all_that_waits(tmp_path):
    record = Store(tmp_path / "record", block_records=4)
    record.append("alarms", {"step": 0, "text": "loss is not finite"})
    record.append("t", rows(0, 3, 2))
    assert not list(tmp_path.rglob("*.parquet"))
    record.append("t", rows(3, 1, 2))
    assert [f.name for f in sorted(tmp_path.rglob("*.parquet"))] == [
        "00000000-00000000.0-0.0.parquet",
        "00000000-00000003.0-0.0.parquet",
    ]
    assert record.bytes_in_memory == 0
    read = Store.read(tmp_path / "record")
    assert read.tables == record.tables == ["alarms", "t"]
    assert read.bytes_on_disk == record.bytes_on_disk == size(tmp_path)
    pd.testing.assert_frame_equal(read.frame("t"), record.frame("t"))


def test_a_step_may_spread_over_blocks(place):
    record = Store(place)
    for text in "abc":
        record.append("alarms", {"step": 7, "text": text})
        record.flush()
    assert record.frame("alarms")["text"].tolist() == ["a", "b", "c"]


def test_many_small_blocks_become_few_files_and_nothing_is_lost(tmp_path, quick):
    record = Store(tmp_path / "record")
    for step in range(700):
        record.append("alarms", {"step": step // 3, "text": f"alarm {step}"})
        record.append("steps", {"step": step, "loss": np.float32(step)})
        record.flush()
    assert len(list(tmp_path.rglob("*.parquet"))) <= 2 * 7 * 4  # digits of 700 in eights, at most 7 each
    for read in (record, Store.read(tmp_path / "record")):
        assert read.frame("alarms")["text"].tolist() == [f"alarm {i}" for i in range(700)]
        assert read.frame("steps")["loss"].tolist() == list(range(700))


def realistic(kind: str, layers: int, first: int, steps: int, rng: np.random.Generator) -> dict:
    "Samples of 4,096 as a net has them: scales by layer that drift, half of the activations after a ReLU."
    scale = np.exp(np.random.default_rng(layers).normal(-3, 1.5, layers))
    fixed = np.random.default_rng(1).standard_normal((layers, 4096))
    parts = defaultdict(list)
    for step in range(first, first + steps):
        x = fixed + 1e-3 * step if kind == "weights" else rng.standard_normal((layers, 4096))
        x = x * (scale * np.exp(rng.normal(0, 0.2, layers)))[:, None]
        if kind == "activations":
            x[::2] = np.maximum(x[::2], 0)
        exponent = np.frexp(x)[1].clip(-24, 6) + 24
        bins = np.where(x > 0, 32 + exponent, np.where(x < 0, 31 - exponent, 0))
        norm = np.sqrt((x**2).sum(1))
        for name, value in {
            "mean": x.mean(1),
            "std": x.std(1),
            "min": x.min(1),
            "max": x.max(1),
            "zeros": (x == 0).mean(1),
            "negative": (x < 0).mean(1),
            "nonfinite": np.zeros(layers),
            "norm": norm,
            "applied": norm * rng.random(),
            "cosine": rng.uniform(-1, 1, layers),
        }.items():
            parts[name].append(value.astype(np.float32))
        parts["hist"].append(np.stack([np.bincount(b, minlength=BINS) for b in bins]).astype(np.uint16))
    return {
        "step": np.repeat(np.arange(first, first + steps), layers),
        "layer": [f"body.{i // 3}.{i % 3}.{kind}" for i in range(layers)] * steps,
        "call": np.zeros(layers * steps, np.int32),
        **{name: np.concatenate(chunks) for name, chunks in parts.items()},
    }


@pytest.mark.parametrize(
    ("layers", "limit"), [((17, 16, 16), 8_000), ((60, 62, 61), 30_000)], ids=["49 rows", "183 rows"]
)
def test_a_recorded_step_is_small_on_disk(tmp_path, layers, limit):
    record = Store(tmp_path / "record")
    rng = np.random.default_rng(0)
    for first in range(0, 64, 8):
        for kind, count in zip(("activations", "weights", "gradients"), layers):
            record.append(kind, realistic(kind, count, first, 8, rng))
    record.close()
    assert size(tmp_path) / 64 <= limit
    used = np.stack(record.frame("activations", ["hist"])["hist"])
    assert 8 < (used > 0).sum(1).mean() < 40  # the histograms are as empty as real ones, and no emptier


# bounds


def test_old_steps_are_thinned_to_nested_grids_and_the_ends_are_exact(place, quick):
    bound = 600_000
    record = Store(place, memory=bound, disk=bound, block_records=100)
    for first in range(0, 700, 2):
        record.append("a", rows(first, 2, 10))
        for step in (first, first + 1):  # half of the layers, then the others
            given_rows = rows(step, 1, 12, seed=1)
            for half in (slice(0, 6), slice(6, 12)):
                record.append("b", {name: column[half] for name, column in given_rows.items()})
        record.append("steps", {"step": [first, first + 1], "loss": [0.5, 0.25]})
        record.append("alarms", {"step": first, "text": f"alarm at {first}"})
        if first % 6 == 0:
            record.flush()
        assert record.bytes_on_disk <= bound
        assert record.bytes_in_memory <= bound
        assert place is None or size(place) == record.bytes_on_disk
    left = {name: whole_records(record.frame(name), layers) for name, layers in (("a", 10), ("b", 12))}
    for steps in left.values():
        assert steps[0] == 0
        assert steps[-1] == 699
        gaps = np.diff(steps)
        assert gaps[0] >= 8
        assert (gaps[-3:] == 1).all()
        assert (np.diff(gaps) <= 0).all(), "older is coarser, recent is fine"
        grids = 2 ** np.floor(np.log2(gaps)).astype(int)  # where levels meet, a gap may be longer than the finer grid
        assert (steps[:-1] % grids == 0).all()
    assert len(set(left["a"]) & set(left["b"])) >= 0.5 * min(map(len, left.values()))
    assert record.frame("steps")["step"].tolist() == list(range(700))  # it takes little room, so it stays whole
    assert record.frame("alarms")["text"].tolist() == [f"alarm at {s}" for s in range(0, 700, 2)]


def test_the_first_and_last_values_are_those_recorded(place, quick):
    record = Store(place, memory=100_000, disk=100_000, block_records=4)
    record_steps(record, 0, 500)
    frame = record.frame("t")
    for step, at in ((0, slice(0, 3)), (499, slice(-3, None))):
        given_rows = rows(step, 1, 3)
        np.testing.assert_array_equal(np.stack(frame["hist"][at]), given_rows["hist"])
        for i in range(9):
            np.testing.assert_array_equal(frame[f"noise{i}"][at], given_rows[f"noise{i}"])
    assert len(frame) < 3 * 400


@pytest.mark.parametrize("flushed", [False, True], ids=["in one block", "over two blocks"])
def test_the_last_step_of_a_table_that_ended_is_exact_while_others_go_on(place, quick, flushed):
    record = Store(place, memory=200_000, disk=100_000, block_records=3)
    record_steps(record, 0, 59)
    last = rows(59, 1, 4)
    for half in (slice(0, 2), slice(2, 4)):
        record.append("t", {name: column[half] for name, column in last.items()})
        if flushed:
            record.flush()
    for step in range(60, 600):
        record.append("u", rows(step, 1, 3))
    frame = record.frame("t")
    np.testing.assert_array_equal(np.stack(frame["hist"][frame["step"] == 59]), last["hist"])
    assert len(whole_records(frame[frame["step"] < 59], 3)) < 30


def test_a_step_that_spreads_over_two_blocks_is_not_torn_when_they_are_thinned(place, quick):
    record = Store(place, memory=400_000, disk=200_000, block_records=4)
    for step in range(500):
        given_rows = rows(step, 1, 4)
        for half in (slice(0, 2), slice(2, 4)):  # every fourth first half fills a block
            record.append("t", {name: column[half] for name, column in given_rows.items()})
    steps = whole_records(record.frame("t"), 4)
    assert steps[0] == 0
    assert steps[-1] == 499
    assert len(steps) < 300


def test_the_newest_block_on_disk_ends_with_the_last_step_at_any_moment(tmp_path, monkeypatch, quick):
    record, write, newest = Store(tmp_path / "record", disk=60_000, block_records=1), store_module._write, []

    def look_first(path: Path, data: object) -> None:
        if newest:  # as a run that is killed now would leave it
            assert Store.read(tmp_path / "record").frame("t", ["step"])["step"].iloc[-1] == newest[-1]
        write(path, data)

    monkeypatch.setattr(store_module, "_write", look_first)
    for step in range(1, 300, 2):
        record.append("t", rows(step, 1, 20))
        newest.append(step)
    assert len(record.frame("t")) < 20 * 100


def test_rows_that_were_dropped_are_not_the_first_that_is_kept(place, quick):
    record = Store(place, memory=200_000, disk=100_000, block_records=4)
    with pytest.warns(UserWarning, match="rows of 't' are dropped"):
        record.append("t", rows(0, 1, 1200))  # more than there is room for
    record_steps(record, 5, 400)
    steps = whole_records(record.frame("t"), 3)
    assert steps[0] == 5
    assert steps[-1] == 399
    assert len(steps) < 200


def test_categories_of_steps_that_were_thinned_are_gone(place, quick):
    record = Store(place, memory=200_000, disk=100_000, block_records=4)
    for step in range(400):
        record.append("t", rows(step, 1, 3) | {"layer": [f"{step}.{i}" for i in range(3)]})
    layers = record.frame("t", ["layer"])["layer"]
    assert len(layers) < 3 * 200
    assert layers.cat.categories.tolist() == layers.tolist()


# one (step distance, rows, flush after it) an append
appends = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), min_size=30, max_size=80)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(appends=appends, bound=st.integers(120_000, 240_000), block_records=st.integers(1, 5))
def test_any_sequence_of_appends_keeps_the_bound_and_whole_records(appends, bound, block_records):
    record, told, step = Store(None, memory=bound, block_records=block_records), defaultdict(list), 0
    count, shared = 0, False
    for distance, number, flush in appends:
        shared = not distance and not shared  # one step that is appended to for ever cannot be thinned
        step += distance or not shared
        values = np.arange(count, count + number)
        noise = np.random.default_rng(count).integers(0, 4097, (number, 8 * BINS), dtype=np.uint16)
        record.append("t", {"step": step, "value": values, "hist": noise})
        told[step].extend(values.tolist())
        count += number
        if flush:
            record.flush()
        assert record.bytes_in_memory <= bound
    frame = record.frame("t")
    left = {s: g["value"].tolist() for s, g in frame.groupby("step")}
    first, *_, last = [next(iter(told)), *told]
    assert {first, last} <= set(left)
    for s, values in left.items():
        assert values == told[s]
    assert frame["value"].is_monotonic_increasing


SCHEDULE = [*range(100), *range(100, 1_000_000, 10)]  # of Watch: every step, then every 10th


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "memory"], indirect=True)
def test_a_million_steps_of_resnet50_in_proportion(place, quick):
    """All 100,090 records at a thirty-second of the rows and of the bounds."""
    share = 32
    layers = {"activations": 6, "weights": 5, "gradients": 5}  # of 176, 161 and 161
    memory, disk = 64_000_000 // share, 200_000_000 // share
    record, most = Store(place, memory=memory, disk=disk), 0
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 600, 9), np.float32)
    hist = np.zeros((600, BINS), np.uint16)
    hist[:, 20:46] = rng.poisson(4096 / 26, (600, 26))
    for at in range(0, len(SCHEDULE), 80):
        steps = np.array(SCHEDULE[at : at + 80])
        for name, count in layers.items():
            step = np.repeat(steps, count)
            n = len(step)
            record.append(
                name,
                {
                    "step": step,
                    "layer": [f"layer.{i}" for i in range(count)] * len(steps),
                    "mean": np.tile(np.arange(count, dtype=np.float32), len(steps)) + step.astype(np.float32) / 1024,
                    **{f"noise{i}": noise[at // 80 % 2, :n, i] for i in range(9)},
                    "hist": hist[:n],
                },
            )
            assert record.bytes_in_memory <= memory
            assert record.bytes_on_disk <= disk
            most = max(most, record.bytes_on_disk or record.bytes_in_memory)
    if place is not None:
        assert size(place) == record.bytes_on_disk
        assert len(files(place)) < 600
    for name, count in layers.items():
        left = whole_records(record.frame(name, ["step", "mean"]), count)
        assert left[0] == 0
        assert left[-1] == SCHEDULE[-1]
        assert len(left) > 500
        assert (np.diff(left)[-20:] == 10).all()
    assert most > 0.75 * (disk if place is not None else memory / 2), "the room that is allowed is used"


@pytest.mark.slow
@pytest.mark.parametrize(("place", "records"), [("disk", 4000), ("memory", 1600)], indirect=["place"])
def test_resnet50_at_its_real_size_keeps_the_real_bounds(place, records):
    """What numpy and Arrow allocate is counted too: encoding and merging happen within the bound."""
    told = in_a_process(
        """
        import sys, tracemalloc, pathlib
        import numpy as np, pandas, pyarrow as pa, pyarrow.parquet
        from diagnose.store import Store
        folder, records = (None if sys.argv[1] == "None" else sys.argv[1]), int(sys.argv[2])
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((10, 30_000), np.float32)
        hist = rng.integers(0, 4097, (30_000, 64), dtype=np.uint16)
        names = [f"body.{i}.weight" for i in range(176)]
        tables = {"activations": 176, "weights": 161, "gradients": 161}
        held = disk = 0
        tracemalloc.start()
        record = Store(folder)
        for first in range(0, records, 8):
            for name, layers in tables.items():
                part = slice(at := int(rng.integers(28_000)), at + 8 * layers)
                record.append(name, {"step": np.repeat(np.arange(first, first + 8), layers),
                                     "layer": names[:layers] * 8, "hist": hist[part],
                                     **{f"noise{i}": noise[i, part] for i in range(10)}})
                held = max(held, record.bytes_in_memory)
            if folder:
                disk = max(disk, sum(f.stat().st_size for f in pathlib.Path(folder).glob("*/*")))
        _, peak = tracemalloc.get_traced_memory()
        print(held, peak + pa.default_memory_pool().max_memory(), disk)
        """,
        place,
        records,
    )
    held, peak, disk = map(int, told.stdout.split())
    assert held <= 64_000_000
    assert peak <= 64_000_000
    assert disk <= 200_000_000
    assert disk > 150_000_000 or place is None  # the bound was met


def test_what_must_be_kept_is_dropped_rather_than_the_bound(place, quick):
    bound = 60_000
    record = Store(place, memory=bound, disk=bound, block_records=1)
    rng = np.random.default_rng(0)

    def fill() -> None:
        for step in range(400):
            record.append("alarms", {"step": step, "text": rng.bytes(200).hex()})
            assert max(record.bytes_on_disk, record.bytes_in_memory) <= bound

    with pytest.warns(UserWarning, match="rows of 'alarms' are dropped; allow more than") as told:
        fill()
    assert len(told) == 1
    steps = record.frame("alarms")["step"].tolist()
    assert steps == list(range(len(steps)))
    assert 20 < len(steps) < 400


# a run that is killed, one that is read, one that comes second


WRITER = """
import sys
import numpy as np
from diagnose.store import Store
record = Store(sys.argv[1], disk=int(sys.argv[2]), block_records=4)
step = 0
while True:
    at = np.repeat(np.arange(step, step + 2), 5)
    noise = np.random.default_rng(step).integers(0, 4097, (10, 64), dtype=np.uint16)
    mean = np.tile(np.arange(5, dtype=np.float32), 2) + at.astype(np.float32) / 1024
    record.append("t", {"step": at, "mean": mean, "hist": noise})
    step += 2
    if record.bytes_in_memory == 0:
        print(step, flush=True)
"""


def test_after_kill_9_every_written_block_is_there(tmp_path):
    writer = in_a_process(WRITER, tmp_path / "record", 10**9, wait=False)
    with writer:
        for _ in range(30):
            written = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split("\n")
    written = max([written, *(int(line) for line in rest[:-1])])
    steps = whole_records(Store.read(tmp_path / "record").frame("t"), 5)
    assert steps[:written].tolist() == list(range(written))
    assert len(steps) - written in (0, 4)  # a block may have been written and not yet told


def test_reading_goes_on_while_blocks_are_written_merged_and_thinned(tmp_path):
    bound = 150_000
    writer = in_a_process(WRITER, tmp_path / "record", bound, wait=False)
    try:
        while int(writer.stdout.readline()) < 200:
            pass
        read, newest = Store.read(tmp_path / "record"), 0
        for _ in range(40):
            written = int(writer.stdout.readline())
            steps = whole_records(read.frame("t"), 5)
            assert steps[0] == 0
            assert steps[-1] >= max(newest, written - 1)
            assert (np.diff(np.diff(steps)) <= 0).all(), "a block is missing in between"
            newest = steps[-1]
        assert newest > 300
        assert len(steps) < newest - 50
    finally:
        writer.kill()
        writer.communicate()


def test_a_file_that_is_merged_while_it_is_read_is_found_where_it_went(tmp_path, monkeypatch):
    record = Store(tmp_path / "record", disk=100_000, block_records=4)
    record_steps(record, 0, 40)
    read, decode, looks = Store.read(tmp_path / "record"), Store._decode, []

    def merged_first(self, *args):
        if self is read and not looks:
            looks.append(len(list(tmp_path.rglob("*.parquet"))))
            for step in range(40, 400):
                record.append("t", rows(step, 1, 3))
        return decode(self, *args)

    monkeypatch.setattr(Store, "_decode", merged_first)
    pd.testing.assert_frame_equal(read.frame("t"), record.frame("t"))
    assert looks


def test_a_listing_that_misses_a_block_and_what_replaced_it_is_taken_again(tmp_path, monkeypatch):
    record = Store(tmp_path / "record", block_records=4)
    record_steps(record, 0, 20)
    listing, looks = Path.iterdir, []

    def torn(folder: Path) -> list[Path]:
        looks.append(folder)
        return sorted(listing(folder))[: 2 if len(looks) == 1 else None]

    monkeypatch.setattr(Path, "iterdir", torn)
    assert whole_records(Store.read(tmp_path / "record").frame("t"), 3).tolist() == list(range(20))


def test_a_crash_between_writing_a_merged_block_and_deleting_its_parts_shows_no_row_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_delete", lambda path: None)
    record = Store(tmp_path / "record", disk=100_000, block_records=4)
    record_steps(record, 0, 300)
    record.close()
    assert size(tmp_path) > 2 * record.bytes_on_disk  # they are all still there
    pd.testing.assert_frame_equal(Store.read(tmp_path / "record").frame("t"), record.frame("t"))


def test_a_half_written_file_is_no_block_and_a_damaged_one_is_named(tmp_path):
    record = Store(tmp_path / "record")
    record.append("t", rows(0, 4, 2))
    record.close()
    block = next(tmp_path.rglob("*.parquet"))
    (block.parent / "00000004-00000007.1-1.0.part").write_bytes(block.read_bytes()[:100])
    (block.parent / "notes.parquet").write_bytes(b"not ours")
    assert whole_records(Store.read(tmp_path / "record").frame("t"), 2).tolist() == [0, 1, 2, 3]
    block.write_bytes(block.read_bytes()[:-50])
    with pytest.raises(DiagnoseError, match=r"00000000-00000003\.0-0\.0\.parquet is damaged"):
        Store.read(tmp_path / "record").frame("t")


def test_a_block_gets_its_name_when_all_of_it_is_on_disk(tmp_path, monkeypatch):
    told, sync, rename = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda d: (told.append(os.readlink(f"/proc/self/fd/{d}")), sync(d))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (told.append((a.suffix, b.suffix)), rename(a, b))[1])
    with Store(tmp_path / "record") as record:
        record.append("t", {"step": 1})
    assert [t if isinstance(t, tuple) else Path(t).suffix for t in told] == [".part", (".part", ".parquet"), ""]
    assert told[-1] == str(tmp_path / "record" / "t")


def test_the_folder_of_another_run_is_refused(tmp_path):
    folder = tmp_path / "runs" / "record"
    first = Store(folder)
    refused = pytest.raises(DiagnoseError, match=r"record holds the record of another run: give a new folder")
    with refused:
        Store(folder)
    first.append("t", {"step": 1})
    first.close()
    with refused:
        Store(folder)
    assert Store.read(folder).frame("t")["step"].tolist() == [1]
    Store(tmp_path / "runs").close()  # a folder that holds other things is fine


def test_what_is_no_folder_or_no_record_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiagnoseError, match="file: cannot record there"):
        Store(tmp_path / "file")
    with pytest.raises(DiagnoseError, match="holds no record"):
        Store.read(tmp_path)
    with pytest.raises(DiagnoseError, match="holds no record"):
        Store.read(tmp_path / "nowhere")


def test_a_reader_adds_nothing(tmp_path):
    Store(tmp_path / "record").close()
    read = Store.read(tmp_path / "record")
    with pytest.raises(DiagnoseError, match="read only"):
        read.append("t", {"step": 1})
    read.flush()
    read.close()
    assert read.tables == []
    assert [f.name for f in files(tmp_path)] == ["store-format-1"]


# a disk that fails, a run that is interrupted


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("blocks", [0, 1, 5])
def test_a_full_disk_is_told_once_and_the_record_goes_on_in_memory(tmp_path, monkeypatch, blocks):
    record, bound = Store(tmp_path / "record", memory=400_000, disk=400_000, block_records=4), 400_000
    write, left = store_module._write, iter(range(blocks))
    monkeypatch.setattr(store_module, "_write", lambda *a: full() if next(left, None) is None else write(*a))

    def run() -> None:
        for step in range(60):
            record.append("t", rows(step, 1, 3))
            record.append("alarms", {"step": step, "text": "x"})

    with pytest.warns(UserWarning, match="recording goes on in memory, the disk failed.*No space left") as told:
        run()
    assert len(told) == 1
    assert whole_records(record.frame("t"), 3).tolist() == list(range(60))
    assert len(record.frame("alarms")) == 60
    for step in range(60, 1500):
        record.append("t", rows(step, 1, 3))
        assert record.bytes_in_memory <= bound
    steps = whole_records(record.frame("t"), 3)
    assert steps[0] == 0
    assert steps[-1] == 1499
    record.close()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(record)).frame("t"), record.frame("t"))
    on_disk = Store.read(tmp_path / "record")
    assert on_disk.tables == [["t"], ["t"], ["alarms", "t"]][min(blocks, 2)][: None if blocks else 0]


def test_a_disk_that_is_full_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.warns(UserWarning, match="recording goes on in memory"):
        record = Store(tmp_path / "record", block_records=1)
    for step in range(5):
        record.append("t", {"step": step})
    assert record.frame("t")["step"].tolist() == list(range(5))
    assert copy.deepcopy(record).frame("t")["step"].tolist() == list(range(5))


def test_a_disk_that_fails_while_blocks_are_merged(tmp_path, monkeypatch):
    record = Store(tmp_path / "record", disk=100_000, block_records=4)
    record_steps(record, 0, 40)
    write = store_module._write
    monkeypatch.setattr(store_module, "_write", lambda path, data: write(path, data) if ".0." in path.name else full())
    with pytest.warns(UserWarning, match="recording goes on in memory") as told:
        record_steps(record, 40, 200)
    assert len(told) == 1
    steps = whole_records(record.frame("t"), 3)
    assert steps[0] == 0
    assert steps[-1] == 199
    assert not list(tmp_path.rglob("*.part"))
    assert size(tmp_path) <= 100_000


def test_blocks_that_somebody_deletes_do_not_stop_the_run(tmp_path):
    record = Store(tmp_path / "record", disk=100_000, block_records=4)
    record_steps(record, 0, 20)
    for block in tmp_path.rglob("*.parquet"):
        block.unlink()
    with pytest.warns(UserWarning, match="recording goes on in memory"):
        record_steps(record, 20, 300)
    with pytest.raises(DiagnoseError, match="a file of 't' is gone"):
        record.frame("t")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_while_a_block_is_written_loses_and_repeats_nothing(tmp_path, monkeypatch, moment):
    record, write, calls = Store(tmp_path / "record", block_records=100, memory=64_000), store_module._write, []

    def interrupted(path, data):
        calls.append(path)
        if len(calls) == 2 and moment == "after":
            write(path, data)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(store_module, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record.append("t", rows(0, 40, 3))  # several blocks at once: the second is interrupted
    record.append("t", rows(40, 2, 3))
    record.close()
    for read in (record, Store.read(tmp_path / "record")):
        assert whole_records(read.frame("t"), 3).tolist() == list(range(42))


# copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"])
def test_a_copy_is_closed_and_can_be_read_and_the_original_goes_on(place, copied):
    record = Store(place, block_records=4)
    record_steps(record, 0, 6)
    twin = copied(record)
    pd.testing.assert_frame_equal(twin.frame("t"), record.frame("t"))
    assert twin.tables == ["t"]
    with pytest.raises(DiagnoseError, match="read only"):
        twin.append("t", {"step": 9})
    record.append("t", rows(6, 1, 3))
    assert len(whole_records(record.frame("t"), 3)) == 7
    assert len(whole_records(copied(twin).frame("t"), 3)) in (6, 7)


def test_a_copy_says_that_its_folder_is_gone(tmp_path):
    record = Store(tmp_path / "record")
    record.append("t", {"step": 1})
    twin = pickle.loads(pickle.dumps(record))
    (tmp_path / "record").rename(tmp_path / "moved")
    with pytest.raises(DiagnoseError, match="record is gone"):
        twin.frame("t")
    assert Store.read(tmp_path / "moved").frame("t")["step"].tolist() == [1]


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = Store("record")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    record.append("t", {"step": 1})
    record.close()
    assert Store.read(tmp_path / "record").frame("t")["step"].tolist() == [1]


def test_importing_the_store_is_cheap():
    loaded = in_a_process(
        """
        import sys
        import diagnose.store
        print([m for m in ("pandas", "pyarrow", "torch", "fastai") if m in sys.modules])
        """
    )
    assert loaded.stdout.strip() == "[]"


def test_arrow_reads_the_files_alone(tmp_path):
    "The record outlives this package."
    with Store(tmp_path / "record") as record:
        record.append("t", rows(0, 4, 2))
    table = pa.parquet.ParquetFile(next(tmp_path.rglob("*.parquet"))).read()
    assert table["layer"].to_pylist()[:2] == ["body.0.weight", "body.1.weight"]
    np.testing.assert_array_equal(table["hist"].to_pylist(), rows(0, 4, 2)["hist"])
    assert table.schema.field("mean").type == pa.float32()


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
def test_a_record_is_carried_elsewhere_as_files(tmp_path, on_disk):
    store = Store(tmp_path / "run" if on_disk else None)
    store.append("steps", {"step": np.arange(5), "loss": np.linspace(1, 0, 5)})
    store.append("layers", {"step": [4, 4], "layer": ["a", "b"]})
    for name, data in store.files().items():
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    again = Store.read(tmp_path / "copy")
    assert list(again.tables) == list(store.tables)
    for table in store.tables:
        assert again.frame(table).equals(store.frame(table))
