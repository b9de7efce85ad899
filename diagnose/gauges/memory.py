"""Memory of the process, and of the device.

## What is recorded
`memory_resident` (bytes of the process in RAM), and on CUDA `memory_allocated` and `memory_peak` (bytes of tensors on
the device, and the most there were since the last reading; the counter of the peak is not reset).

## How it is measured
Once a block of recorded steps: psutil, and PyTorch's own counters of its allocator.

## What it costs
About 30 µs a block.

## Source
PyTorch's notes on memory management.
"""

import psutil
import torch

from diagnose.gauges import Block, Columns, Gauge


class Memory(Gauge):
    """Resident memory, and the allocator's on CUDA."""

    def __init__(self):
        self._process = None

    def __getstate__(self) -> dict:
        return {"_process": None}

    def rows(self, block: Block) -> Columns:
        self._process = self._process or psutil.Process()
        last = len(block.moments) - 1
        found = {"memory_resident": block.column({last: self._process.memory_info().rss})}
        if torch.cuda.is_initialized():
            found["memory_allocated"] = block.column({last: torch.cuda.memory_allocated()})
            found["memory_peak"] = block.column({last: torch.cuda.max_memory_allocated()})
        return found
