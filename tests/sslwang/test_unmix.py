"""Unmix: labels, modes, knowledge of the task, and that it is learned."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from diagnose.errors import DiagnoseError
from diagnose.registry import entries, load
from diagnose.task import Task, settings_from
from sslwang.data import pixels
from sslwang.learn import train
from sslwang.losses import LOSSES
from sslwang.models.encoder import Encoder
from sslwang.models.pairs import PairNet
from sslwang.solvers import least_squares, mean_colour_pair
from sslwang.tasks.unmix import Unmix, UnmixSettings, exact_pair, larger_weight, per_label, r2

SMALL = {"bs": 16, "items": 16, "valid_items": 16, "size": 32}


def task(**given):
    return Unmix(UnmixSettings(**{**SMALL, **given}))


class Blank:
    """A side of a split that costs nothing, for tests that look at weights only."""

    images = range(7)

    def tile(self, rng, size, index):
        return np.full((size, size, 3), index, np.uint8)

    def tiles(self, rng, size, count, distinct=False):
        return np.zeros((count, size, size, 3), np.uint8)


def batch(seed=0, **given):
    return task(**given).loaders(seed).train.one_batch()


def solved(oracle, rows=400, **given):
    mixture, *sources, target = batch(bs=rows, items=rows, size=64, **given)
    return exact_pair(oracle(mixture, sources), target)


# ---- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oracle", [mean_colour_pair, least_squares])
def test_labels_are_right_a_solver_without_vision_finds_them_on_the_raw_task(oracle):
    assert solved(oracle, hardened=False) >= 0.95


@pytest.mark.parametrize("oracle", [mean_colour_pair, least_squares])
def test_hardening_leaves_solvers_without_vision_near_chance(oracle):
    assert abs(solved(oracle, rows=600) - 1 / 3) < 0.1


def test_least_squares_recovers_the_weights_of_the_raw_task():
    mixture, *sources, weights = batch(hardened=False, target="regression", n=4)
    assert torch.allclose(least_squares(mixture, sources), weights, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 5),
    target=st.sampled_from(["classification", "regression"]),
    mode=st.sampled_from(["unmix", "dup_src", "dup_mix", "scale"]),
    hardened=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_every_combination_gives_a_sound_batch_or_is_refused(n, target, mode, hardened, seed):
    given = {"n": n, "target": target, "mode": mode, "hardened": hardened, "bs": 6, "items": 6}
    if n == 2 and ((target == "classification" and mode != "dup_src") or mode == "dup_mix"):
        with pytest.raises(ValidationError, match="n=2"):
            task(**given)
        return
    mixture, *sources, y = batch(seed, **given)
    assert len(sources) == n
    assert {x.shape for x in (mixture, *sources)} == {(6, 3, 32, 32)}
    assert {x.dtype for x in (mixture, *sources, y)} == {torch.float32}
    assert y.shape == (6, n)
    assert all(torch.isfinite(x).all() for x in (mixture, *sources, y))
    one_hot = mode in ("dup_src", "dup_mix")
    assert ((y > 0).sum(1) == (1 if one_hot else 2)).all()
    if target == "regression":
        assert torch.allclose(y.sum(1), torch.ones(6))
    else:
        assert set(y.unique().tolist()) <= {0.0, 1.0}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(3, 5), hardened=st.booleans())
def test_dup_mix_replaces_a_source_that_was_not_mixed(seed, n, hardened):
    """The other labelling would show the mixture in place of one of its own sources."""
    easy = task(mode="dup_mix", n=n, hardened=hardened).items(seed, "train")
    for index in range(16):
        weights, slot = easy.item(0, index)[2:4]
        assert weights[slot] == 0
        assert (weights > 0).sum() == 2


@pytest.mark.parametrize("hardened", [True, False])
@pytest.mark.parametrize("mode", ["dup_src", "dup_mix"])
def test_copies_are_bit_identical_and_twins_finds_them(mode, hardened):
    t = task(mode=mode, hardened=hardened, n=4)
    b = t.loaders(0).train.one_batch()
    twins = t.twins(b)
    assert twins[:, 0].sort().values.tolist() == list(range(16))
    for row, a, c in twins.tolist():
        assert a == 0
        assert b[-1][row, c - 1] == 1
        assert torch.equal(b[a][row], b[c][row])


def test_no_twins_without_copies():
    t = task()
    assert t.twins(t.loaders(0).train.one_batch()) is None


def test_scale_shows_one_image_times_its_weights():
    original, *copies, weights = batch(mode="scale", target="regression")
    raw = [x * pixels.STD + pixels.MEAN for x in (original, *copies)]
    for k, copy in enumerate(raw[1:]):
        assert torch.allclose(copy, raw[0] * weights[:, k, None, None, None], atol=1e-5)


def test_noise_keeps_the_labels_and_shows_nothing_of_the_photographs():
    noise, real = batch(inputs="noise"), batch()
    assert torch.equal(noise[-1], real[-1])
    images = torch.stack(noise[:-1], 1).flatten(0, 1).flatten(1)
    alike = torch.corrcoef(images) - torch.eye(len(images))
    assert alike.abs().max() < 0.2


def test_hardened_images_are_standardised_channel_by_channel():
    for image in batch(size=64, bs=96, items=96)[:-1]:
        assert image.mean((-2, -1)).abs().max() < 1e-4
        assert ((image.std((-2, -1)) - 1).abs() < 0.02).float().mean() > 0.95


@pytest.mark.parametrize("sources", ["batch", "row"])
def test_weights_follow_beta_5_8(sources):
    items = task(items=4000, sources=sources).items(0, "train")
    items.side = Blank()
    weights = np.stack([items.item(0, i)[2] for i in range(4000)])
    p = weights[weights > 0].astype(float)
    assert np.allclose(weights.sum(1), 1)
    assert abs((weights.max(1)).mean() - 0.645) < 0.01
    assert abs(p.var() - (0.016906 + (0.5 - 5 / 13) ** 2)) < 0.002
    assert np.abs((weights > 0).mean(0) - 2 / 3).max() < 0.03, "every slot is mixed equally often"


# ---- knowledge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("mode", ["unmix", "dup_src"])
@pytest.mark.parametrize(
    ("target", "kind"), [("classification", "bce"), ("regression", "soft-ce"), ("regression", "mse")]
)
def test_best_constant_is_what_a_constant_reaches(target, kind, mode, n, reduction):
    t = task(target=target, mode=mode, n=n, bs=4000, items=4000, loss={"kind": kind, "reduction": reduction})
    items = t.items(0, "train")
    items.side = Blank()
    y = torch.from_numpy(np.stack([items.item(0, i)[2] for i in range(4000)]))
    if mode == "dup_src":
        y = nn.functional.one_hot(y.argmax(1), n).float()
    y = (y > 0).float() if target == "classification" else y
    constant = torch.logit(y.mean(0)) if kind == "bce" else y.mean(0).log()
    reached = LOSSES[kind](reduction)(constant.expand(4000, n), y).item()
    assert reached == pytest.approx(t.best_constant(), rel=0.02)


def test_known_values_of_the_best_constant():
    assert task().best_constant() == pytest.approx(0.6365, abs=1e-4)
    assert task(target="regression").best_constant() == pytest.approx(math.log(3))
    assert task(target="regression", loss={"kind": "mse"}).best_constant() == pytest.approx(0.0757, abs=1e-4)
    assert task(loss={"reduction": "sum"}, bs=48).best_constant() == pytest.approx(0.6365 * 144, rel=1e-4)


def test_chance_is_what_a_constant_scores():
    for changes, metric, chance in [
        ({}, "exact pair", 1 / 3),
        ({"n": 5}, "exact pair", 1 / 10),
        ({"mode": "dup_src", "n": 5}, "exact pair", 1 / 5),
        ({"target": "regression"}, "R2", 0.0),
    ]:
        t = task(**changes)
        assert (t.metric, t.chance) == (metric, pytest.approx(chance))


def test_score_of_the_truth_of_chance_and_of_knowing_the_pair_only():
    weights = batch(target="regression", bs=2000, items=2000, size=16, mode="scale")[-1]
    labels = (weights > 0).float()
    t, r = task(), task(target="regression")
    assert t.score(labels * 2 - 1, labels) == 1
    assert t.score(torch.randn(labels.shape), labels) == pytest.approx(1 / 3, abs=0.05)
    assert r.score(weights.clamp_min(1e-9).log(), weights) == pytest.approx(1, abs=1e-5)
    assert r.score(torch.zeros_like(weights), weights) == pytest.approx(0, abs=1e-5)
    assert r.score((labels / 2).clamp_min(1e-9).log(), weights) == pytest.approx(0.734, abs=0.02)
    assert r.score(-10 * labels, weights) == 0
    assert larger_weight(weights, weights) == 1
    assert per_label(torch.zeros_like(labels) + 1, labels) == pytest.approx(2 / 3)
    assert r2(-10 * labels, weights) < 0


def test_easier_versions_are_the_same_task_the_easiest_first():
    t = task(n=4, hardened=False)
    easier = t.easier()
    assert list(easier) == ["dup_src", "dup_mix", "scale"]
    for mode, version in easier.items():
        assert type(version) is Unmix
        assert version.settings == t.settings.model_copy(update={"mode": mode})
        assert version.loaders(0).train.one_batch()[0].shape == (16, 3, 32, 32)
    assert list(task(n=2, target="regression").easier()) == ["dup_src", "scale"]


@pytest.mark.parametrize("head", ["spatial", "pooled"])
def test_logits_follow_permuted_sources(head):
    t = task(n=4, head={"kind": head})
    b = t.loaders(0).train.one_batch()
    order = [2, 0, 3, 1]
    p = t.permuted(b, order)
    assert torch.equal(p[0], b[0])
    assert torch.equal(p[1], b[3])
    assert torch.equal(p[-1], b[-1][:, order])
    model = t.learner(0).model.eval()
    with torch.no_grad():
        assert torch.allclose(model(*p[:-1]), model(*b[:-1])[:, order], atol=1e-5)


@pytest.mark.parametrize("head", ["spatial", "pooled"])
@pytest.mark.parametrize(("norm", "training"), [("group", True), ("group", False), ("batch", False)])
def test_rows_are_independent(head, norm, training):
    t = task(head={"kind": head}, encoder={"norm": norm})
    *x, _ = t.loaders(0).train.one_batch()
    x = [image.clone().requires_grad_() for image in x]
    model = t.learner(0).model.train(training)
    out = model(*x)
    assert out.shape == (16, 3)
    grads = torch.autograd.grad(out[5].square().sum(), x)
    for g in grads:
        assert g[5].abs().max() > 0
        assert g[:5].abs().max() == 0
        assert g[6:].abs().max() == 0


def test_features_are_the_maps_of_every_image_of_every_row():
    t = task(size=64)
    *x, _ = t.loaders(0).train.one_batch()
    model = t.learner(0).model.eval()
    with torch.no_grad():
        maps = t.features(model, *x)
        assert maps.shape == (16, 4, 96, 4, 4)
        assert torch.allclose(maps[3, 2], model.encoder(x[2][3:4])[0], atol=1e-5)


def test_equal_seeds_give_equal_learners_and_torch_is_left_alone():
    state = torch.get_rng_state()
    a, b, c = task().learner(0), task().learner(0), task().learner(1)
    assert torch.equal(state, torch.get_rng_state())
    first, second, third = (list(x.model.state_dict().values()) for x in (a, b, c))
    assert all(map(torch.equal, first, second))
    assert not all(map(torch.equal, first, third))


def test_encoder_is_small_and_called_once():
    model = PairNet(Encoder())
    assert 75_000 < sum(p.numel() for p in model.encoder.parameters()) < 85_000
    calls = []
    model.encoder.register_forward_hook(lambda m, x, y: calls.append(x[0].shape[0]))
    model(*torch.randn(4, 2, 3, 32, 32))
    assert calls == [8]


@pytest.mark.parametrize("opt", ["adamw", "adam", "sgd"])
def test_settings_reach_the_learner(opt):
    learner = task(lr=0.123, wd=0.045, opt=opt, loss={"reduction": "sum"}, encoder={"norm": "batch"}).learner(0)
    learner.create_opt()
    assert learner.opt.hypers[0]["lr"] == 0.123
    assert learner.wd == 0.045
    assert learner.loss_func.reduction == "sum"
    assert any(isinstance(m, nn.BatchNorm2d) for m in learner.model.modules())


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"n": "2"}, "n=2 classification is degenerate"),
        ({"n": "6"}, "--set n=6: .*less than or equal to 5"),
        ({"n": "1"}, "--set n=1: .*greater than or equal to 2"),
        ({"n": "2", "target": "regression", "mode": "dup_mix"}, "no source of weight 0"),
        ({"target": "segmentation"}, "'classification' or 'regression'"),
        ({"loss.kind": "mse"}, "--set loss.kind=mse: does not fit unmix; what fits: bce"),
        ({"loss.kind": "bce", "target": "regression"}, "loss.kind=bce: does not fit unmix; what fits: soft-ce, mse"),
        ({"head.kind": "spatail"}, "--set head.kind=spatail: does not fit unmix; what fits: spatial, pooled"),
        ({"loss.redution": "sum"}, "did you mean loss.reduction"),
        ({"lr": "fast"}, "--set lr=fast"),
        ({"lr": "-1"}, "greater than 0"),
    ],
)
def test_wrong_settings_are_one_clear_line(pairs, message):
    with pytest.raises(DiagnoseError, match=message) as caught:
        Unmix(settings_from(UnmixSettings, pairs))
    assert "\n" not in str(caught.value)


def test_settings_come_from_strings():
    s = settings_from(UnmixSettings, {"n": "4", "hardened": "false", "lr": "3e-2", "loss.reduction": "sum"})
    assert (s.n, s.hardened, s.lr, s.loss.reduction) == (4, False, 0.03, "sum")


def test_the_registry_finds_it_and_its_docstring_explains_it():
    (entry,) = [e for e in entries("sslwang.tasks") if e.id == "unmix"]
    assert load(entry, Task) is Unmix
    assert entry.doc == inspect.getdoc(inspect.getmodule(Unmix))
    for word in ("Labels:", "Best constant:", "Shortcuts:", "Source:", "hardened"):
        assert word in entry.doc


# ---- learning -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("target", "least"), [("classification", 0.55), ("regression", 0.25)])
def test_raw_unmix_is_learned_far_above_chance(target, least):
    result = train(Unmix(UnmixSettings(target=target, hardened=False, valid_items=480)), steps=150, seed=0)
    metric = "exact_pair" if target == "classification" else "r2"
    assert result.scores["region"][metric] > least
    assert set(result.scores) == {"region", "photo"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["classification", "regression"])
def test_one_fixed_hardened_batch_is_learned_by_heart_at_the_constant_rate(target):
    t = Unmix(UnmixSettings(target=target, bs=16, items=16))
    learner = t.learner(0)
    *x, y = learner.dls.train.one_batch()
    learner.create_opt()
    learner.model.train()
    for _ in range(200):
        loss = learner.loss_func(learner.model(*x), y)
        loss.backward()
        learner.opt.step()
        learner.opt.zero_grad()
    floor = 0.0 if target == "classification" else -torch.xlogy(y, y).sum(1).mean().item()
    assert loss.item() - floor < 0.1 * (t.best_constant() - floor)
