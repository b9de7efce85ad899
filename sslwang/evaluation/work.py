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
Outcome = tuple[Any, str | None, int | None]  # result, what went wrong, and the number of the signal that ended it


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
        Results (None for those that failed), and a line for each that failed, in the order of the units.
    """
    results: list[Any] = [None] * len(units)
    failed: dict[int, str] = {}

    def finish(place: int, outcome: Outcome) -> None:
        results[place], wrong, signalled = outcome
        if signalled is not None:
            raise Interrupted(wrong, signalled)
        if wrong is not None:
            failed[place] = f"{units[place][0]}: {wrong}"
        on_unit(units[place][0], results[place])

    if jobs == 1 or len(units) < 2:
        for place, (_, call, args) in enumerate(units):
            finish(place, _outcome(call, args))
        return results, list(failed.values())
    context = multiprocessing.get_context("spawn")  # a forked process would inherit threads that are not there
    pool = ProcessPoolExecutor(min(jobs, len(units)), context, initializer=_alone)
    try:
        waiting = {pool.submit(_outcome, call, args): place for place, (_, call, args) in enumerate(units)}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                finish(waiting.pop(future), future.result())
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
    return results, [failed[place] for place in sorted(failed)]


def _outcome(call: Callable[..., Any], args: tuple) -> Outcome:
    "Errors come as text: one that holds more than its message does not survive the way out of a process."
    try:
        return call(*args), None, None
    except Interrupted as e:
        return None, str(e), e.exit_code - 128
    except DiagnoseError as e:
        return None, str(e), None


def _alone() -> None:
    "One thread, and Ctrl-C is the parent's to handle."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import warnings

    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated")
