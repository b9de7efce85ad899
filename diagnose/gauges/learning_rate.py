"""Learning rate and momentum of every parameter group, as the step used them.

## What is recorded
`lr_0`, `lr_1`, ... and, where the optimizer has them, `momentum_0`, ...: one for each parameter group.

## How it is measured
Read from the optimizer's hyper-parameters at the end of the batch, when schedulers have set them.

## What it costs
Nothing that can be measured.

## Source
fastai's Recorder keeps the rate of the last group only.
"""

from diagnose.gauges import Block, Columns, Gauge


class LearningRate(Gauge):
    """Hyper-parameters of every group."""

    def after_batch(self, moment, learn) -> None:
        hypers = list(learn.opt.hypers) if learn.opt is not None else []
        moment.kept[self.id] = [(h.get("lr"), h.get("mom", h.get("momentum"))) for h in hypers]

    def rows(self, block: Block) -> Columns:
        found: dict[str, list] = {}
        for place, groups in block.kept(self.id):
            for i, pair in enumerate(groups):
                for name, value in zip(("lr", "momentum"), pair):
                    if isinstance(value, (int, float)):
                        found.setdefault(f"{name}_{i}", []).append((place, value))
        return {name: block.column(values) for name, values in found.items()}
