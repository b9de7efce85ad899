"""Units of work, in this process or in several of one thread each."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from diagnose.errors import DiagnoseError
from sslwang.pretrain import Interrupted

Unit = tuple[str, Callable[..., Any], tuple]  # what it is in words, what is called, and with what


def work(
    units: Sequence[Unit], jobs: int = 1, on_unit: Callable[[str, Any], None] = lambda name, result: None
) -> tuple[list[Any], list[str]]:
    """Call every unit; results in the order of the units, and what went wrong.

    A unit that raises a DiagnoseError is told and the others go on; any other exception, and a signal, ends the work.
    With several jobs, functions, arguments and results are pickled.

    Args:
        jobs: processes; 1 stays in this one and leaves its threads alone, more take one thread each.
        on_unit: called with name and result when a unit is finished, whatever its place.

    Returns:
        Results (None for those that failed), and a line for each that failed.
    """
    results: list[Any] = [None] * len(units)
    failed: list[str] = []

    def finish(place: int, call: Callable[[], Any]) -> None:
        try:
            results[place] = call()
        except Interrupted:
            raise
        except DiagnoseError as e:
            failed.append(f"{units[place][0]}: {e}")
        on_unit(units[place][0], results[place])

    if jobs == 1 or len(units) < 2:
        for place, (_, call, args) in enumerate(units):
            finish(place, lambda call=call, args=args: call(*args))
        return results, failed
    context = multiprocessing.get_context("spawn")  # a forked process would inherit threads that are not there
    pool = ProcessPoolExecutor(min(jobs, len(units)), context, initializer=_alone)
    try:
        waiting = {pool.submit(call, *args): place for place, (_, call, args) in enumerate(units)}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                finish(waiting.pop(future), future.result)
    except BrokenProcessPool as e:
        raise DiagnoseError(
            "a worker process died, as when memory runs out; what is finished is kept: go on with --jobs 1"
        ) from e
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # nothing half-written is ever read
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results, failed


def _alone() -> None:
    "One thread, and Ctrl-C is the parent's to handle."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import warnings

    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated")
