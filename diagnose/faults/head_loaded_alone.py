"""A checkpoint of which only the head has the right names, loaded with `strict=False`."""

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults.weights_under_a_prefix import checkpoint


class HeadLoadedAlone(Fault):
    """Offers the last part under its own name, and all before it under `backbone.…`."""

    cause = "weights-not-loaded"

    def inject(self, learn: Learner) -> None:
        parts = [n for n, c in learn.model.named_children() if any(True for _ in c.parameters())]
        if len(parts) < 2:
            raise NotApplicable("the model is of one part")
        state, head = checkpoint(learn), f"{parts[-1]}."
        sizes = [sum(t.numel() for n, t in state.items() if n.startswith(head) is of) for of in (True, False)]
        if sizes[0] >= sizes[1]:
            raise NotApplicable("the last part is larger than the rest: that alone is most of what is to be loaded")
        named = {n if n.startswith(head) else f"backbone.{n}": t for n, t in state.items()}
        learn.model.load_state_dict(named, strict=False)
