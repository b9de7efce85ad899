"""What holds for every pretext task: equal seeds, whole settings, true constants, oracles that solve and probes that
fail, pictures, and a Learner that fastai trains."""

import math

import matplotlib
import pytest
import torch
from fastai.callback import progress  # noqa: F401  patches `no_bar` into Learner
from torch import nn

from diagnose.errors import DiagnoseError
from diagnose.registry import entries, load
from diagnose.task import Task
from sslwang.data.loaders import ReplayLoader
from sslwang.data.pictures import rows_figure
from sslwang.pretext import Pretext

ENTRIES = {e.id: e for e in entries("sslwang.tasks")}
SECTIONS = ("What it is:", "Labels:", "Best constant:", "Shortcuts:", "Easier versions:", "Source:")
SMALL = {"bs": 8, "items": 16, "valid_items": 8}


def task(name, **given) -> Pretext:
    return load(ENTRIES[name], Task)().under(**{**SMALL, **given})


pytestmark = pytest.mark.parametrize("name", ENTRIES)


def test_its_page_says_what_a_reader_needs(name):
    text = ENTRIES[name].doc
    assert [s for s in SECTIONS if s not in text] == []
    assert len(ENTRIES[name].title) <= 100


def test_equal_seeds_give_equal_batches_and_others_do_not(name):
    one, same, other = (task(name).loaders(seed).train.one_batch() for seed in (3, 3, 4))
    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))


def test_epochs_differ_unless_the_rows_are_frozen(name):
    fresh = task(name).loaders(0).train
    assert not all(map(torch.equal, next(iter(fresh)), next(iter(fresh))))
    frozen = task(name, rows="frozen").items(0, "train")
    assert all(map(torch.equal, frozen.collate([frozen.item(0, 1)]), frozen.collate([frozen.item(7, 1)])))


def test_validation_rows_are_the_same_in_every_epoch(name):
    valid = task(name).loaders(0).valid
    for one, again in zip(valid, valid):
        assert all(map(torch.equal, one, again))


def test_a_row_is_the_same_alone_and_in_a_batch(name):
    items = task(name).items(0, "train")
    whole = items.collate([items.item(0, i) for i in range(4)])
    alone = items.collate([items.item(0, 2)])
    for part, one in zip(whole, alone):
        torch.testing.assert_close(part[2:3], one)


def test_finished_on_the_device_or_in_the_worker_is_alike(name):
    t = task(name)
    early = ReplayLoader(t.items(0, "train"), bs=8, late=False).one_batch()
    late = ReplayLoader(t.items(0, "train"), bs=8, late=True).one_batch()
    assert all(map(torch.equal, early, late))


def test_noise_keeps_the_labels_and_shows_nothing_of_the_images(name):
    real, noise = (task(name, inputs=i).loaders(0).train.one_batch() for i in ("images", "noise"))
    n = task(name).items(0, "train").inputs
    assert all(map(torch.equal, real[n:], noise[n:]))
    rows = torch.cat([x.flatten(1) for x in noise[:n] if x[0].numel() == noise[0][0].numel()])
    assert (torch.corrcoef(rows) - torch.eye(len(rows))).abs().max() < 0.25
    assert [x.shape for x in real] == [x.shape for x in noise]


def test_the_best_constant_is_what_theory_says(name):
    """The constant that fits 1,024 rows best, found by descent, has the loss that the task declares."""
    t = task(name, items=1024, bs=1024, size=32)
    stated = t.best_constant()
    if stated is None:
        pytest.skip("its best constant has no closed form")
    batch = t.loaders(0).train.one_batch()
    n = t.items(0, "train").inputs
    loss_func, targets = t.loss(), batch[n:]
    with torch.no_grad():
        model = t.learner(0).model.eval()
        output = model(*(x[:2] for x in batch[:n]))
    constant = output.mean(0).float().clone().zero_().requires_grad_()
    descent = torch.optim.LBFGS([constant], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        descent.zero_grad()
        loss = loss_func(constant.expand(len(targets[0]), *constant.shape), *targets)
        loss.backward()
        return loss

    descent.step(closure)
    assert closure().item() == pytest.approx(stated, rel=0.05)


def test_nothing_scores_above_one_and_the_labels_score_one(name):
    t = task(name)
    batch = t.loaders(0).train.one_batch()
    n = t.items(0, "train").inputs
    with torch.no_grad():
        output = t.learner(0).model.eval()(*batch[:n])
    assert 0 <= t.score(output, *batch[n:]) <= 1
    assert 0 <= t.chance < 1
    assert t.metric


def test_the_oracle_solves_the_raw_task(name):
    score = task(name).oracle()
    if score is None:
        assert "oracle: none" in ENTRIES[name].doc.lower(), "a task without an oracle says why"
        return
    assert score >= 0.95


def test_shortcuts_fail_on_the_hardened_task(name):
    """Each probe comes at most a quarter of the way from chance to 1."""
    t = task(name, items=512, bs=512)
    batch = t.loaders(0).train.one_batch()
    for title, probe in t.probes().items():
        assert probe(batch) <= t.chance + 0.25 * (1 - t.chance), title


def test_some_probe_finds_its_shortcut_in_the_raw_task(name):
    """A probe that never succeeds would prove nothing."""
    t = task(name, items=512, bs=512, hardened=False)
    batch = t.loaders(0).train.one_batch()
    for title, probe in t.probes().items():
        assert probe(batch) > t.chance + 0.25 * (1 - t.chance), title


def test_easier_versions_have_the_same_shapes(name):
    t = task(name)
    shapes = [x.shape for x in t.loaders(0).train.one_batch()]
    for title, version in t.easier().items():
        assert [x.shape for x in version.loaders(0).train.one_batch()] == shapes, title


def test_a_head_or_a_loss_that_does_not_fit_is_refused_by_name(name):
    for setting in ("head", "loss"):
        with pytest.raises(DiagnoseError, match=rf"--set {setting}.kind=nonsense: does not fit {name}; what fits: \w"):
            task(name, **{setting: {"kind": "nonsense"}})


def test_every_head_and_loss_that_fits_trains(name):
    t = task(name)
    pairs = [(h, t.losses()[0]) for h in t.heads()] + [(t.heads()[0], x) for x in t.losses()[1:]]
    for head, loss in pairs:
        learner = task(name, head={"kind": head}, loss={"kind": loss}).learner(0)
        before = [p.detach().clone() for p in learner.model.parameters()]
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)
        moved = [not torch.equal(a, b) for a, b in zip(before, learner.model.parameters())]
        assert math.isfinite(float(learner.recorder.values[-1][0])), (head, loss)
        assert sum(moved) >= 0.9 * len(moved), (head, loss)


@pytest.mark.slow
def test_what_a_small_encoder_does_not_learn_it_learns_by_heart(name):
    """A fixed batch, at the task's own rate, to a tenth of the best constant's loss."""
    t = task(name, bs=16, items=16)
    if t.GENERALISES:
        pytest.skip("its easiest version is learned by others' tests, and it generalises")
    learner = t.learner(0)
    batch = learner.dls.train.one_batch()
    n = learner.dls.train.dataset.inputs
    learner.create_opt()
    learner.model.train()
    for _ in range(200):
        loss = learner.loss_func(learner.model(*batch[:n]), *batch[n:])
        loss.backward()
        learner.opt.step()
        learner.opt.zero_grad()
    assert loss.item() < 0.1 * t.best_constant()


def test_features_are_those_of_its_encoder(name):
    t = task(name)
    model = t.learner(0).model.eval()
    assert isinstance(model.encoder, nn.Module)
    batch = t.loaders(0).train.one_batch()
    n = t.items(0, "train").inputs
    with torch.no_grad():
        features = t.features(model, *batch[:n])
    assert features.shape[0] == 8
    assert features.ndim >= 3
    assert torch.isfinite(features).all()


def test_rows_are_shown_with_captions_and_with_predictions(name):
    matplotlib.use("Agg")
    t = task(name)
    loader = t.loaders(0).train
    batch = loader.one_batch()
    n = loader.dataset.inputs
    with torch.no_grad():
        outputs = t.learner(0).model.eval()(*batch[:n])
    plain, told = loader.dataset.shown(batch), loader.dataset.shown(batch, outputs)
    assert len(plain) == len(told) == 8
    for row in plain:
        assert len(row.images) == len(row.captions) >= 1
        assert not [r for r in row.right if r is not None]
    assert any(r is not None for row in told for r in row.right)
    assert len(rows_figure(told[:3]).axes) >= 3


def test_fastai_shows_batches_and_results(name):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    learner = task(name).learner(0)
    pyplot.close("all")
    learner.dls.show_batch(max_n=2)
    with learner.no_bar():
        learner.show_results(max_n=2)
    assert len(pyplot.get_fignums()) == 2
    pyplot.close("all")
