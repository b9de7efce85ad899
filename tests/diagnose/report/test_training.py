"""What was recorded, in the page: the script has the data of the record, tables mark what is broken and only that."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib

import numpy as np
import pytest
import torch

from diagnose import report
from diagnose.diagnosis import Diagnosis
from diagnose.report import html
from diagnose.report.recorded import opened, recorded
from diagnose.report.training import ABSENT, FEWEST, LEVELS, SCALE, packed, training
from diagnose.stats import Summary, summarise
from diagnose.store import Store


@pytest.fixture(scope="module")
def found(samples):
    with opened(samples.recorded()) as store:
        return recorded(store)


def unpacked(data: str) -> tuple[dict, bytes]:
    raw = zlib.decompress(base64.b64decode(data))
    length = int.from_bytes(raw[:4], "little")
    assert length % 4 == 0
    return json.loads(raw[4 : 4 + length]), raw[4 + length :]


def test_the_data_of_the_script_are_those_of_the_record(found):
    header, body = unpacked(packed(found)[0])
    loss = next(c for c in header["curves"] if c["key"] == "loss")
    values = np.frombuffer(body, "<f4", len(loss["steps"]), loss["at"])
    np.testing.assert_allclose(values, found.curves["loss"].values, rtol=1e-6)
    for quantity in header["quantities"]:
        table, column = quantity["key"].split(".")
        grid = header["grids"][table]
        assert grid["places"] == found.grids[table].places
        count = len(grid["places"]) * len(grid["steps"])
        bits = np.frombuffer(body, "<u2", count, quantity["at"]).astype("<u4") << 16
        expected = found.grids[table].values[column].reshape(-1)
        np.testing.assert_allclose(bits.view("<f4"), expected, rtol=1 / 256)
    assert [h["key"] for h in header["heats"]] == ["activations", "weights", "gradients"]
    for heat in header["heats"]:
        for place, (at, bins, top) in enumerate(heat["maps"]):
            wanted = found.histograms[heat["key"]].heat(place)
            rows = np.frombuffer(body, np.uint8, (2 * bins + 4) * len(heat["steps"]), at).reshape(2 * bins + 4, -1)
            np.testing.assert_allclose(rows[:-1] / SCALE, np.sqrt(wanted.shares), atol=0.5 / SCALE + 1e-6)
            largest = (1.5 if (top + 1) % 2 else 1.0) * 2.0 ** ((top + 1) // 2)
            assert wanted.edges[-1] == largest


def test_numbers_that_are_none_stay_so_and_rounding_never_makes_one():
    from diagnose.report.training import _bfloat16

    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4e38, 1e-45, 1.0, -2.5], np.float32)
    back = (_bfloat16(values).astype("<u4") << 16).view("<f4")
    assert np.isnan(back[0])
    assert back[1:5].tolist() == [np.inf, -np.inf, 0.0, 0.0]
    assert back[-2:].tolist() == [1.0, -2.5]
    assert back[5] > 3e38
    quiet = np.array([0x7F800001], "<u4").view("<f4")  # a NaN whose upper half is that of infinity
    assert np.isnan((_bfloat16(quiet).astype("<u4") << 16).view("<f4")[0])


def test_too_many_numbers_are_thinned_until_they_fit_and_the_page_says_so(found):
    whole, said = packed(found)
    assert said == ""
    small, said = packed(found, len(whole) // 2)
    assert len(small) <= len(whole) // 2
    header, _ = unpacked(small)
    kept = len(header["grids"]["weights"]["steps"])
    assert FEWEST < kept < 60
    assert said == f"The figures of single layers show {kept} of 60 recorded steps."
    assert {0, 59} <= set(header["grids"]["weights"]["steps"])
    assert len(unpacked(packed(found, 10)[0])[0]["grids"]["weights"]["steps"]) == FEWEST


def test_the_same_record_gives_the_same_page(found):
    assert packed(found) == packed(found)


def one(**columns) -> dict:
    "The table of parameters of a record of two steps, by parameter."
    store = Store()
    for step in (0, 1):
        summary = Summary(np.asarray(summarise(torch.ones(2, 4))))
        rows = {k: np.array(v[step], np.float32) for k, v in columns.items()}
        store.append(
            "weights",
            {"step": [step] * 2, "parameter": ["a", "b"], "std": [1.0, 1.0], "l2": [1.0, 1.0], "distance": [0.0, 0.0]}
            | rows
            | {"histogram": summary.histogram.astype(np.uint16), "top": summary.top.astype(np.int16)},
        )
    table = next(t for t in training(recorded(store)).tables if t.id == "parameters")
    return {n: {q.column: c for q, c in zip(table.columns, cells)} for n, cells in table.rows}


def test_cells_hold_the_last_and_the_first_step():
    cell = one(l2=[[2.0, 3.0], [200.0, 3.5]])["a"]["l2"]
    assert (cell.last, cell.first, cell.sort, cell.broken) == ("200", "2", "200", False)


def test_what_is_not_finite_is_marked():
    rows = one(l2=[[1.0, 1.0], [math.nan, math.inf]])
    assert rows["a"]["l2"].broken
    assert rows["b"]["l2"].broken
    assert rows["b"]["l2"].last == "inf"


def test_a_bias_that_left_zero_is_not_broken():
    cell = one(distance=[[0.0, 0.0], [math.inf, 0.1]])["a"]["distance"]
    assert (cell.last, cell.broken) == ("from zero", False)


def test_shades_follow_the_size_and_columns_that_are_alike_have_none():
    rows = one(l2=[[1.0, 1.0], [1e-3, -1e3]], std=[[1.0, 1.0], [1.0, 1.1]])
    assert (rows["a"]["l2"].shade, rows["b"]["l2"].shade) == (1, LEVELS)
    assert rows["a"]["std"].shade == rows["b"]["std"].shade == 0


def test_a_page_without_a_record_has_no_such_section(samples):
    page = html.render(samples.passing())
    assert 'id="training"' not in page
    assert 'href="#training"' not in page


def test_a_parameter_that_never_got_a_gradient_is_drawn_as_nothing():
    store = Store()
    for step in range(3):
        empty = {"l2": [math.nan], "zeros": [math.nan], "nonfinite": [math.nan]}
        empty = {k: np.array(v, np.float32) for k, v in empty.items()}
        store.append(
            "gradients",
            {"step": [step], "parameter": ["frozen"], "missing": [True], **empty}
            | {"histogram": np.zeros((1, 64), np.uint16), "top": np.zeros(1, np.int16)},
        )
    shown = training(recorded(store))
    assert shown.tables == []
    assert shown.heat.title == "Gradients of frozen"
    assert "share: 0" in shown.heat.picture
    header, body = unpacked(shown.packed)
    at, bins, _ = header["heats"][0]["maps"][0]
    assert set(body[at : at + 3 * (2 * bins + 4)]) == {ABSENT}


def test_alarms_and_tables_read_without_a_script(samples):
    page = html.render(samples.recorded())
    assert "layer-died" in page
    assert "What was not recorded, and why" in page
    assert "encoder.11 is compiled" in page
    rows = re.findall(r"<table class=\"plain shaded\" id=\"(\w+)\">.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert [(id, body.count("<tr>")) for id, body in rows] == [("layers", 12), ("parameters", 12)]
    assert page.count('data-kind="curve"') == 3
    assert 'href="data:image/png;base64,' in page


def test_the_record_may_lie_in_the_run_folder(samples, tmp_path):
    made = samples.recorded()
    report.write(made, tmp_path / "run")
    loaded = Diagnosis.load(tmp_path / "run")
    assert 'id="training"' not in html.render(loaded)
    assert html.render(loaded, tmp_path / "run") == html.render(made)


def test_a_very_deep_model_says_how_many_layers_are_left_out(samples):
    with opened(samples.recording([f"l{i}" for i in range(1010)], 2)) as store:
        table = training(recorded(store)).tables[0]
    assert len(table.rows) == 1000
    assert table.left_out == 10
