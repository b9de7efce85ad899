"""Samples of many tensors over several steps: where they stand, what is copied, and that rows do not touch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diagnose.packed import CHUNK
from diagnose.sampling import SAMPLE, Samples, Window, geometry, sample
from diagnose.stats import Layout, Summary, dots, squares

pytestmark = pytest.mark.usefixtures("both_ways")

SHAPES = [
    *((7,), (64, 64), (300, 5), (3, 8, 16, 16), (5000,), (SAMPLE,)),
    *((2, 3), (16, 257)),
]


def take(samples: Samples, step: int, tensors: dict[str, torch.Tensor]) -> None:
    named = [(n, sample(t)) for n, t in tensors.items()]
    for copy, members in samples.copies(named):
        samples.take(step, copy, [named[i][1] for i in members])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_shows_what_sample_shows(shape):
    t = torch.randn(shape)
    for shift in (1, 2, 77):
        assert torch.equal(Window.of(t).view(t, shift), sample(t, shift))
    turned = torch.randn(shape[::-1]).permute(*range(len(shape) - 1, -1, -1))
    assert torch.equal(Window.of(t).view(turned, 3), sample(turned, 3))  # another stride than was expected
    assert torch.equal(Window.of(turned).view(turned, 3), sample(turned, 3))


def test_every_tensor_has_a_row_of_its_own_at_every_step():
    torch.manual_seed(0)
    steps = [{str(s): torch.randn(s) + i for s in SHAPES} for i in range(3)]
    samples = Samples(4)
    for k, tensors in enumerate(steps):
        take(samples, k, tensors)
    found = samples.reduce(3, True)
    assert found.names == [str(s) for s in SHAPES] * 3  # in the order in which they came
    summary = Summary(found.packed)
    for i, (place, name) in enumerate(zip(found.places, found.names)):
        x = sample(steps[place][name]).double().numpy().reshape(-1)
        assert summary.count[i] == x.size
        assert summary.mean[i] == pytest.approx(x.mean(), abs=1e-5)
        assert summary.std[i] == pytest.approx(x.std(), rel=1e-5)


def test_a_tensor_that_changes_its_size_keeps_its_name_and_memory_stays_bounded():
    torch.manual_seed(0)
    samples, sizes = Samples(64), [*range(1, 61), 5, 2]
    tensors = [torch.randn(n) + 1 for n in sizes]
    for k, t in enumerate(tensors):
        take(samples, k, {"text": t, "other": torch.zeros(8)})
    found = samples.reduce(len(sizes), False)
    mine = [i for i, n in enumerate(found.names) if n == "text"]
    summary = Summary(found.packed[mine])
    np.testing.assert_array_equal(summary.count, sizes)
    np.testing.assert_allclose(summary.mean, [float(t.double().mean()) for t in tensors], rtol=1e-5)
    np.testing.assert_allclose(summary.min, [float(t.min()) for t in tensors], rtol=1e-6)
    assert summary.histogram.sum(1).tolist() == sizes
    assert samples.bytes_a_step < 4 * (8 + 2 * 128)  # rows of 1, 2, 4, ... 64 elements, not one for each size


def test_what_was_not_taken_is_not_there():
    samples = Samples(3)
    take(samples, 0, {"a": torch.ones(5), "b": torch.ones(6)})
    take(samples, 1, {"b": torch.ones(6)})
    assert list(zip(samples.reduce(2, False).places, samples.reduce(2, False).names)) == [(0, "a"), (0, "b"), (1, "b")]
    samples.clear()
    assert not samples.reduce(2, False).names
    take(samples, 0, {"b": torch.ones(6)})
    assert samples.reduce(1, False).names == ["b"]


def test_numbers_of_other_kinds_are_taken_as_they_are():
    kinds = {
        "half": torch.tensor([1.0, 2.5]).half(),
        "double": torch.tensor([1e300, 2e300], dtype=torch.float64),
        "int": torch.tensor([3, 4]),
        "truth": torch.tensor([True, False]),
    }
    samples = Samples(1)
    take(samples, 0, kinds)
    found = samples.reduce(1, False)
    means = dict(zip(found.names, Summary(found.packed).mean))
    assert means == {"half": 1.75, "double": pytest.approx(1.5e300), "int": 3.5, "truth": 0.5}


@pytest.mark.parametrize("widths", [(3, 100, 17, 5000, 1), (64, 64, 64), (200_000, 7, 200_000)], ids=str)
def test_sums_of_rows_are_numpys_in_every_layout(widths):
    torch.manual_seed(0)
    layout = Layout(widths)
    a, b = torch.randn(3, layout.width), torch.randn(3, layout.width)
    x, y = a.double().numpy(), b.double().numpy()
    edges = list(zip(layout.starts[:-1], layout.starts[1:]))
    by_row = lambda z: np.stack([z[:, i:j].sum(1) for i, j in edges], 1)  # noqa: E731
    np.testing.assert_allclose(squares(a, b, layout), by_row((x - y) ** 2), rtol=1e-4)
    np.testing.assert_allclose(squares(a, b[:1], layout), by_row((x - y[:1]) ** 2), rtol=1e-4)
    np.testing.assert_allclose(squares(a, None, layout), by_row(x**2), rtol=1e-4)
    np.testing.assert_allclose(dots(a, b, layout), by_row(x * y), atol=1e-3 * max(widths) ** 0.5)


def test_a_device_sums_as_the_host_does():
    layout = Layout([3, 100, 17, 1])
    x = torch.randn(5, layout.width)
    for how in ("sum", "min", "max"):
        torch.testing.assert_close(layout._on_device(x, how), layout.total(x, how))


def test_samples_of_large_parameters_lie_on_lines_of_the_cache():
    for n in (40_000, 73_728, 1_000_003):
        found = geometry((n,), (1,))
        assert found.gap % CHUNK == found.room // 2 % CHUNK == 0
        assert found.gap // CHUNK % 2 == 1  # rows of a matrix have even lengths: every column is met
        assert 0 <= found.room <= n - (found.chunks - 1) * found.gap - CHUNK
        assert found.gap * found.chunks > 0.85 * n
