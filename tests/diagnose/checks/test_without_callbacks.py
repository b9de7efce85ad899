"""A callback or hook without which the batch is learned is pointed at; what makes a batch harder on purpose is no more
than told."""

import pytest
import torch
from fastai.callback.core import Callback, CancelBatchException
from judging import check_of, judge_never_raises, judged, measured
from learners import digits
from naming import cause_of, examined, fault_of, findings_of
from torch import nn

from diagnose.causes import Findings
from diagnose.errors import NotApplicable
from diagnose.evidence import Evidence, EvidenceList
from diagnose.isolate import twin

CALLBACKS, HOOKS = "without-callbacks", "without-hooks"
CAUSES = ("optimizer-not-stepping", "labels-uninformative", "inputs-destroyed-by-transforms", "loss-sign-flipped")


class Looks(Callback):
    "Does nothing to anything."

    def after_batch(self):
        self.seen = len(self.xb[0])


class Blanks(Callback):
    "Erases too much."

    def before_batch(self):
        self.learn.xb = tuple(torch.rand_like(x) for x in self.xb)


class Blends(Callback):
    "MixUp that forgot the labels: harder, and still learned in part."

    def before_batch(self):
        self.learn.xb = tuple(0.5 * x + 0.5 * x[torch.randperm(len(x))] for x in self.xb)


class Accumulates(Callback):
    "A step every 64 batches."

    def before_fit(self):
        self.batches = 0

    def before_step(self):
        self.batches += 1
        if self.batches % 64:
            raise CancelBatchException


class WarmsUp(Callback):
    "For a run of 200,000 steps."

    def before_fit(self):
        self.steps = 0

    def before_step(self):
        self.steps += 1
        self.opt.set_hyper("lr", 3e-3 * min(1, self.steps / 200_000))


@pytest.mark.parametrize(
    ("fault", "cause", "alters"),
    [
        ("gradients-cleared-before-step", "optimizer-not-stepping", "the step"),
        ("averaged-weights-put-back", "optimizer-not-stepping", "the step"),
        ("inputs-shuffled-in-batch", "labels-uninformative", "the order of the inputs"),
    ],
)
def test_the_callback_is_found_among_others_and_the_cause_proven(fault, cause, alters):
    learn = digits(0, cbs=[Looks()])
    fault_of(fault).inject(learn)
    name = type(learn.cbs[-1]).__name__
    diagnosis = examined(learn)
    first = diagnosis.causes[0]
    assert (first.id, first.proven, first.where) == (cause, True, [f"callback {name}"])
    assert first.proof.after.learned >= 0.8 > 0.05 >= first.proof.before.learned
    assert first.proof.change == f"without the callback {name}"
    assert name in first.fix.code
    check = next(c for c in diagnosis.checks if c.id == CALLBACKS)
    assert check.status == "warn"
    assert f"{name} alters {alters}" in check.summary
    assert {type(cb).__name__ for cb in learn.cbs} >= {"Looks", name}


def test_inputs_that_a_callback_destroys():
    first = examined(digits(0, cbs=Blanks())).causes[0]
    assert (first.id, first.proven) == ("inputs-destroyed-by-transforms", True)
    assert first.where == ["callback Blanks"]


@pytest.mark.parametrize("make", [Blends, Accumulates, WarmsUp])
def test_what_slows_learning_on_purpose_is_not_proven_wrong(make):
    learn = digits(0, cbs=make())
    checks = [CALLBACKS, "callbacks", "overfit-one-batch", "weight-change", "optimizer-holds-parameters"]
    diagnosis = examined(learn, only=checks)
    assert diagnosis.verdict == "warn"
    assert not [c.id for c in diagnosis.causes if c.id in CAUSES]
    assert next(c for c in diagnosis.checks if c.id == CALLBACKS).status == "warn"  # who slows it is told


def test_what_is_learned_is_not_tried_without():
    with pytest.raises(NotApplicable, match="the batch is learned with them"):
        measured(CALLBACKS, digits(cbs=Looks()))
    with pytest.raises(NotApplicable, match="no callback of its own"):
        measured(CALLBACKS, digits())
    with pytest.raises(NotApplicable, match="no parameter has a hook"):
        measured(HOOKS, digits())


def hooked(hook, names=("0.weight", "3.weight")):
    learn = digits(0)
    named = dict(learn.model.named_parameters())
    for name in [n for n in named if not names or n in names]:
        named[name].register_hook(hook)
    return learn


def test_a_twin_has_the_hooks_of_its_original():
    learn = digits(0, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)))
    learn.model[-1].weight.register_hook(lambda g: g * 0)
    learn.model[-1].bias.register_hook(lambda g: g * 0)
    learn.model[-1].bias.requires_grad_(False)
    copy = twin(learn).model
    x, y = learn.dls.one_batch()
    nn.functional.cross_entropy(copy(x), y).backward()
    assert not copy[-1].weight.grad.any()
    assert copy[1].weight.grad.any()
    assert not copy[-1].bias.requires_grad
    assert len(copy[-1].bias._backward_hooks) == 1
    copy[-1].weight._backward_hooks.clear()
    assert len(learn.model[-1].weight._backward_hooks) == 1


def test_hooks_that_collect_or_print_tell_nothing_of_the_trials(capsys):
    learn, seen = digits(0), []
    for p in learn.model.parameters():
        p.register_hook(lambda g: seen.append(float(g.norm())))
        p.register_hook(lambda g: print("gradient", g.norm()))
    assert examined(learn, only=["overfit-one-batch"]).checks[0].status == "pass"
    assert not seen
    assert "gradient" not in capsys.readouterr().out
    assert all(len(p._backward_hooks) == 2 for p in learn.model.parameters())


def test_a_hook_that_belongs_to_a_module_is_that_of_the_copied_module():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen, self.weight = 0, nn.Parameter(torch.ones(3))
            self.weight.register_hook(self.count)

        def count(self, gradient):
            self.seen += 1

        def forward(self, x):
            return x * self.weight

    learn = digits(0)
    learn.model = Counts()
    copy = twin(learn)
    copy.model(torch.ones(3)).sum().backward()
    assert (copy.model.seen, learn.model.seen) == (1, 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_that_hooks_turn_round_are_named(seed):
    learn = digits(seed)
    fault_of("gradients-reversed-by-hook").inject(learn)
    diagnosis = examined(learn, seed)
    first = diagnosis.causes[0]
    assert (first.id, first.proven) == ("loss-sign-flipped", True)
    assert first.where == [n for n, _ in learn.model.named_parameters()][:-2]
    assert "_backward_hooks.clear()" in first.fix.code
    found = findings_of(diagnosis)[HOOKS]
    assert [e.value for e in found if e.name.startswith("cosine")] == pytest.approx([-1] * len(first.where))
    assert all(p._backward_hooks for p in list(learn.model.parameters())[:-2])


def test_hooks_that_let_nothing_through_are_named():
    first = examined(hooked(lambda g: g * 0, ())).causes[0]
    assert (first.id, first.proven) == ("optimizer-not-stepping", True)


def test_a_mask_of_half_a_layer_is_left_alone():
    def half(gradient):
        mask = torch.ones_like(gradient)
        mask[::2] = 0
        return gradient * mask

    learn = hooked(half, ())
    with pytest.raises(NotApplicable, match="the batch is learned with them"):
        measured(HOOKS, learn)
    assert examined(learn).verdict == "pass"


@pytest.mark.parametrize("id", [CALLBACKS, HOOKS])
def test_judge_alone(id):
    def found(after):
        as_it_is = Evidence(name="learned", value=0.0, where="as it is")
        return EvidenceList([as_it_is, Evidence(name="learned", value=after, where="changed")])

    assert check_of(id).judge(found(0.9)).status == "warn"
    assert check_of(id).judge(found(0.1)).status == "pass"
    judge_never_raises(id, found(0.9))


@pytest.mark.parametrize("id", CAUSES)
def test_nobody_is_blamed_for_a_gain_that_was_not_measured(id):
    for before, after in [(0.0, float("nan")), (0.3, 0.9), (0.0, 0.4)]:
        learned = [Evidence(name="learned", value=v, where=w) for v, w in [(before, "as it is"), (after, "changed")]]
        named = [Evidence(name="callbacks", value=["A"]), Evidence(name="alters", value="the step")]
        hooks = [
            Evidence(name="tensors with hooks", value=["w"]),
            Evidence(name="cosine with the gradient without it", value=-1.0, where="w"),
        ]
        steps = [Evidence(name="optimizer steps", value=3), Evidence(name="batches", value=3)]
        findings = Findings(
            {
                CALLBACKS: EvidenceList([*learned, *named]),
                HOOKS: EvidenceList([*learned, *hooks]),
                "callbacks": EvidenceList(steps),
            }
        )
        assert cause_of(id).suspect(findings) is None


def test_which_of_several_callbacks_it_is():
    status, summary = judged(CALLBACKS, digits(0, cbs=[Looks(), Blanks()]))
    assert status == "warn"
    assert "Blanks alters the inputs" in summary
    assert "Looks" not in summary
