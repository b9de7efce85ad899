"""Some validation items belong to a class that the model has no output for."""

from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear
from diagnose.faults._items import alter, class_label, indexed, like

EVERY = 10  # one item in so many


class ClassWithoutOutput(Fault):
    """Gives every tenth validation item the index one past the last output."""

    cause = "labels-out-of-range"

    def inject(self, learn: Learner) -> None:
        loader, n, item = indexed(learn, 1)
        class_label(item, n)
        outputs = last_linear(learn.model)[2].out_features
        seen = [class_label(tuple(loader.dataset[i]), n) for i in range(min(len(loader.dataset), 100))]
        if max(seen) <= 1:
            raise NotApplicable("two classes may be one output's yes and no")
        if max(seen) >= outputs:
            raise NotApplicable(f"its targets are no classes of the last layer: they go up to {max(seen)} of {outputs}")

        def beyond(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return inputs, [like(targets[0], outputs)] if i % EVERY == 0 else targets

        alter(learn, beyond, splits=(1,))
