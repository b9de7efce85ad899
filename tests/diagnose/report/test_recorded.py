"""What reports read of a record: the same numbers that were appended, thinned evenly, on one axis of values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.report.recorded import evenly, opened, recorded
from diagnose.stats import Summary, summarise
from diagnose.store import Store


def weights(store: Store, step: int, tensors: dict[str, torch.Tensor]) -> None:
    found = [Summary(np.asarray(summarise(t.float().reshape(1, -1)))) for t in tensors.values()]
    store.append(
        "weights",
        {
            "step": np.full(len(tensors), step),
            "parameter": list(tensors),
            "std": np.array([float(t.std()) for t in tensors.values()], np.float32),
            "l2": np.array([float(t.norm()) for t in tensors.values()], np.float32),
            "distance": np.full(len(tensors), 0.5 * step, np.float32),
            "histogram": np.concatenate([s.histogram for s in found]).astype(np.uint16),
            "top": np.concatenate([s.top for s in found]).astype(np.int16),
        },
    )


def one_layer(*tensors: torch.Tensor):
    store = Store()
    for step, t in enumerate(tensors):
        weights(store, step, {"w": t})
    return recorded(store).histograms["weights"].heat(0)


def test_a_record_without_steps_is_none():
    assert recorded(Store()) is None


def test_numbers_are_those_that_were_appended():
    store = Store()
    for step in range(5):
        weights(store, step, {"b": torch.arange(8.0) * (step + 1), "a": torch.ones(4)})
        store.append("steps", {"step": [step], "loss": [1.0 / (step + 1)], "lr_0": [np.nan], "outcome": [""]})
    store.append("alarms", {"step": [3], "id": ["x"], "where": ["a"], "message": ["said"]})
    found = recorded(store)
    assert (found.steps, found.first, found.last) == (5, 0, 4)
    assert list(found.curves) == ["loss"]  # nothing was recorded in the other one
    np.testing.assert_allclose(found.curves["loss"].values, 1 / np.arange(1, 6))
    grid = found.grids["weights"]
    assert grid.places == ["b", "a"]
    first, last = grid.ends("l2")["b"]
    assert (first, last) == pytest.approx((float(torch.arange(8.0).norm()), 5 * float(torch.arange(8.0).norm())))
    assert [(a.step, a.id, a.where, a.message) for a in found.alarms] == [(3, "x", "a", "said")]


def test_a_loss_that_is_never_a_number_is_shown():
    store = Store()
    store.append("steps", {"step": [0, 1], "loss": [np.nan, np.nan]})
    assert np.isnan(recorded(store).curves["loss"].values).all()


def test_places_that_come_late_or_go_have_the_ends_of_their_own():
    store = Store()
    weights(store, 0, {"a": torch.ones(4)})
    weights(store, 1, {"a": 2 * torch.ones(4), "b": 3 * torch.ones(4)})
    weights(store, 2, {"b": 4 * torch.ones(4)})
    grid = recorded(store).grids["weights"]
    assert grid.present.tolist() == [[True, True, False], [False, True, True]]
    assert grid.ends("l2") == {"a": (2.0, 4.0), "b": (6.0, 8.0)}


def test_long_records_are_thinned_evenly_and_say_so():
    store = Store()
    for step in range(300):
        weights(store, step, {"a": torch.full((4,), float(step))})
    found = recorded(store, most=50)
    for part in (found.grids["weights"], found.histograms["weights"]):
        assert part.of == 300
        assert len(part.steps) == 50
        assert {0, 299} <= set(part.steps.tolist())
        assert set(np.diff(part.steps)) <= {6, 7}
    assert found.grids["weights"].values["l2"][0].tolist() == [2.0 * s for s in found.grids["weights"].steps]


@given(st.integers(1, 2000), st.integers(2, 300))
def test_evenly_keeps_both_ends(count, most):
    kept = evenly(count, most).tolist()
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert len(kept) == len(set(kept)) == min(count, most)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-60, 60), min_size=1, max_size=6), st.integers(0, 2**31))
def test_every_element_is_in_the_bin_of_its_value(scales, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(400, generator=generator).relu() * 2.0**s - 2.0**s * (k % 2) for k, s in enumerate(scales)]
    tensors = [torch.where(t.abs() < 2.0**-13 * t.abs().max(), 0.0, t) for t in tensors]  # no finer bins below
    heat = one_layer(*tensors)
    assert heat.shares.shape == (len(heat.edges) - 1, len(tensors))
    assert (np.diff(heat.edges) >= 0).all()
    np.testing.assert_allclose(heat.shares.sum(0) + heat.nonfinite, 1)
    zero = len(heat.shares) // 2
    low = heat.edges[zero + 2]  # what is smaller is near zero
    for k, t in enumerate(tensors):
        x = t.double().numpy()
        expected = np.histogram(x[np.abs(x) >= low], heat.edges[zero + 2 :])[0]
        np.testing.assert_allclose(heat.shares[zero + 2 :, k] * 400, expected, atol=1e-6)
        expected = np.histogram(-x[np.abs(x) >= low], heat.edges[zero + 2 :])[0]
        np.testing.assert_allclose(heat.shares[: zero - 1, k][::-1] * 400, expected, atol=1e-6)
        assert heat.shares[zero, k] * 400 == pytest.approx((x == 0).sum())


def test_what_is_not_finite_is_told_and_moves_no_axis():
    heat = one_layer(torch.tensor([1.0, -1.0, 0.5, 0.0]), torch.tensor([1.0, np.nan, np.inf, -np.inf]))
    assert heat.nonfinite.tolist() == [0.0, 0.75]
    assert heat.edges[-1] == 1.5
    assert heat.shares[:, 1].sum() == 0.25


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_layer_without_any_magnitude_has_an_axis_all_the_same(value):
    heat = one_layer(torch.full((8,), value), torch.full((8,), value))
    assert (np.diff(heat.edges) >= 0).all()
    assert (heat.shares.sum(0) + heat.nonfinite).tolist() == [1.0, 1.0]


def test_the_record_of_a_diagnosis_is_read_from_its_files_or_its_folder(samples, tmp_path):
    store = Store()
    weights(store, 0, {"a": torch.ones(4)})
    with opened(samples.passing()) as none:
        assert none is None
    made = samples.diagnosis(gauges="gauges")
    with opened(made) as none:
        assert none is None  # it was loaded without them
    made.files.update({f"gauges/{n}": data for n, data in store.files().items()})
    made.files["gauges/../../stray"] = b"x"
    with opened(made) as found:
        assert recorded(found).grids["weights"].places == ["a"]
    assert not list(tmp_path.parent.rglob("stray"))
    for name, data in store.files().items():
        (tmp_path / "gauges" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "gauges" / name).write_bytes(data)
    with opened(samples.diagnosis(gauges="gauges"), tmp_path) as found:
        assert found.tables == ["weights"]


def test_parameters_stand_in_the_order_of_the_model():
    store = Store()
    weights(store, 0, {"first": torch.ones(4), "second": torch.ones(4)})
    store.append("updates", {"step": [0, 0, 0], "parameter": ["second", "other", "first"], "ratio": [2.0, 3.0, 1.0]})
    grid = recorded(store).grids["updates"]
    assert grid.places == ["first", "second", "other"]
    assert grid.values["ratio"][:, 0].tolist() == [1.0, 2.0, 3.0]


def test_what_could_not_be_recorded_is_told_with_the_reason():
    store = Store()
    weights(store, 0, {"a": torch.ones(4)})
    assert recorded(store).notes == {}
    store.append("unrecorded", {"step": [0, 0], "where": ["", "body.2"], "reason": ["threads", "<b>compiled</b>"]})
    assert recorded(store).notes == {"the model": "threads", "body.2": "<b>compiled</b>"}
