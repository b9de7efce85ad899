"""The loader is set to as many workers as this machine makes use of.

## What it does
Reads the training loader with 0, 1, 2, 4 and 8 workers, as far as there are cores, and on CUDA with and without pinned
memory: seconds to the first batch (starting the workers included), then items a second without and with that batch,
and seconds for the whole epoch. Each setting is read for about a second. Workers that deliver nothing for 20 s count as
stuck; all of them are ended.

## Why it matters
Too few workers starve the device; too many on few cores, or for a short epoch, cost more to start than they save.

## How it is judged
It passes and names the setting with the shortest epoch. Timings say nothing about learning, and on a machine that does
other work they vary by tens of per cent.

## What to do
`dls = ...dataloaders(..., num_workers=N, pin_memory=True)` with the setting that is named.

## Source
The notes of 9/11 to 9/13 asked exactly this; PyTorch's "Performance Tuning Guide".
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders
from diagnose.lab import Lab
from diagnose.runtime import batches_per_epoch, configured, loader_rates


class LoaderThroughput(Check):
    """Reads the loader under several numbers of workers."""

    stage = "trial"
    order = 85
    cost = "about 1 s for each of up to 5 numbers of workers, no pass"
    extra = True

    def measure(self, lab: Lab) -> EvidenceList:
        rates, batches = loader_rates(lab), batches_per_epoch(lab)
        if all(r.error for r in rates):
            raise NotApplicable(f"no setting of the loader delivered a batch: {rates[0].error}")
        now, pinned = configured(loaders(lab.learn)[0])
        found = EvidenceList(
            [
                Evidence(name="configured workers", value=now),
                Evidence(name="configured pin_memory", value=pinned),
                Evidence(name="batches in an epoch", value=batches),
            ]
        )
        for rate in rates:
            if rate.error:
                found.append(Evidence(name="error", value=rate.error, where=rate.where))
                continue
            epoch = math.nan if batches is None else rate.epoch(batches)
            found += [
                Evidence(name="items per second", value=rate.items_per_second, unit="1/s", where=rate.where),
                Evidence(
                    name="items per second with the first batch", value=rate.with_first, unit="1/s", where=rate.where
                ),
                Evidence(name="seconds to the first batch", value=rate.first, unit="s", where=rate.where),
                Evidence(name="seconds per epoch", value=epoch, unit="s", where=rate.where),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        epochs = {e.where: number(evidence, e.name, e.where) for e in evidence.all("seconds per epoch")}
        epochs = {where: value for where, value in epochs.items() if math.isfinite(value)}
        if not epochs:
            return Judgement("skip", "not measured")
        best = min(epochs, key=epochs.__getitem__)
        told = f"an epoch is read in {epochs[best]:.3g} s with {best}"
        now = f"workers={number(evidence, 'configured workers'):.0f}, "
        here = next((where for where in epochs if where.startswith(now)), None)
        if here and here != best:
            told += f", in {epochs[here]:.3g} s as configured ({here})"
        elif here:
            told += ", as configured"
        rate = number(evidence, "items per second", best)
        told += f"; {stated(rate)} items a second" if math.isfinite(rate) else ""
        stuck = evidence.all("error")
        told += f"; {len(stuck)} settings did not work, the first with {stuck[0].where}" if stuck else ""
        return Judgement("pass", told)
