"""What is compiled, against NumPy; and what happens where nothing can be compiled."""

import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import njit

from diagnose import compiled, stats
from diagnose.packed import LONG_CHUNK, PUT, Pages, Summary
from diagnose.sampling import SAMPLE, lies, lying


def read(t: torch.Tensor, shift: int) -> Summary:
    rows = lying([t], False)
    return Summary(stats.read(np.array([t.data_ptr()]), rows, False, True, shift))


@pytest.mark.parametrize("shift", [1, 2, 77])
@pytest.mark.parametrize("shape", [(SAMPLE + 1,), (SAMPLE + 300,), (4, 8, 31, 31), (200_003,)])
def test_the_samples_of_an_output_are_read_where_they_lie(shape, shift):
    t = torch.randn(shape)
    if t.ndim == 4:
        t = t.to(memory_format=torch.channels_last)
    assert lies(t)
    rows, found = lying([t], False), read(t, shift)
    flat = t.permute(0, 2, 3, 1).reshape(-1) if t.ndim == 4 else t
    begin = shift * 40503 % (int(rows.rooms[0]) + 1)
    runs = [flat[begin + r * int(rows.gaps[0]) :][:LONG_CHUNK] for r in range(int(rows.runs[0]))]
    x = torch.cat(runs).double().numpy()
    assert found.count[0] == len(x) == SAMPLE
    assert found.mean[0] == pytest.approx(x.mean(), rel=1e-9)
    assert found.std[0] == pytest.approx(x.std(), rel=1e-9)
    sums = x.reshape(-1, LONG_CHUNK).mean(1)
    assert found.error[0] == pytest.approx(sums.std(ddof=0) / math.sqrt(len(sums) - 1), rel=1e-6)
    assert np.isnan([found.min[0], found.max[0]]).all()  # of a sample they would mean nothing
    assert found.negatives[0] == (x < 0).mean()


def test_the_samples_stay_inside_the_tensor():
    for n in (SAMPLE + 1, SAMPLE + 63, SAMPLE + 64, 5000, 10_007, 1_000_003):
        rows = lying([torch.empty(n)], False)
        last = int(rows.rooms[0] + (rows.runs[0] - 1) * rows.gaps[0]) + LONG_CHUNK
        assert last <= n, n
        assert int(rows.gaps[0]) >= LONG_CHUNK


def test_what_is_no_plain_stretch_of_float32_is_left_to_pytorch():
    assert lies(torch.randn(8, 8))
    assert lies(torch.randn(8, 8).t())
    assert not lies(torch.randn(8, 8)[:, ::2])
    assert not lies(torch.randn(1, 8).expand(8, 8))
    assert not lies(torch.randn(8, 8).double())
    assert not lies(torch.randn(8, 8).half())
    assert not lies(torch.eye(8).to_sparse())


def test_the_error_of_a_sampled_mean_covers_the_truth_in_longer_runs_too():
    generator = torch.Generator().manual_seed(1)
    misses, tries = 0, 200
    for shift in range(tries):
        alike = torch.randn(2000, 1, generator=generator).expand(2000, 100)  # neighbours alike
        t = (alike + 0.1 * torch.randn(2000, 100, generator=generator)).reshape(-1)
        found = read(t, shift + 1)
        misses += abs(found.mean[0] - float(t.mean())) > 1.96 * found.error[0]
    assert misses <= 22  # 5 % of 200, with binomial room


def test_threads_find_what_one_finds(monkeypatch):
    tensors = [torch.randn(n) for n in (300_000, 5, 700_001, 4096, 1_000_000, 0)]
    alone = stats.exact(tensors)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    np.testing.assert_array_equal(stats.exact(tensors), alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    tensors = [torch.randn(600_000), torch.randn(600_000)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    expected = stats.exact(tensors)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(stats.exact(tensors), expected, equal_nan=True) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_a_unit_fires_if_anything_of_it_is_not_zero(axis):
    t = torch.zeros(3, 4, 5, 6)
    t[2, 1, 3, 0] = 1e-45
    t[0, 3, 0, 5] = math.nan
    t[1, 0, 0, 1] = -0.0
    others = tuple(d for d in range(4) if d != axis)
    expected = (t != 0).numpy().any(axis=others)
    for output in (t, t.to(memory_format=torch.channels_last), t.double()):
        np.testing.assert_array_equal(np.asarray(stats.fires(output, axis)), expected)


def test_a_large_mean_does_not_swallow_the_spread():
    x = torch.randn(50_000) * 1e-3 + 100
    found = stats.summary(x)
    assert found.std[0] == pytest.approx(x.double().std(unbiased=False).item(), rel=1e-9)


def test_minus_zeros_are_zeros_and_denormal_numbers_are_not():
    x = torch.cat([torch.full((5000,), -0.0), torch.zeros(70), torch.randn(500), torch.tensor([1e-40])])
    assert compiled._zeros(x.numpy().view(np.uint32)) == 5070  # what is left over is read again, slowly


def test_where_numba_fails_pytorch_does_it(monkeypatch, caplog):
    def broken(*_):
        raise OSError("no space left on device")

    compiled.enabled.cache_clear()
    monkeypatch.setattr(compiled, "statistics", broken)
    try:
        with caplog.at_level(logging.WARNING, "diagnose"):
            found = stats.summary(torch.arange(5.0))
        assert found.mean[0] == 2
        assert "no space left on device" in caplog.text
    finally:
        compiled.enabled.cache_clear()


def test_a_wrong_result_is_found_out(monkeypatch):
    compiled.enabled.cache_clear()
    monkeypatch.setattr(compiled, "products", lambda a, b, starts: np.ones((1, 1)))
    try:
        assert not compiled.enabled()
    finally:
        compiled.enabled.cache_clear()


def test_where_nothing_can_be_kept_it_is_compiled_anew(monkeypatch):
    def without_a_folder(*args, cache=False, **options):
        if cache:
            raise RuntimeError("no locator available")
        return njit(*args, **options)

    monkeypatch.setattr(compiled, "njit", without_a_folder)
    assert compiled._kept(lambda x: x + 1)(1) == 2


@pytest.mark.slow
def test_without_compilation_a_run_is_recorded_all_the_same(tmp_path):
    code = (
        "import torch\n"
        "from fastai.data.core import DataLoaders\n"
        "from fastai.learner import Learner\n"
        "from torch import nn\n"
        "from diagnose import Watch\n"
        "batches = [(torch.randn(8, 4), torch.randn(8, 2)) for _ in range(3)]\n"
        "learn = Learner(DataLoaders(batches, batches), nn.Linear(4, 2), loss_func=nn.MSELoss())\n"
        "watch = Watch()\n"
        "with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=watch)\n"
        "print(len(watch.frame('weights')), len(watch.frame('activations')))\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.stdout.split() == ["6", "3"], done.stderr


def test_statistics_stand_where_they_are_looked_for():
    found = stats.exact([torch.tensor([1.0, 2.0, 4.0])])[0]
    assert found[PUT["count"]] == 3
    assert (found[PUT["min"]], found[PUT["max"]]) == (1, 4)


@pytest.mark.parametrize("shape", [(3, 75), (1, 3), (0, 3)])
def test_pages_are_arrays_of_their_own_at_the_addresses_that_are_told(shape):
    pages = Pages(shape, many=4)
    found = [pages.next() for _ in range(10)]
    for i, (page, address) in enumerate(found):
        assert page.shape == shape
        assert address == page.ctypes.data or not page.size
        page[:] = i
    assert all((page == i).all() for i, (page, _) in enumerate(found))


def test_rows_of_a_matrix_are_written_where_they_are_told_and_nowhere_else():
    tensors = [torch.randn(n) for n in (100, 20_000, 64)]
    rows = lying(tensors, False)
    addresses, where = np.array([t.data_ptr() for t in tensors]), np.array([1, 2, 5])
    matrix, address = Pages((7, 75)).next()
    matrix[:] = -1
    compiled.statistics_to(addresses.ctypes.data, rows, 3, address, where.ctypes.data)
    alone = compiled.statistics(addresses, rows, False, True, shift=3)
    np.testing.assert_array_equal(matrix[where], alone)
    assert (matrix[[0, 3, 4, 6]] == -1).all()
