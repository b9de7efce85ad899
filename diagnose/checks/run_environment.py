"""Where the run takes place is known: device, precision, threads and what makes it repeatable.

## What it does
Reads the device, its memory and driver, the type of the weights, whether mixed precision has an effect, the threads of
torch, and the flags that decide whether two runs give the same bits.

## Why it matters
`to_fp16()` without CUDA trains in single precision and says so in a warning that scrolls away; a benchmark flag makes
two equal runs differ; eight threads on two cores make a run slower than one does.

## How it is judged
It is not: it passes and says what it found. There is no threshold.

## What to do
Mixed precision without effect: drop `to_fp16()`, or train on a CUDA device. For equal bits in every run:
`torch.use_deterministic_algorithms(True)` and `torch.backends.cudnn.benchmark = False`.

## Source
PyTorch's documentation, "Reproducibility" and "CPU threading"; fastai `MixedPrecision` (its scaler is CUDA's).
"""

import math
import os

import psutil
import torch
from fastai.callback.fp16 import MixedPrecision

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.lab import Lab
from diagnose.runtime import cores


class RunEnvironment(Check):
    """Reads device, precision, threads and flags."""

    stage = "inspection"
    order = 5
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        device, weights = lab.device, list(lab.learn.model.parameters())
        types = sorted({str(p.dtype).removeprefix("torch.") for p in weights})
        mixed = any(isinstance(cb, MixedPrecision) for cb in lab.learn.cbs)
        found = [
            Evidence(name="device", value=str(device)),
            Evidence(name="types of the weights", value=types),
            Evidence(name="devices of the weights", value=sorted({str(p.device) for p in weights})),
            Evidence(name="mixed precision", value=mixed),
            Evidence(name="mixed precision has an effect", value=mixed and device.type == "cuda"),
            Evidence(name="threads", value=torch.get_num_threads(), expected=f"<= {cores()} cores"),
            Evidence(name="cores", value=cores()),
            Evidence(name="memory", value=psutil.virtual_memory().total / 2**30, unit="GiB"),
            Evidence(name="deterministic algorithms", value=torch.are_deterministic_algorithms_enabled()),
            Evidence(name="cudnn benchmark", value=torch.backends.cudnn.benchmark),
            Evidence(name="float32 matrix products", value=torch.get_float32_matmul_precision()),
        ]
        if device.type == "cuda":
            facts = torch.cuda.get_device_properties(device)
            found += [
                Evidence(name="device name", value=facts.name),
                Evidence(name="device memory", value=facts.total_memory / 2**30, unit="GiB"),
                Evidence(name="compute capability", value=f"{facts.major}.{facts.minor}"),
                Evidence(name="CUDA version of torch", value=torch.version.cuda or ""),
                Evidence(name="CUDA_VISIBLE_DEVICES", value=os.environ.get("CUDA_VISIBLE_DEVICES", "")),
            ]
        return EvidenceList(found)

    def judge(self, evidence: EvidenceList) -> Judgement:
        threads, memory = number(evidence, "threads"), number(evidence, "memory")
        if not (math.isfinite(threads) and math.isfinite(memory)):
            return Judgement("skip", "not measured")
        types = evidence.get("types of the weights")
        told = f"on {evidence.get('device')} in {', '.join(map(str, types)) if isinstance(types, list) else types}"
        told += f", {threads:.0f} threads on {number(evidence, 'cores'):.0f} cores, {memory:.0f} GiB"
        if evidence.get("mixed precision") is True and evidence.get("mixed precision has an effect") is not True:
            told += "; to_fp16 has no effect without a CUDA device"
        if evidence.get("cudnn benchmark") is True:
            told += "; the cudnn benchmark flag is on: two runs may differ in their last bits"
        return Judgement("pass", told)
