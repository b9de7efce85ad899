"""Several processes on one training, as `accelerate launch` starts them.

Each process trains on its own share of every epoch's batches, and gradients are averaged; only the first one asks the
gate, writes, and decides. The gate is asked before the processes come together, and all of them end if it refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fastai.learner import Learner
from torch.nn.parallel import DistributedDataParallel

from diagnose.errors import DiagnoseError

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # that the others wait for the first, while it examines


@dataclass(frozen=True)
class Launch:
    """The place of this process among those of a training.

    Args:
        rank: from 0, of processes in all. local: rank among those of this machine.
    """

    rank: int = 0
    processes: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls) -> Launch:
        """As a launcher says it in RANK, WORLD_SIZE and LOCAL_RANK; alone if there is none.

        Raises:
            DiagnoseError: these are no numbers.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            rank, processes, local = (int(os.environ.get(n, d)) for n, d in zip(names, (0, 1, 0)))
        except ValueError as e:
            raise DiagnoseError(f"{', '.join(names)}: a launcher left something else than numbers there ({e})") from e
        return cls(rank, processes, local) if processes > 1 else ALONE

    @property
    def first(self) -> bool:
        """Whether this one writes and decides."""
        return self.rank == 0

    @contextmanager
    def group(self, device: torch.device) -> Iterator[torch.device]:
        """Inside, the processes can talk to each other; gives the device of this one.

        Raises:
            DiagnoseError: the others do not answer.
        """
        if self.processes == 1:
            yield device
            return
        if device.type == "cuda":
            device = torch.device("cuda", self.local)
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
        except (ValueError, RuntimeError) as e:
            raise DiagnoseError(f"rank {self.rank} of {self.processes}: the others do not answer ({e})") from e
        try:
            yield device
        finally:
            dist.destroy_process_group()

    def from_first(self, ask: Callable[[], T]) -> T:
        """What the first process answers, in all of them; what it raises, all of them raise."""
        if self.processes == 1:
            return ask()
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer = [ask(), None]
            except DiagnoseError as e:
                dist.broadcast_object_list([None, (str(e), e.exit_code)], 0, device=torch.device("cpu"))
                raise
            except BaseException as e:
                dist.broadcast_object_list([None, (type(e).__name__, 3)], 0, device=torch.device("cpu"))
                raise
        dist.broadcast_object_list(answer, 0, device=torch.device("cpu"))
        if answer[1] is not None:
            raise FirstEnded(*answer[1])
        return answer[0]

    @contextmanager
    def prepared(self, learn: Learner) -> Iterator[None]:
        """Inside, a Learner trains on its share, and the gradients of all processes are averaged."""
        if self.processes == 1:
            yield
            return
        model, loader = learn.model, learn.dls.train
        on_gpu = next(model.parameters()).is_cuda
        learn.model = DistributedDataParallel(model, device_ids=[self.local] if on_gpu else None)
        loader.share = (self.rank, self.processes)
        try:
            yield
        finally:
            learn.model, loader.share = model, (0, 1)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.processes == 1:
            return flag
        told = torch.tensor([int(flag)])
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())

    def agreed(self, flag: bool) -> bool:
        """What the first process says, in all of them."""
        if self.processes == 1:
            return flag
        told = torch.tensor([int(flag)])
        dist.broadcast(told, 0)
        return bool(told.item())


class FirstEnded(DiagnoseError):
    """The first process ended, and so does this one; what it said is said once."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


ALONE = Launch()
