"""A training step of the configured batch size fits into memory.

## What it does
Makes one training pass for doubling batch sizes and adds up what it takes. On CUDA: the allocator's peak, doubled until
the device runs out and then bisected; running out is caught. On the CPU: weights, gradients, optimizer state and every
tensor that autograd keeps for the backward pass, up to a quarter of the free memory, the rest extrapolated. Temporary
buffers inside a kernel are not seen on the CPU.

## Why it matters
The largest batch that fits is found by crashing, usually hours into a run and in the last batch of an epoch.

## How it is judged
Warns if the configured batch size needs more than is free. Else it passes and names the largest size that fits. The
extrapolation is linear in the rows, from the two largest sizes that were tried.

## What to do
A smaller batch with `GradientAccumulation`, mixed precision, or gradient checkpointing.

## Source
PyTorch's documentation, "CUDA memory management" and "Hooks for saved tensors".
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.lab import Lab
from diagnose.runtime import SHARE, memory_by_rows
from diagnose.stats import tensors

MIB = 2**20


class BatchMemory(Check):
    """Adds up memory by batch size."""

    stage = "trial"
    order = 87
    cost = "one step, and up to 11 forward and backward passes of doubling size, about 3 to 7 s"
    extra = True

    def measure(self, lab: Lab) -> EvidenceList:
        memory = memory_by_rows(lab)
        configured = max((len(t) for t in tensors(lab.whole_batch) if t.ndim), default=0)
        free = memory.limit if lab.device.type == "cuda" else memory.limit / SHARE
        found = EvidenceList(
            [
                Evidence(name="configured batch size", value=configured),
                Evidence(name="largest batch size that fits", value=memory.fits),
                Evidence(name="largest was tried", value=memory.measured),
                Evidence(name="memory per row", value=memory.per_row / MIB, unit="MiB"),
                Evidence(name="weights, gradients and optimizer state", value=memory.fixed / MIB, unit="MiB"),
                Evidence(name="free memory", value=free / MIB, unit="MiB"),
                Evidence(name="limit", value=memory.limit / MIB, unit="MiB"),
            ]
        )
        for rows in sorted(memory.peak):
            where = f"batch size {rows}"
            found.append(Evidence(name="memory", value=memory.peak[rows] / MIB, unit="MiB", where=where))
            found.append(Evidence(name="rows per second", value=rows / memory.seconds[rows], unit="1/s", where=where))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        size, fits = number(evidence, "configured batch size"), number(evidence, "largest batch size that fits")
        row, fixed, free = (
            number(evidence, name)
            for name in ("memory per row", "weights, gradients and optimizer state", "free memory")
        )
        if not all(map(math.isfinite, (size, fits, fixed, free))):
            return Judgement("skip", "not measured")
        needed = fixed + size * row if math.isfinite(row) else fixed
        limit = number(evidence, "limit")
        told = f"a step of {size:.0f} rows takes about {needed:.3g} MiB of {free:.3g} free"
        if needed > free:
            return Judgement("warn", f"{told}: it does not fit")
        how = "was tried" if evidence.get("largest was tried") is True else "is extrapolated"
        return Judgement("pass", f"{told}; {fits:.0f} rows would fit into {limit:.3g} MiB ({how})")
