"""The statistics kernel against NumPy in float64, on friendly and on hostile tensors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kurtosis

from diagnose.stats import BINS, FIELDS, Summary, _bincount_without_waiting, exact, histogram_edges, summarise, summary

pytestmark = pytest.mark.usefixtures("both_ways")

torch.manual_seed(0)
NORMAL = torch.randn(50_000)
HOSTILE = {
    "normal": NORMAL,
    "one element": torch.tensor([3.5]),
    "one zero": torch.tensor([0.0]),
    "minus zero": torch.tensor([-0.0, 1.0]),
    "all alike": torch.full((5000,), 1.25),
    "zeros": torch.zeros(300),
    "relu": NORMAL.relu(),
    "far from zero": NORMAL[:9000] * 1e-3 + 1000,
    "outlier first": torch.cat([torch.tensor([1e6]), NORMAL[:5000]]),
    "tiny": NORMAL * 1e-30,
    "denormal": torch.tensor([1e-40, -1e-42, 0.0, 1e-45] * 2000),
    "huge": NORMAL * 1e36,
    "huge, alike": torch.full((5000,), 8.2e17),  # the sum of their squares is too large for float32, each is not
    "largest": torch.tensor([torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max, 1.0]),
    "nan in it": torch.cat([NORMAL[:5000], torch.tensor([math.nan])]),
    "inf in it": torch.cat([torch.tensor([math.inf, -math.inf]), NORMAL[:5000]]),
    "all nan": torch.full((5000,), math.nan),
    "nan in one part": torch.cat([torch.full((4096,), math.nan), NORMAL[:6000]]),
    "sizes apart": torch.cat([NORMAL[:4096] * 1e-6, NORMAL[:4096] * 1e3]),
    "float16": NORMAL[:5000].half(),
    "bfloat16": NORMAL[:5000].bfloat16(),
    "float64": NORMAL.double() * 1e200,
    "float64 small": NORMAL[:5000].double() * 1e-200,
    "float64 denormal": torch.tensor([5e-324, 0.0, -5e-324], dtype=torch.float64),
    "int64": torch.arange(-3000, 4000),
    "uint8": torch.arange(256, dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "non-contiguous": torch.randn(80, 90).t()[::2],
    "channels last": torch.randn(4, 8, 9, 9).to(memory_format=torch.channels_last),
    "expanded": torch.randn(1, 7).expand(1000, 7),
}


def reference(tensor: torch.Tensor) -> dict[str, float]:
    x = tensor.double().numpy().reshape(-1)
    finite = x[np.isfinite(x)]
    size = np.abs(finite).max() if finite.size and np.abs(finite).max() else 1.0
    z = finite / size
    some = finite.size > 0
    return {
        "count": x.size,
        "mean": z.mean() * size if some else math.nan,
        "std": z.std() * size if some else math.nan,
        "min": finite.min() if some else math.nan,
        "max": finite.max() if some else math.nan,
        "kurtosis": kurtosis(z) if some and z.std() > 0 else math.nan,
        "zeros": (x == 0).mean(),
        "negatives": (finite < 0).sum() / x.size,
        "nonfinite": 1 - finite.size / x.size,
    }


def close(mine: float, theirs: float, scale: float, tolerance: float) -> bool:
    if math.isnan(theirs):
        return True
    return abs(mine - theirs) <= tolerance * max(abs(theirs), scale)


def agree(found: Summary, tensor: torch.Tensor, row: int = 0) -> None:
    expected = reference(tensor)
    scale = 0.0 if math.isnan(expected["std"]) else expected["std"]
    for field in ("count", "zeros", "negatives", "nonfinite"):
        assert getattr(found, field)[row] == pytest.approx(expected[field], abs=1e-9), field
    assert math.isnan(found.mean[row]) == math.isnan(expected["mean"])
    assert close(found.mean[row], expected["mean"], scale, 1e-5), (found.mean[row], expected["mean"])
    assert close(found.std[row], expected["std"], abs(expected["mean"]) * 1e-6, 1e-4)
    assert close(found.min[row], expected["min"], 0.0, 1e-7)
    assert close(found.max[row], expected["max"], 0.0, 1e-7)
    if math.isfinite(expected["kurtosis"]) and expected["std"] > 1e-6 * abs(expected["mean"]):
        assert close(found.kurtosis[row], expected["kurtosis"], 1.0, 1e-3)


def histogram_of(tensor: torch.Tensor, top: int) -> np.ndarray:
    x = tensor.double().numpy().reshape(-1)
    finite = x[np.isfinite(x)]
    edges = histogram_edges(top)
    magnitude = np.abs(finite[finite != 0])
    sign = np.sign(finite[finite != 0])
    steps = edges[BINS // 2 + 1 :]  # of the positive side
    place = np.digitize(magnitude, steps).clip(0, 30)
    counts = np.zeros(BINS)
    np.add.at(counts, np.where(sign > 0, 32 + place, 30 - place), 1)
    counts[31] = (finite == 0).sum()
    counts[63] = x.size - finite.size
    return counts


@pytest.mark.parametrize("name", HOSTILE)
def test_every_statistic_is_numpys(name):
    agree(summary(HOSTILE[name]), HOSTILE[name])


@pytest.mark.parametrize("name", HOSTILE)
def test_the_histogram_counts_what_numpy_counts(name):
    found = summary(HOSTILE[name])
    expected = histogram_of(HOSTILE[name], int(found.top[0]))
    assert found.histogram[0].sum() == HOSTILE[name].numel()
    np.testing.assert_array_equal(found.histogram[0], expected)


def test_nothing_is_read_from_an_empty_tensor():
    found = summary(torch.empty(0, 3))
    assert found.count[0] == 0
    assert math.isnan(found.mean[0])
    assert found.histogram.sum() == 0


def test_a_complex_tensor_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="magnitude"):
        summary(torch.zeros(3, dtype=torch.complex64))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_sparse_tensor_is_read_by_its_values():
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 2, 2]]), torch.tensor([1.0, 2.0, 3.0]), (5,))
    found = summary(sparse)
    assert found.count[0] == 2
    assert found.max[0] == 5


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 700),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
    )
)
def test_any_numbers_at_all(values):
    tensor = torch.from_numpy(values)
    agree(summary(tensor), tensor)
    found = summary(tensor)
    np.testing.assert_array_equal(found.histogram[0], histogram_of(tensor, int(found.top[0])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_unequal_length_do_not_touch_each_other(dtype):
    rows = torch.randn(5, 64, dtype=dtype)
    rows[1, 10:] = math.nan  # beyond what counts
    rows[3, :2] = math.inf
    counts = torch.tensor([64, 10, 1, 30, 33])
    before = rows.clone()
    found = Summary(summarise(rows, counts, kurtosis=True))
    assert torch.equal(torch.nan_to_num(rows), torch.nan_to_num(before))
    for row, count in enumerate(counts.tolist()):
        agree(found, rows[row, :count], row)
        np.testing.assert_array_equal(found.histogram[row], histogram_of(rows[row, :count], int(found.top[row])))


def test_many_rows_are_taken_in_parts():
    rows = torch.randn(700, 32)
    found = Summary(summarise(rows))
    np.testing.assert_allclose(found.mean, rows.double().mean(1), atol=1e-6)
    np.testing.assert_allclose(found.std, rows.double().std(1, unbiased=False), rtol=1e-5)


def test_the_error_of_a_sampled_mean_covers_the_truth():
    torch.manual_seed(1)
    truth, misses, tries = 0.0, 0, 200
    chunks = torch.randn(tries, 256, 1).expand(tries, 256, 16)  # neighbours alike: 256 independent numbers a row
    rows = (chunks + 0.1 * torch.randn(tries, 256, 16)).reshape(tries, 4096)
    found = Summary(summarise(rows))
    misses = int((np.abs(found.mean - truth) > 1.96 * found.error).sum())
    assert 2 <= misses <= 22  # 5 % of 200, with binomial room
    assert (found.error > 3 * found.std / math.sqrt(4096)).all()  # neighbours are not independent draws


def test_a_device_counts_as_the_host_does():
    where = torch.randint(0, 50, (10_000,), dtype=torch.int32)
    assert torch.equal(_bincount_without_waiting(where, minlength=64), torch.bincount(where, minlength=64))


def test_l2_is_scaled_to_the_whole():
    x = torch.randn(4096)
    assert summary(x).l2(np.array([4096]))[0] == pytest.approx(float(x.norm()), rel=1e-5)
    assert summary(x).l2(np.array([4 * 4096]))[0] == pytest.approx(2 * float(x.norm()), rel=1e-5)


def test_edges_are_the_same_numbers_for_every_top():
    a, b = histogram_edges(3), histogram_edges(5)
    assert set(np.abs(a)) & set(np.abs(b)) >= set(np.abs(a)[np.abs(a) > 1e-3])
    assert a[-1] == 4.0  # half-octave 3 is [3, 4)
    assert list(a) == sorted(a)


def test_packed_fields_stand_where_they_are_looked_for():
    packed = exact([torch.ones(3), torch.ones(5)])
    assert packed.shape == (2, len(FIELDS) + BINS)
    assert list(packed[:, FIELDS.index("count")]) == [3, 5]
