"""Fine-tuning: what is frozen stays bit for bit, equal seeds give equal bits, and what is scored can be had again."""

import copy
import random

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from diagnose.errors import DiagnoseError
from sslwang.data.labelled import Labelled, LabelledImages, labelled
from sslwang.finetune import (
    PARTS,
    SPREAD,
    LabelledItems,
    TransferNet,
    finetune,
    finetune_learner,
    finetune_loaders,
    fit,
    parameter_groups,
    predict,
)
from sslwang.models.encoder import make_encoder
from sslwang.scores import accuracy

FEW = np.arange(0, 1400, 7)  # of the digits: 200 images to train on


@pytest.fixture(scope="module")
def digits():
    whole = labelled("digits")
    return Labelled(
        whole.source, whole.classes, whole.valid_classes, whole.train, whole.valid.subset(range(150)), whole.size
    )


def encoder(norm="group", arch="small", seed=0):
    torch.manual_seed(seed)
    return make_encoder(arch, norm)


def state(module):
    return {n: t.detach().clone() for n, t in module.state_dict().items()}


def moved(before, after):
    assert before.keys() == after.keys()
    return {n for n in before if not torch.equal(before[n], after[n])}


# ---- parts and what is frozen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["small", "notes", "resnet18", "xresnet18", "mobilenet_v2", "densenet121", "swin_t"])
def test_the_parts_of_an_encoder_are_all_of_it_in_order(arch):
    net = TransferNet(encoder(arch=arch), 5)
    groups, parts = parameter_groups(net), net.parts()
    assert len(parts) == PARTS
    assert len(groups) == PARTS + 1
    own = [id(p) for p in net.encoder.parameters()]
    assert [id(p) for group in groups[:-1] for p in group] == own, "each parameter once, from the first layer on"
    assert [id(p) for p in groups[-1]] == [id(p) for p in net.head.parameters()]
    of_parts = {id(t) for part in parts for m in part for t in (*m.parameters(), *m.buffers())}
    assert of_parts == {id(t) for t in (*net.encoder.parameters(), *net.encoder.buffers())}
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_a_part_may_own_a_parameter_of_the_encoder_itself():
    """A parameter that stands in no child goes with the first part, and is not forgotten by the optimizer."""
    net = TransferNet(encoder(), 5)
    net.encoder.scale = nn.Parameter(torch.ones(1))
    groups = parameter_groups(net)
    assert any(p is net.encoder.scale for p in groups[0])
    assert sum(map(len, groups)) == len(list(net.parameters()))


class Witness(Callback):
    """Notes the state of the net after every step, and what was held in it."""

    order = 90

    def __init__(self):
        self.seen = []

    def after_batch(self):
        if self.training:
            rates = [h["lr"] for h in self.opt.hypers]
            self.seen.append((self.model.held, state(self.model), rates))


def watched(norm, arch, digits, unfreeze="gradual", **changes):
    """A fine-tuning of 20 steps under weight decay: state before it, and what a `Witness` saw."""
    learner = finetune_learner(encoder(norm, arch), digits, FEW, bs=16, steps=20, unfreeze=unfreeze, wd=0.1, **changes)
    witness, before = Witness(), state(learner.model)
    learner.add_cb(witness)
    fit(learner, 1, unfreeze)
    return learner, before, witness.seen


@pytest.mark.parametrize(("norm", "arch"), [("group", "small"), ("batch", "small"), ("batch", "shufflenet_v2_x0_5")])
def test_what_is_frozen_stays_bit_for_bit_buffers_too(norm, arch, digits):
    """The head alone, then a part more every two of 20 steps. A batch norm's statistics are part of what stays."""
    learner, before, seen = watched(norm, arch, digits)
    assert [held for held, _, _ in seen] == [3, 3, 2, 2, 1, 1, *[0] * 14]
    names = [
        {f"encoder.{n}" for n, t in learner.model.encoder.state_dict(keep_vars=True).items() if id(t) in own}
        for part in learner.model.parts()
        for own in [{id(t) for m in part for t in (*m.parameters(), *m.buffers())}]
    ]
    assert sum(map(len, names)) == len(learner.model.encoder.state_dict())
    assert (norm == "batch") == any("running_mean" in n for n in names[0])
    for held, now, _ in seen:
        assert not moved(before, now).intersection(*[set().union(*names[:held])]), f"{held} parts are frozen"
        assert any(n.startswith("head.") for n in moved(before, now))
    for part, step in zip(names, (6, 4, 2)):  # from the first step on that they are free
        assert moved(before, seen[step][1]) & part
    everything = moved(before, seen[-1][1])
    assert not [n for p in names for n in p if n not in everything and "num_batches" not in n and ".bias" not in n]


def test_frozen_parameters_alone_would_not_keep_running_statistics(digits, monkeypatch):
    """The test above can fail: without `hold` the batch norms of frozen parts go on adapting."""
    monkeypatch.setattr(TransferNet, "hold", lambda self, parts: setattr(self, "held", 0))
    _, before, seen = watched("batch", "small", digits)
    changed = moved(before, seen[0][1])
    assert {n for n in changed if n.startswith("encoder.0.")} == {
        "encoder.0.1.running_mean",
        "encoder.0.1.running_var",
        "encoder.0.1.num_batches_tracked",
    }


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_with_none_the_head_alone_learns_and_the_freeze_is_declared(norm, digits):
    learner, before, seen = watched(norm, "small", digits, "none")
    changed = moved(before, seen[-1][1])
    assert changed
    assert all(n.startswith("head.") for n in changed)
    assert learner.opt.frozen_idx == PARTS
    learner.model.train()
    assert not any(m.training for m in learner.model.encoder.modules())


def test_all_trains_everything_from_the_first_step_at_one_rate(digits):
    _, before, seen = watched("batch", "small", digits, "all")
    assert {n for n in moved(before, seen[0][1]) if "encoder.0." in n}
    assert all(len(set(rates)) == 1 for _, _, rates in seen)


def test_earlier_parts_learn_at_lower_rates_in_one_cycle(digits):
    _, _, seen = watched("group", "small", digits, lr=1e-2)
    rates = np.array([rates for _, _, rates in seen])
    assert rates.shape == (20, PARTS + 1)
    assert (np.diff(rates, axis=1) > 0).all()
    assert rates[:, -1] / rates[:, 0] == pytest.approx(SPREAD)
    top = int(rates[:, -1].argmax())
    assert rates[top, -1] == pytest.approx(1e-2, rel=0.1)
    assert (np.diff(rates[: top + 1, -1]) > 0).all()
    assert (np.diff(rates[top:, -1]) < 0).all()


# ---- bits ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits_and_nothing_outside_is_touched(digits):
    one = encoder("batch")
    before = state(one)
    torch.manual_seed(3)
    expected = torch.rand(1)
    runs = []
    for other in (0, 99):  # whatever the streams outside were at
        torch.manual_seed(other)
        random.seed(other)
        runs.append(finetune(one, digits, FEW, steps=8, bs=16, seed=4).probabilities)
    torch.manual_seed(3)
    finetune(one, digits, FEW, steps=1, bs=16, seed=4)
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(*runs)
    assert not moved(before, state(one))
    assert one.training
    assert all(p.requires_grad for p in one.parameters())
    assert not np.array_equal(runs[0], finetune(one, digits, FEW, steps=8, bs=16, seed=5).probabilities)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_training_item_is_drawn_from_seed_epoch_and_index(digits, balanced):
    def item(epoch, index, seed=0):
        items = LabelledItems(digits.train, digits.classes, 24, seed, "train", balanced=balanced)
        tile, label = items.item(epoch, index)
        assert tile.shape == (24, 24, 3)
        assert tile.dtype == np.uint8
        return tile.tobytes(), label

    assert item(3, 17) == item(3, 17)
    assert len({item(e, i, s) for e in (0, 1) for i in (5, 6) for s in (0, 1)}) == 8
    with pytest.raises(IndexError):
        item(0, 1438)


def test_workers_make_the_same_batches(digits):
    batches = []
    for workers in (0, 2):
        dls = finetune_loaders(digits, FEW[:64], bs=16, workers=workers)
        batches.append([b for _ in range(2) for b in dls.train])
    for (x, y), (u, v) in zip(*batches, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    assert not torch.equal(batches[0][0][0], batches[0][4][0]), "another epoch is drawn anew"


def picture(width, height, value=lambda x, y: (x, y, 0)):
    grid = np.array([[value(x, y) for x in range(width)] for y in range(height)], np.uint8)
    return Image.fromarray(grid)


def of_pictures(pictures, labels=None, valid=None, classes=("a", "b"), valid_classes=None, source="here"):
    labels = np.arange(len(pictures)) % 2 if labels is None else np.asarray(labels)
    side = LabelledImages(pictures, labels.astype(np.int64), [f"{i}.png" for i in range(len(pictures))])
    return Labelled(source, classes, valid_classes or classes, side, valid or side, 16)


def test_validation_shows_the_middle_square_and_draws_nothing():
    wide = picture(60, 20)
    items = LabelledItems(of_pictures([wide, wide]).train, ("a", "b"), 20, 0, "valid")
    tile, _ = items.item(0, 0)
    assert np.array_equal(tile, np.asarray(wide)[:, 20:40])
    assert np.array_equal(items.item(7, 0)[0], tile)


def test_training_crops_show_different_parts_and_mirror_half():
    """Red grows to the right and green downwards, so that a tile tells where it was cut and whether it was mirrored."""
    side = of_pictures([picture(96, 96)] * 2)
    items = LabelledItems(side.train, ("a", "b"), 16, 0, "train", count=200)
    tiles = np.stack([items.item(0, i)[0] for i in range(200)]).astype(float)
    mirrored = tiles[:, 8, 0, 0] > tiles[:, 8, -1, 0]
    assert 0.35 < mirrored.mean() < 0.65
    assert (tiles[:, 0, 8, 1] < tiles[:, -1, 8, 1]).all(), "never upside down"
    across = np.ptp(tiles[:, 8, :, 0], axis=1) / 15 * 16
    down = np.ptp(tiles[:, :, 8, 1], axis=1) / 15 * 16
    area = across * down / 96**2
    assert 0.3 < area.min() < 0.5
    assert 0.85 < area.max() <= 1.05
    assert 0.7 < (across / down).min() < 0.9 < 1.1 < (across / down).max() < 1.4
    plain = LabelledItems(side.train, ("a", "b"), 16, 0, "train", count=200, flip=False)
    assert all(t[8, 0, 0] < t[8, -1, 0] for t in (plain.item(0, i)[0].astype(int) for i in range(50)))


def test_digits_are_not_mirrored_and_photographs_are(digits):
    assert not finetune_loaders(digits, FEW).train.dataset.flip
    assert finetune_loaders(of_pictures([picture(20, 20)] * 4)).train.dataset.flip


def test_images_are_standardised_or_on_one_scale():
    data = of_pictures([picture(32, 32), picture(32, 32, lambda x, y: (x // 2, 9, 200))])
    x, _ = finetune_loaders(data, inputs="standardised").valid.one_batch()
    assert x.mean((2, 3)).abs().max() < 1e-4
    assert x[0, 0].std(correction=0) == pytest.approx(1, abs=1e-3)
    x, _ = finetune_loaders(data, inputs="normalised").valid.one_batch()
    assert x[1, 2].unique() * 0.25 + 0.45 == pytest.approx(200 / 255, abs=1e-6)


# ---- which images ----------------------------------------------------------------------------------------------------


@pytest.fixture
def uneven():
    return of_pictures([picture(8, 8, lambda x, y, k=k: (k, k, k)) for k in range(41)], [0] * 4 + [1] * 37)


def test_balanced_shows_every_class_equally_often_and_as_is_every_image_once(uneven):
    plain = LabelledItems(uneven.train, uneven.classes, 8, 0, "train")
    assert sorted(plain.order(2)) == list(range(41))
    labels = [plain.item(1, i)[1] for i in plain.order(1)]
    assert labels.count(0) == 4
    items = LabelledItems(uneven.train, uneven.classes, 8, 0, "train", balanced=True)
    drawn = [items.item(1, i) for i in items.order(1)]
    assert [label for _, label in drawn].count(0) == 21
    rare = {int(tile[0, 0, 0]) for tile, label in drawn if label == 0}
    assert rare == {0, 1, 2, 3}
    assert all((int(tile[0, 0, 0]) >= 4) == (label == 1) for tile, label in drawn), "labels stay with their images"
    common = {int(items.item(e, i)[0][0, 0, 0]) for e in range(20) for i in range(1, 41, 2)}
    assert len(common) == 37, "over the epochs all images of the large class are shown"


def test_a_number_of_steps_goes_through_the_images_again_and_again(uneven):
    """41 images, 10 steps of 8: each image twice but for two of them, none a third time before all are used."""
    items = LabelledItems(uneven.train, uneven.classes, 8, 0, "train", count=80)
    order = items.order(0)
    shown = np.array([i % 41 for i in order])
    assert sorted(order) == list(range(80))
    assert sorted(shown[:41]) == list(range(41))
    assert len(set(shown[41:])) == 39
    assert items.order(1) != order
    learner = finetune_learner(encoder(), uneven, bs=8, steps=10, size=16)
    assert len(learner.dls.train) == 10


def test_indices_choose_the_training_images(digits):
    dls = finetune_loaders(digits, [3, 3, 900], bs=64)
    assert dls.train.bs == 3, "no larger than what there is"
    assert sorted(dls.train.dataset.item(0, i)[1] for i in range(3)) == sorted(digits.train.labels[[3, 3, 900]])
    assert len(dls.valid.dataset) == len(digits.valid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": [4]}, "1 training and 150 validation images; too few"),
        ({"indices": []}, "0 training and 150 validation images; too few"),
    ],
)
def test_too_few_images_are_refused(digits, change, message):
    with pytest.raises(DiagnoseError, match=message):
        finetune(encoder(), digits, steps=1, **change)


def test_no_image_for_validation_is_refused():
    data = of_pictures([picture(8, 8)] * 4)
    with pytest.raises(DiagnoseError, match="4 training and 0 validation images"):
        finetune_loaders(Labelled("here", *[data.classes] * 2, data.train, data.train.subset([]), 16))


def test_images_too_small_for_the_encoder_are_one_clear_line(digits):
    with pytest.raises(DiagnoseError, match="too small for this encoder, it needs 39 x 39"):
        finetune(encoder(arch="notes"), digits, FEW, steps=1, size=32)


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "steps": 1}])
def test_epochs_or_steps(digits, given):
    with pytest.raises(ValueError, match="either epochs or steps"):
        finetune(encoder(), digits, FEW, **given)


@pytest.mark.parametrize("given", [{"epochs": 0}, {"steps": 0}, {"steps": -1}])
def test_at_least_one(digits, given):
    with pytest.raises(ValueError, match="at least one epoch or step"):
        finetune(encoder(), digits, FEW, **given)


def test_a_training_that_diverged_is_one_clear_line(digits):
    with pytest.raises(DiagnoseError, match=r"fine-tuning diverged: .*lower lr, which is 1e\+30"):
        finetune(encoder("batch"), digits, FEW, steps=3, bs=16, lr=1e30, unfreeze="all")


# ---- what it predicts ------------------------------------------------------------------------------------------------


def test_the_tensor_that_was_scored_can_be_had_again(digits):
    learner = finetune_learner(encoder("batch"), digits, FEW, steps=2, bs=16, inputs="standardised")
    fit(learner, 1)
    seen = []
    learner.model.register_forward_pre_hook(lambda m, x: seen.extend(x[0].clone()))
    said = predict(learner)
    assert len(said) == len(seen) == len(digits.valid)
    assert all(torch.equal(said.tensor(i), x) for i, x in enumerate(seen))
    assert said.labels.tolist() == digits.valid.labels.tolist()
    assert list(said.names) == list(digits.valid.names)
    assert said.probabilities.shape == (150, 10)
    assert said.probabilities.dtype == np.float32
    assert said.probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(said.picture(7), np.asarray(digits.valid.images[7]))
    with torch.no_grad():
        again = learner.model.eval()(said.tensor(7)[None]).softmax(1)[0].numpy()
    assert again == pytest.approx(said.probabilities[7], abs=1e-5)


def test_predictions_do_not_depend_on_the_size_of_a_batch(digits):
    net = encoder("batch")
    learners = [finetune_learner(copy.deepcopy(net), digits, FEW, bs=bs) for bs in (7, 64)]
    one, other = (predict(learner).probabilities for learner in learners)
    assert one == pytest.approx(other, abs=1e-5)


def test_on_step_counts_every_batch(digits):
    told = []
    finetune(encoder(), digits, FEW, epochs=2, bs=64, on_step=lambda k, n: told.append((k, n)))
    assert told == [(k, 6) for k in range(1, 7)]


@pytest.mark.parametrize("unfreeze", ["gradual", "all"])
def test_it_learns_digits_and_nothing_where_there_is_nothing(digits, unfreeze):
    said = finetune(encoder("batch"), digits, FEW, epochs=12, bs=32, unfreeze=unfreeze)
    assert accuracy(said.probabilities, said.labels) > 0.6
    shuffled = LabelledImages(
        digits.train.images, np.random.default_rng(0).permutation(digits.train.labels), digits.train.names
    )
    wrong = Labelled("digits", digits.classes, digits.valid_classes, shuffled, digits.valid, digits.size)
    said = finetune(encoder("batch"), wrong, FEW, epochs=12, bs=32, unfreeze=unfreeze)
    assert accuracy(said.probabilities, said.labels) < 0.3


def test_batches_can_be_looked_at(digits, monkeypatch):
    dls = finetune_loaders(digits, FEW)
    shown = dls.valid.dataset.shown(dls.valid.one_batch(), torch.eye(10)[digits.valid.labels[:64]])
    assert shown[0].captions == [
        f"{digits.classes[digits.valid.labels[0]]}\nsaid {digits.classes[digits.valid.labels[0]]}"
    ]
    assert shown[0].right == [True]
    drawn = []
    monkeypatch.setattr(pyplot, "figure", lambda **kwargs: drawn.append(Figure(**kwargs)) or drawn[-1])
    dls.train.show_batch(max_n=2)
    assert len(drawn[0].axes) == 2
