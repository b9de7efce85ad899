"""The weights that were loaded while the Learner was built are in the model.

## What it does
Watches `load_state_dict` and `torch.load` while the function that builds the Learner runs, and counts of every state
dict the tensors that stand in the module afterwards, bit for bit. Of those that do not, it looks under which other
prefix (`module.`, `model.`, `0.`, `_orig_mod.`, or any that the names themselves suggest) they would fit by name and
shape. A live Learner was built before anybody looked: name the checkpoint, `learn.diagnose(weights="encoder.pth")` or
`--weights encoder.pth`, and its tensors are looked for in the model, also after some training (correlation of 0.5).

## Why it matters
`load_state_dict(strict=False)` and a filter over keys say nothing when no name matches: the net starts from random
numbers, and what was pretrained for days is blamed for what it never did.

## How it is judged
Fails if nothing of a state dict arrived; warns if more elements would arrive under another prefix than did, or if a
file was read, fits the model, and was not loaded. A head that is left out on purpose fits under no other prefix, or is
the smaller part. Tensors of a single value (ones, zeros) tell nothing and are not counted.

## What to do
Print what `load_state_dict` returns (`missing_keys`, `unexpected_keys`), and assert that nothing is missing which was
to be loaded.

## Source
Real failure F27 of the notes: a filter by `key.split('.')[1]` let 0 of 12 tensors through, and no error was raised.
Two tensors drawn independently correlate by about 1/√elements: 0.5 is far above that.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import by_place
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.loads import Load

SHOWN = 6  # names of tensors


class WeightsLoaded(Check):
    """Counts what arrived of every state dict."""

    stage = "inspection"
    order = 35
    cost = "no forward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        loads = lab.subject.loads
        if loads is None:
            raise NotApplicable(
                "nobody saw this Learner being built; name the checkpoint that it should hold: "
                'learn.diagnose(weights="FILE"), or --weights FILE'
            )
        if not loads:
            raise NotApplicable("no weights were loaded while it was built")
        found = EvidenceList()
        for where, load in by_name(loads).items():
            found += [
                Evidence(name="tensors offered", value=len(load.names), where=where),
                Evidence(name="arrived", value=len(load.arrived), where=where, expected=f"of {len(load.names)}"),
                Evidence(name="would arrive under another prefix", value=len(load.renamed), where=where),
                Evidence(name="prefix to remove", value=load.removed, where=where),
                Evidence(name="prefix to add", value=load.added, where=where),
                Evidence(name="was loaded", value=load.handed, where=where),
                Evidence(name="lost", value=load.lost, where=where, expected="False"),
                Evidence(name="did not arrive", value=load.missing[:SHOWN], where=where),
                Evidence(name="left as they were", value=load.without[:SHOWN], where=where),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        offered, arrived = by_place(evidence, "tensors offered"), by_place(evidence, "arrived")
        more = by_place(evidence, "would arrive under another prefix")
        if not offered:
            return Judgement("skip", "not measured")
        told = []
        for place, count in offered.items():
            here = arrived.get(place, float("nan"))
            if evidence.get("was loaded", place) is False:
                told.append((1, f"{place}: it was read, and none of its {stated(count)} tensors is in the model"))
            elif evidence.get("lost", place) is not False or not here >= 0:
                fits = f"; {stated(more.get(place))} would under another prefix" if more.get(place) else ""
                level = 1 if here > 0 else 2
                told.append((level, f"{place}: {stated(here)} of {stated(count)} tensors arrived{fits}"))
        if told:
            worst = max(level for level, _ in told)
            return Judgement("fail" if worst == 2 else "warn", listed([t for _, t in told]))
        return Judgement(
            "pass", listed([f"{p}: {stated(arrived[p])} of {stated(n)} tensors arrived" for p, n in offered.items()])
        )


def by_name(loads: list[Load]) -> dict[str, Load]:
    """Loads by what a report calls them: "encoder.pth into Sequential", numbered where that is not unique."""
    named: dict[str, Load] = {}
    for load in loads:
        name = plain = f"{load.source} into {load.into}"
        while name in named:
            name = f"{plain}, {len(named) + 1}"
        named[name] = load
    return named
