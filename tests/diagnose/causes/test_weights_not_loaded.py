"""A prefix that matches nothing, and a head loaded alone, are named; what is left out on purpose is not."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from fastai.vision.learner import create_body
from learners import diabetes, digits, small_cnn
from naming import CauseTests, built, examined, is_left_alone, is_named
from torch import nn

from diagnose.isolate import seed_everything

ID = "weights-not-loaded"
ONLY = ("overfit-one-batch", "weights-loaded")


def trained(seed=7, outputs=10):
    "What a pretraining leaves: other weights than the subject's own, statistics that have moved."
    seed_everything(seed)
    model = small_cnn(outputs)
    for _ in range(3):
        model(torch.rand(32, 1, 8, 8))
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return model.state_dict()


class Healthy:
    "Builders in which everything arrives that was meant to, and some that look as if it did not."

    @staticmethod
    def new_head(seed):
        learn = digits(seed)
        state = {k: v for k, v in trained(outputs=20).items() if not k.startswith("3.")}
        found = learn.model.load_state_dict(state, strict=False)
        assert found.missing_keys
        return learn

    @staticmethod
    def head_left_to_strict_false(seed):
        learn = digits(seed)
        state = trained(outputs=20)
        state["classifier.weight"], state["classifier.bias"] = state.pop("3.weight"), state.pop("3.bias")
        assert learn.model.load_state_dict(state, strict=False).unexpected_keys
        return learn

    @staticmethod
    def prefix_stripped_and_head_of_the_same_shape_left_out(seed):
        learn = digits(seed)
        state = {f"model.{k}": v for k, v in trained().items()}
        state = {k[6:] if not k.startswith("model.3") else k: v for k, v in state.items()}
        learn.model.load_state_dict(state, strict=False)
        return learn

    @staticmethod
    def second_attempt(seed):
        learn = digits(seed)
        state = {f"module.{k}": v for k, v in trained().items()}
        if learn.model.load_state_dict(state, strict=False).unexpected_keys:
            learn.model.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
        return learn

    @staticmethod
    def own_state_updated(seed):
        learn = digits(seed)
        own = learn.model.state_dict()
        own.update({k: v for k, v in trained().items() if k in own})
        learn.model.load_state_dict(own)
        return learn

    @staticmethod
    def cut_body(seed):
        whole = small_cnn(20)
        whole.load_state_dict(trained(outputs=20))
        return digits(seed, model=nn.Sequential(create_body(whole, cut=-1), nn.Linear(64, 10)))

    @staticmethod
    def momentum_encoder_beside(seed):
        learn = digits(seed)
        state = {f"encoder_q.{k}": v for k, v in trained().items()}
        state |= {f"encoder_k.{k}": v for k, v in trained(8).items()}
        learn.model.load_state_dict({k.removeprefix("encoder_q."): v for k, v in state.items()}, strict=False)
        return learn


HEALTHY = {n: f.__func__ for n, f in vars(Healthy).items() if isinstance(f, staticmethod)}


class TestCause(CauseTests):
    id, only = ID, ONLY
    named = [("weights-under-a-prefix", digits), ("weights-under-a-prefix", diabetes), ("head-loaded-alone", digits)]
    healthy = {n: partial(lambda f, seed: built(lambda: f(seed)), f) for n, f in HEALTHY.items()}


def arrived(diagnosis):
    return {
        e.where: e.value
        for c in diagnosis.checks
        if c.id == "weights-loaded"
        for e in c.evidence
        if e.name == "arrived"
    }


@pytest.mark.parametrize("name", HEALTHY)
def test_what_arrived_is_counted(name):
    subject = built(lambda: HEALTHY[name](0))
    diagnosis = examined(subject, only=["weights-loaded"])
    assert [c.status for c in diagnosis.checks] == ["pass"]
    assert min(arrived(diagnosis).values()) > 0


def saved(tmp_path, state, name="encoder.pth"):
    torch.save(state, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s, "opt": {"state": []}}, lambda s: {"epoch": 3, "state_dict": s}]
)
def test_f27_a_filter_that_matches_nothing(tmp_path, wrap):
    path = saved(tmp_path, wrap(OrderedDict((f"enc.{k}", v) for k, v in trained().items())))

    def build():
        learn = digits(0)
        state = torch.load(path)
        state = state.get("model", state.get("state_dict", state))
        learn.model.load_state_dict({k: v for k, v in state.items() if k.split(".")[1] == "encoder"}, strict=False)
        return learn

    first = is_named(examined(built(build), only=ONLY), ID)
    assert "encoder.pth into Sequential: 0 of" in first.summary
    assert "without `enc.`" in first.proof.change
    assert first.proof.after.numbers["arrived"] == len(trained()) - 2  # what counts batches tells nothing
    assert "removeprefix('enc.')" in first.fix.code


def test_an_own_state_that_nothing_was_put_into(tmp_path):
    path = saved(tmp_path, {f"_orig_mod.{k}": v for k, v in trained().items()})

    def build():
        learn = digits(0)
        own = learn.model.state_dict()
        own.update({k: v for k, v in torch.load(path).items() if k in own})
        learn.model.load_state_dict(own)
        return learn

    assert "_orig_mod." in is_named(examined(built(build), only=ONLY), ID).summary


def test_a_prefix_that_the_model_has_and_the_file_has_not():
    def build():
        learn = digits(0, model=nn.Sequential(OrderedDict(encoder=small_cnn(16), head=nn.Linear(16, 10))))
        learn.model.load_state_dict(trained(outputs=16), strict=False)
        return learn

    first = is_named(examined(built(build), only=ONLY), ID)
    assert "with `encoder.` in front" in first.proof.change


def test_a_file_that_was_read_for_another_end_is_no_load(tmp_path):
    path = saved(tmp_path, {"weight": torch.rand(5), "x": torch.rand(9, 3)}, "samples.pth")
    subject = built(lambda: torch.load(path) and digits(0))
    assert subject.loads == []


def test_a_checkpoint_that_was_read_and_not_loaded_is_a_doubt(tmp_path):
    path = saved(tmp_path, trained())
    diagnosis = examined(built(lambda: torch.load(path) and digits(0)), only=ONLY)
    assert {c.id: c.status for c in diagnosis.checks}["weights-loaded"] == "warn"
    assert diagnosis.verdict == "warn"
    assert [(c.id, c.proven) for c in diagnosis.causes] == [(ID, False)]


def test_copied_by_hand_and_trained_since_it_is_recognised(tmp_path):
    path = saved(tmp_path, trained())

    def build():
        learn, state = digits(0), torch.load(path)
        for name, p in learn.model.named_parameters():
            p.data.copy_(state[name])
        with learn.no_bar(), learn.no_logging():
            learn.fit(1)
        return learn

    is_left_alone(examined(built(build), only=ONLY), ID)


def test_a_live_learner_is_asked_for_its_checkpoint_and_then_compared(tmp_path):
    learn = digits(0)
    diagnosis = learn.diagnose(show=False, only=ONLY)
    assert 'weights="FILE"' in {u.id: u.reason for u in diagnosis.unchecked}["weights-loaded"]
    other = learn.diagnose(show=False, only=ONLY, weights=saved(tmp_path, {"model": trained()}))
    assert is_named(other, ID).summary.startswith("encoder.pth into Sequential: 0 of")
    learn.model.load_state_dict(trained())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    is_left_alone(learn.diagnose(show=False, only=ONLY, weights=saved(tmp_path, trained())), ID)
