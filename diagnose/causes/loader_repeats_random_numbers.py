"""Workers or epochs draw the same random numbers, so that "random" items repeat.

## What it is
numpy's global state, copied into every worker process; `np.random.seed(42)` in `worker_init_fn`, or the worker's number
alone as its seed, which repeats the first epoch for ever.

## Why it stops learning
Augmentation draws a fraction of what was paid for: each crop comes once from every worker, or in every epoch again.
What looks like ten thousand different items is a few hundred, and the net learns them by heart.

## How it is found
Two workers, seeded as the loader seeds its own, read a few items over two epochs and draw a number after each, from the
streams that reading an item uses.

## How it is proven
By that inspection: two draws of 53 bits agree by chance in 1 of 10^16 cases.

## How to fix
    def begin(worker): np.random.seed(torch.initial_seed() % 2**32)   # torch's seed differs by worker and epoch
    rng = np.random.default_rng([seed, epoch, index])                 # better: one generator an item

## What it looks like but is not
Items that draw from a generator of their own, seeded by their index; loaders without workers; streams no item uses.

## Source
Real failure F20 of the notes, and its first repair, which repeated every epoch; PyTorch's documentation, "Randomness in
multi-process data loading".
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number, texts
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "worker-draws"
SAME = ("the same in both workers", "the same in both epochs")


class LoaderRepeatsRandomNumbers(Cause):
    """Suspected when a stream in use gives equal draws."""

    settled_by = "inspection"
    when_learned = True
    questions = (12,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        for what in SAME:
            for stream in texts(findings, CHECK, "streams in use"):
                same, of = number(findings, CHECK, what, stream), number(findings, CHECK, "draws", stream)
                if 0 < same <= of:
                    reason = f"{same:.0f} of {of:.0f} draws from {stream} are {what}"
                    return Suspicion(1.0, reason, [stream], {"what": what, "stream": stream, "same": same, "of": of})
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        facts = suspicion.facts
        proof = inspected(
            "the draws of two workers compared over two epochs",
            suspicion.reason,
            "sound streams share none",
            {facts["what"]: facts["same"], "draws": facts["of"]},
            **{facts["what"]: 0},
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        seed = {"numpy": "np.random.seed", "python": "random.seed", "torch": "torch.manual_seed"}
        call = seed.get(suspicion.facts["stream"], "np.random.seed")
        return Fix(
            text=f"Seed {suspicion.facts['stream']} in each worker from torch's own seed, which differs between "
            "workers and between epochs; or draw from a generator that belongs to the item.",
            code=f"def begin(worker):\n    {call}(torch.initial_seed() % 2**32)\n\n"
            "loader = DataLoader(ds, num_workers=4, worker_init_fn=begin)",
        )
