"""A checkpoint of which only the head has the right names, loaded with `strict=False`."""

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, parts_with_weights
from diagnose.faults.weights_under_a_prefix import checkpoint


class HeadLoadedAlone(Fault):
    """Offers the last part under its own name, and all before it under `backbone.…`."""

    cause = "weights-not-loaded"

    def inject(self, learn: Learner) -> None:
        state, head = checkpoint(learn), f"{parts_with_weights(learn.model)[-1]}."
        sizes = [sum(t.numel() for n, t in state.items() if n.startswith(head) is of) for of in (True, False)]
        if sizes[0] >= sizes[1]:
            raise NotApplicable("the last part is larger than the rest: that alone is most of what is to be loaded")
        named = {n if n.startswith(head) else f"backbone.{n}": t for n, t in state.items()}
        learn.model.load_state_dict(named, strict=False)
