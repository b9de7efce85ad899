"""A pretrained encoder or checkpoint was loaded by a filter that matched nothing, or only part.

## What it is
`load_state_dict(strict=False)` with names that carry another prefix (`module.`, `model.`, `encoder.`, `_orig_mod.`),
or a filter over keys that lets nothing through, or only a head.

## Why it stops learning
Nothing is raised: the net starts from random numbers. What was pretrained is frozen as noise, or trained at a rate that
suits trained weights; and whatever is concluded of the pretraining is concluded of nothing.

## How it is found
The check `weights-loaded`: tensors that stand in the module after loading, against those that were offered, and how
many more would arrive under another prefix.

## How it is proven
By inspection: nothing of the state dict arrived, or less than fits by name and shape once the prefix is changed. On a
copy it is changed and loaded, and the tensors that arrive are counted again.

## How to fix
    state = {k.removeprefix("model."): v for k, v in torch.load(path)["model"].items()}
    found = encoder.load_state_dict(state, strict=False)
    assert not found.missing_keys, found.missing_keys

## What it looks like but is not
A head replaced on purpose: the encoder arrives whole, and no other prefix fits more. fastai's cut bodies, whose weights
are loaded before the cut. A first attempt that is followed by one with the right names.

## Source
Real failure F27 of the notes: 0 of 12 tensors loaded, and no error; counting is exact.
"""

import torch
from fastai.learner import Learner

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number, places, text, truth
from diagnose.changes import Change
from diagnose.checks.weights_loaded import by_name
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.loads import Load
from diagnose.stats import same_bits
from diagnose.trial import batch_loss

CHECK = "weights-loaded"


class WeightsNotLoaded(Cause):
    """Suspected when what was loaded did not arrive."""

    settled_by = "inspection"
    when_learned = True
    explains = ("lr-too-low", "params-frozen")
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        worst = None
        for place in places(findings, CHECK, "tensors offered"):
            offered, arrived = (number(findings, CHECK, n, place) for n in ("tensors offered", "arrived"))
            if not (offered > 0 and arrived >= 0) or truth(findings, CHECK, "lost", place) is not True:
                continue
            loaded = truth(findings, CHECK, "was loaded", place) is not False
            more = number(findings, CHECK, "would arrive under another prefix", place)
            prefix = text(findings, CHECK, "prefix to remove", place), text(findings, CHECK, "prefix to add", place)
            fits = f"; {_renaming(*prefix)} {more:.0f} more fit" if more > 0 and any(prefix) else ""
            reason = f"{place}: {arrived:.0f} of {offered:.0f} tensors arrived{fits}"
            strength = (1.0 if arrived == 0 else 0.9) if loaded else 0.4
            if worst is None or strength > worst.strength:
                worst = Suspicion(strength, reason, [place], {"load": place, "loaded": loaded})
        return worst

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        load = _found(lab, suspicion)
        if not load.renamed or load.place is None:
            raise NotApplicable("it fits no part of the model by name and shape")

        def apply(twin: Learner) -> None:
            own = twin.model.get_submodule(load.place).state_dict(keep_vars=True)
            with torch.no_grad():
                for name, into in load.renamed.items():
                    own[into].copy_(load.tensors[name])

        return Change(f"loaded {_renaming(load.removed, load.added)}", apply)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        load = _found(lab, suspicion)
        if not suspicion.facts["loaded"]:
            raise NotApplicable("it was read, and nobody knows whether it was to be loaded")
        before = f"{len(load.arrived)} of {len(load.names)} tensors arrived"
        numbers = {"arrived": len(load.arrived), "did not": ", ".join(load.missing)}
        try:
            change = self.cure(lab, suspicion)
        except NotApplicable:
            found = inspected("the names of the model", before, f"all {len(load.names)} arrive", numbers)
            return Settled(not load.arrived, bool(load.arrived), found)
        copy = lab.twin()
        numbers["first loss"] = batch_loss(copy, lab.batch, training=True)
        change.apply(copy)
        own = copy.model.get_submodule(load.place).state_dict()
        came = sum(
            same_bits(own[into], load.tensors[n].to(own[into])) and n not in load.arrived
            for n, into in load.renamed.items()
        )
        then = {"arrived": len(load.arrived) + came, "first loss": batch_loss(copy, lab.batch, training=True)}
        after = f"{then['arrived']} of {len(load.names)} arrive"
        return Settled(load.lost and came > 0, not came, inspected(change.name, before, after, numbers, **then))

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        load = _found(lab, suspicion)
        how = f", {_renaming(load.removed, load.added)}" if load.renamed and (load.removed or load.added) else ""
        key = f"k.removeprefix({load.removed!r})" if load.removed else "k"
        key = f"{load.added!r} + {key}" if load.added else key
        module = f"learn.model.get_submodule({load.place!r})" if load.place else "learn.model"
        return Fix(
            text=f"Load {load.source} under the names of {load.into}{how}, and look at what load_state_dict returns: "
            f"{suspicion.reason}.",
            code=f"state = {{{key}: v for k, v in state.items()}}\n"
            f"found = {module}.load_state_dict(state, strict=False)\n"
            "assert not found.missing_keys, found.missing_keys  # but those of a new head",
        )


def _found(lab: Lab, suspicion: Suspicion) -> Load:
    return by_name(lab.subject.loads or [])[suspicion.facts["load"]]


def _renaming(removed: str, added: str) -> str:
    parts = [f"without `{removed}`" if removed else "", f"with `{added}` in front" if added else ""]
    return " and ".join(p for p in parts if p) or "under their own names"
