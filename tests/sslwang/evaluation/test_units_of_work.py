"""Units of work in one process and in several."""

import math
import os
import pickle
import time

import pytest
import torch
from units import broken, refuse, stopped

from diagnose.errors import DiagnoseError
from sslwang.evaluation.work import _outcome, work
from sslwang.pretrain import Interrupted


def test_results_stand_in_the_order_of_the_units():
    seen = []
    results, failed = work([(str(k), math.sqrt, (k,)) for k in (4, 9, 16)], on_unit=lambda *x: seen.append(x))
    assert results == [2, 3, 4]
    assert failed == []
    assert seen == [("4", 2), ("9", 3), ("16", 4)]


def test_what_fails_is_told_and_the_others_go_on():
    results, failed = work([("a", math.sqrt, (4,)), ("b", refuse, ("room",)), ("c", math.sqrt, (9,))])
    assert results == [2, None, 3]
    assert failed == ["b: no room"]


@pytest.mark.parametrize("error", [ValueError("a defect"), Interrupted("stopped", 15), KeyboardInterrupt()])
def test_defects_and_signals_end_the_work(error):
    def fail():
        raise error

    later = []
    with pytest.raises(type(error)):
        work([("a", fail, ()), ("b", later.append, (1,))])
    assert later == []


def test_several_processes_give_the_same_with_one_thread_each():
    units = [("a", math.sqrt, (4,)), ("threads", torch.get_num_threads, ()), ("pid", os.getpid, ())]
    seen = []
    results, failed = work(units, 2, lambda name, result: seen.append(name))
    assert results[:2] == [2, 1]
    assert results[2] != os.getpid()
    assert failed == []
    assert sorted(seen) == ["a", "pid", "threads"]


def test_errors_come_out_of_several_processes_in_the_order_of_the_units():
    _, failed = work([("a", broken, (1,)), ("b", refuse, ("room",)), ("c", math.sqrt, (9,))], 2)
    assert failed == ["a: training: ValueError: a defect of theirs", "b: no room"]


def test_a_signal_keeps_its_exit_code_and_what_crosses_processes_is_plain():
    with pytest.raises(Interrupted, match="stopped") as caught:
        work([("a", stopped, ()), ("b", math.sqrt, (4,))])
    assert caught.value.exit_code == 143
    assert pickle.loads(pickle.dumps(_outcome(stopped, ()))) == (None, "stopped", 15)


def test_a_process_that_dies_is_one_clear_error():
    with pytest.raises(DiagnoseError, match="a worker process died"):
        work([("a", os._exit, (1,)), ("b", time.sleep, (0,))], 2)
