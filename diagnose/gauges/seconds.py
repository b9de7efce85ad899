"""Where the time of a step goes: waiting for data, forward, loss, backward, step.

## What is recorded
Seconds: `seconds_waiting` (from the end of the step before to this batch's arrival), `seconds_forward`,
`seconds_loss`, `seconds_backward`, `seconds_step` (optimizer and zeroing), `seconds_batch` (all but the waiting).

## How it is measured
On CPU by the clock at the events. On CUDA by events on the device, which are read when they have long passed, so that
nothing waits for them; waiting for data is by the host's clock. The recording's own time is part of what it records.

## What it costs
Nothing that can be measured.

## Source
The notes of 9/11 to 9/13; PyTorch's performance tuning guide.
"""

from collections.abc import Iterator

from diagnose.gauges import Block, Columns, Gauge, Moment

MARKS = ("start", "pred", "loss", "backward", "step")


class Seconds(Gauge):
    """Duration of every part of a step."""

    def rows(self, block: Block) -> Columns:
        found: dict[str, list] = {
            f"seconds_{n}": [] for n in ("waiting", "forward", "loss", "backward", "step", "batch")
        }
        for place, moment in enumerate(block.moments):
            for name, value in _durations(moment):
                found[f"seconds_{name}"].append((place, value))
        return {name: block.column(values) for name, values in found.items()}


def _durations(moment: Moment) -> Iterator[tuple[str, float]]:
    marks = moment.marks
    if "waiting" in marks:
        yield "waiting", marks["start"] - marks["waiting"]
    if "end" in marks:
        yield "batch", marks["end"] - marks["start"]
    for name, a, b in zip(("forward", "loss", "backward", "step"), MARKS, MARKS[1:]):
        if a in moment.device_marks and b in moment.device_marks:
            yield name, moment.device_marks[a].elapsed_time(moment.device_marks[b]) / 1000
        elif a in marks and b in marks:
            yield name, marks[b] - marks[a]
