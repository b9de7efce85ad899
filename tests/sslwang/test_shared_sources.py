"""Sources taken from the batch: the same rows, outputs and gradients as the naive form, each image once."""

import copy
import pickle

import numpy as np
import pytest
import torch
from fastai.learner import CastToTensor, Learner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from sslwang.data import pixels
from sslwang.data.gathered import Gathered, gathered, pool_and_index
from sslwang.data.images import ImageFiles
from sslwang.data.loaders import ReplayLoader
from sslwang.data.mixing import draw_moves, draw_rows, mixtures, shared_weights, windows
from sslwang.data.splits import Side
from sslwang.models.pairs import PairNet
from sslwang.tasks.unmix import Unmix, UnmixItems, UnmixSettings, exact_pair

SMALL = {"bs": 16, "items": 48, "valid_items": 16, "size": 32, "sources": "batch"}
NO_SHARING = {"scale"}  # is about one image a row


def task(**given):
    return Unmix(UnmixSettings(**{**SMALL, **given}))


class Numbered:
    """A side of `count` images; each tile shows its image's number and, in the second channel, noise of its own."""

    def __init__(self, count=7):
        self.images, self.made = range(count), 0

    def tile(self, rng, size, index):
        self.made += 1
        tile = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        tile[..., 0] = index
        return tile


def items_over(side, **given):
    t = task(**given)
    return UnmixItems(side, t.settings.items, 0, "train", t.settings)


def naive_batch(items, rows):
    """The batch as the notes would make it: a loop over the rows, each from its own n images, nothing shared."""
    s, found = items.settings, []
    adjust = pixels.standardised if s.hardened else pixels.normalised
    for row in rows:
        _, _, weights, slot, sources, (epoch, _), *_ = row
        middles, shown = [], []
        for source in sources.tolist():
            tile, (y, x, down, across) = items._image(int(epoch), source)
            tile = torch.from_numpy(tile.copy()).permute(2, 0, 1).double() / 255
            middles.append(tile[:, items.shift : items.shift + s.size, items.shift : items.shift + s.size])
            window = tile[:, y : y + s.size, x : x + s.size] if s.hardened else tile
            window = window.flip(1) if s.hardened and down else window
            shown.append(adjust(window.flip(2) if s.hardened and across else window))
        mixture = adjust(sum(w * m for w, m in zip(weights.tolist(), middles)))
        label = torch.from_numpy(weights)
        if s.mode == "dup_src":
            mixture = shown[slot]
        elif s.mode == "dup_mix":
            shown[slot] = mixture
        if s.mode != "unmix":
            label = nn.functional.one_hot(torch.tensor(slot), s.n).float()
        found.append((mixture, *shown, label if s.target == "regression" else (label > 0).float()))
    return tuple(torch.stack(part).float() for part in zip(*found))


# ---- the same as the naive form ----


@pytest.mark.parametrize("mode", ["unmix", "dup_src", "dup_mix"])
@pytest.mark.parametrize(("target", "hardened", "n"), [("classification", True, 3), ("regression", False, 4)])
def test_batches_are_those_of_the_naive_form_for_the_same_draws(mode, target, hardened, n):
    items = task(mode=mode, target=target, hardened=hardened, n=n).items(3, "train")
    rows = [items.item(2, i) for i in items.order(2)[:16]]
    shared, naive = items.collate(rows), naive_batch(items, rows)
    assert len(shared) == len(naive) == n + 2
    for a, b in zip(shared, naive):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ["spatial", "pooled", "set", "cosine"])
@pytest.mark.parametrize("mode", ["unmix", "dup_mix"])
def test_outputs_and_gradients_are_those_of_a_naive_net(head, mode):
    t = task(head={"kind": head}, mode=mode)
    *images, target = t.loaders(0).train.one_batch()
    shared, naive = t.learner(0).model, PairNet(t.encoder(), head)
    naive.load_state_dict(shared.state_dict())
    outputs = []
    for model, given_ in ((shared, images), (naive, [x.clone() for x in images])):
        out = model(*given_)
        t.loss()(out, target).backward()
        outputs.append(out.detach())
    assert (outputs[0] - outputs[1]).abs().max() < 1e-5
    for (name, p), q in zip(shared.named_parameters(), naive.parameters()):
        assert (p.grad - q.grad).norm() <= 1e-4 * q.grad.norm() + 1e-7, name


def test_under_batch_norm_both_forms_agree_in_evaluation_mode():
    t = task(encoder={"norm": "batch"})
    *images, _ = t.loaders(0).train.one_batch()
    model = t.learner(0).model.eval()
    with torch.no_grad():
        assert (model(*images) - model(*(x.clone() for x in images))).abs().max() < 1e-5


def test_features_are_those_of_every_image_of_every_row():
    t = task()
    *images, _ = t.loaders(0).train.one_batch()
    model = t.learner(0).model.eval()
    with torch.no_grad():
        maps = t.features(model, *images)
        alone = [model.encoder(x.clone()) for x in images]
    torch.testing.assert_close(maps, torch.stack(alone, dim=1), atol=1e-5, rtol=1e-4)


def test_each_image_is_encoded_once():
    for changes, encoded in (({}, 32), ({"n": 5}, 32), ({"sources": "row"}, 64), ({"mode": "dup_mix"}, 48)):
        t = task(**changes)
        model, counts = t.learner(0).model, []
        model.encoder.register_forward_hook(lambda m, x, y, counts=counts: counts.append(len(x[0])))
        model(*t.loaders(0).train.one_batch()[:-1])
        assert counts == [encoded], changes


def test_each_image_is_decoded_once(tmp_path):
    for k in range(30):
        Image.effect_noise((80, 70), 90).convert("RGB").save(tmp_path / f"{k}.png")
    for sources, decoded in (("batch", 48), ("row", 144)):
        files = ImageFiles(sorted(tmp_path.iterdir()), keep=1)
        t = task(sources=sources)
        loader = ReplayLoader(UnmixItems(Side(files), 48, 0, "train", t.settings), bs=16, shuffle=True)
        assert len(list(loader)) == 3
        found = files._decode.cache_info().misses
        assert 0.9 * decoded <= found <= decoded, "one image may happen to be drawn twice running"


def test_rows_stand_for_themselves_once_they_are_copied():
    """What the examination does to find rows that leak: an image is altered in one row, and only there."""
    t = task()
    *images, _ = t.loaders(0).train.one_batch()
    model = t.learner(0).model.eval()
    with torch.no_grad():
        before = model(*images)
        for k in range(len(images)):
            altered = [x.clone() for x in images]
            altered[k][5] = torch.randn_like(altered[k][5])
            moved = (model(*altered) - before).abs().amax(1)
            assert moved[5] > 1e-4
            assert moved[:5].max() < 1e-5
            assert moved[6:].max() < 1e-5


# ---- which images a row has ----


def test_a_row_is_decided_by_its_epoch_and_index():
    items = task().items(0, "train")
    order = items.order(1)
    whole = items.collate([items.item(1, i) for i in order[16:32]])
    for others in ([20], [3, 20, 44], range(16, 32)):
        part = items.collate([items.item(1, order[i]) for i in others])
        k = list(others).index(20)
        for a, b in zip(whole, part):
            torch.testing.assert_close(a[4], b[k])
    other = items.collate([items.item(2, order[20])])
    assert not torch.equal(other[0][0], whole[0][4])


def test_whole_batches_lack_no_image():
    side = Numbered()
    loader = ReplayLoader(items_over(side), bs=16, shuffle=True, drop_last=True)
    assert len(list(loader)) == 3
    assert side.made == 48


@pytest.mark.parametrize(("bs", "valid_items"), [(1, 1), (1, 5), (2, 3), (16, 17), (16, 1), (16, 16), (5, 11)])
def test_every_row_has_n_images_whatever_is_left_for_the_last_batch(bs, valid_items):
    t = task(bs=bs, items=bs, valid_items=valid_items, n=4, hardened=False)
    valid = t.loaders(0).valid
    rows = [(x, y) for *x, y in valid for x, y in zip(zip(*x), y)]
    assert len(rows) == valid_items
    for (_, *sources), labels in rows:
        assert labels.sum() == 2
        assert all(not torch.equal(a, b) for i, a in enumerate(sources) for b in sources[:i])


@pytest.mark.parametrize("images", [3, 7, 200])
@pytest.mark.parametrize("distinct", [True, False])
def test_sources_of_a_row_show_different_images_as_far_as_there_are_enough(images, distinct):
    items = items_over(Numbered(images), hardened=False, bs=24, data={"distinct": distinct})
    repeats = 0
    for i in range(48):
        tile, _, _, _, sources, _ = items.item(0, i)
        kinds = [int(items._image(0, s)[0][0, 0, 0]) for s in sources.tolist()]
        assert len(set(sources.tolist())) == 3
        assert i in sources
        assert int(tile[0, 0, 0]) in kinds
        repeats += len(set(kinds)) < 3
    if distinct:
        assert repeats == 0
    elif images == 3:
        assert repeats > 10, "drawn freely, most rows show one image twice"


def test_two_images_are_enough_to_train_on():
    rows = [items_over(Numbered(2)).item(0, i) for i in range(8)]
    assert all(len(set(r[4].tolist())) == 3 for r in rows), "of different places, if not of different images"


def test_frozen_rows_are_the_same_in_every_epoch_and_stay_together():
    side = Numbered()
    loader = ReplayLoader(items_over(side, rows="frozen"), bs=16, shuffle=True, drop_last=True)
    one, two = list(loader), list(loader)
    assert all(torch.equal(a, b) for x, y in zip(one, two) for a, b in zip(x, y))
    assert side.made == 96


def test_scale_shares_nothing():
    batch = task(mode="scale").loaders(0).train.one_batch()
    assert not [x for x in batch if isinstance(x, Gathered)]
    assert all(map(torch.equal, batch, task(mode="scale", sources="row").loaders(0).train.one_batch()))


@pytest.mark.parametrize("sources", ["batch", "row"])
@pytest.mark.parametrize("inputs", ["raw", "hardened"])
def test_solvers_without_vision_find_raw_labels_and_not_hardened_ones(sources, inputs):
    t = task(sources=sources, hardened=inputs == "hardened", bs=600, items=600, size=64)
    batch = t.loaders(0).train.one_batch()
    for name, probe in t.probes().items():
        score = probe(batch)
        assert score >= 0.95 if inputs == "raw" else abs(score - 1 / 3) < 0.1, (name, score)


def test_no_slot_and_no_place_in_the_batch_tells_the_label():
    *_, target = task(bs=2000, items=2000, size=16, data={"shift": 0}).loaders(0).train.one_batch()
    assert (target.mean(0) - 2 / 3).abs().max() < 0.04
    assert exact_pair(torch.tensor([3.0, 2.0, 1.0]).expand(2000, 3), target) == pytest.approx(1 / 3, abs=0.04)


# ---- tensors that remember ----


@pytest.fixture
def images():
    pool = torch.randn(5, 3, 4, 4)
    return pool, gathered(pool, torch.tensor([[0, 1, 2], [4, 3, 1], [2, 2, 0]]))


def test_values_are_those_of_a_plain_tensor(images):
    pool, taken = images
    assert all(isinstance(x, Gathered) for x in taken)
    assert torch.equal(torch.stack(taken, 1), pool[torch.tensor([[0, 1, 2], [4, 3, 1], [2, 2, 0]])])
    shared, index = pool_and_index(taken[::-1])
    assert shared is pool
    assert index.tolist() == [[2, 1, 0], [1, 3, 4], [0, 2, 2]]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:2],
        lambda x: x.clone(),
        lambda x: x + 0,
        lambda x: x.detach(),
        lambda x: x.double(),
        lambda x: x.flip(0),
        copy.deepcopy,
        lambda x: torch.cat([x, x]),
    ],
)
def test_what_comes_out_of_an_operation_is_plain(images, change):
    changed = [change(x) for x in images[1]]
    assert {type(x) for x in changed} == {torch.Tensor}
    pool, index = pool_and_index(changed)
    assert torch.equal(pool[index], torch.stack(changed, 1))


@pytest.mark.parametrize("change", [lambda x: x.mul_(2), lambda x: x[1].zero_(), lambda x: x.requires_grad_()])
def test_images_that_are_written_to_or_differentiated_stand_for_themselves(images, change):
    taken = images[1]
    change(taken[1])
    pool, index = pool_and_index(taken)
    assert len(pool) == 9
    assert torch.equal(pool[index], torch.stack(taken, 1))
    if taken[1].requires_grad:
        pool[index].sum().backward()
        assert torch.equal(taken[1].grad, torch.ones_like(taken[1]))


@pytest.mark.parametrize("change", [lambda x: x.mul_(2), lambda x: x[1].zero_(), lambda x: x.requires_grad_()])
@pytest.mark.parametrize("column", [0, 1])
def test_a_column_that_is_the_pool_itself_leaves_others_as_they_are(change, column):
    pool = torch.randn(5, 3, 4, 4)
    before = pool.clone()
    index = torch.tensor([[0, 1, 2], [1, 3, 1], [2, 2, 0]])
    taken = gathered(pool, index)
    assert taken[0].data_ptr() == pool.data_ptr()
    assert pool_and_index(taken)[0] is pool
    expected = [before[k].clone() for k in index.T]
    assert all(map(torch.equal, taken, expected))
    change(taken[column])
    change(expected[column])
    assert all(map(torch.equal, taken, expected))
    found, rows = pool_and_index(taken)
    assert torch.equal(found[rows], torch.stack(expected, 1))


def test_images_of_two_batches_are_not_mixed_up(images):
    other = gathered(torch.randn(2, 3, 4, 4), torch.tensor([[0, 1], [1, 1], [0, 0]]))
    pool, index = pool_and_index([*images[1], *other])
    assert torch.equal(pool[index], torch.stack([*images[1], *other], 1))


def test_a_cast_of_another_tensor_remembers_nothing():
    """fastai's `retain_type` may cast what an operation gave back to the type of what went in."""
    cast = torch.randn(3, 3, 4, 4).as_subclass(Gathered)
    assert not cast.intact()
    assert len(pool_and_index([cast, cast])[0]) == 6


def test_workers_send_the_pool_and_not_the_images(images):
    pool, taken = images
    again = pickle.loads(pickle.dumps(taken))
    assert all(isinstance(x, Gathered) and torch.equal(x, y) for x, y in zip(again, taken))
    assert pool_and_index(again)[0].shape == pool.shape
    taken[0].zero_()
    written = pickle.loads(pickle.dumps(taken[0]))
    assert type(written) is torch.Tensor
    assert written.abs().max() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_they_reach_the_model_through_fastai(workers):
    t = task(data={"workers": workers}, items=16)
    learner, seen = t.learner(0), []
    assert any(isinstance(cb, CastToTensor) for cb in learner.cbs)
    learner.model.encoder.register_forward_hook(lambda m, x, y: seen.append(len(x[0])))
    with learner.no_logging():
        learner.fit(1)
    assert seen == [32, 32]


def test_a_plain_learner_trains_on_them_as_well():
    t = task(items=16)
    learner = Learner(t.loaders(0), t.network(t.encoder()), t.loss(), lr=1e-2)
    before = [p.detach().clone() for p in learner.model.parameters()]
    with learner.no_logging():
        learner.fit(1)
    assert not all(map(torch.equal, before, learner.model.parameters()))


# ---- draws and arithmetic ----


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    n=st.integers(2, 5),
    kinds=st.integers(1, 12),
    unused=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_rows_that_are_drawn_are_sound(count, n, kinds, unused, seed):
    rng = np.random.default_rng(seed)
    of = rng.integers(kinds, size=count).tolist()
    unused = unused and n > 2
    rows = draw_rows(rng, count, n, 5, 8, unused, of)
    assert rows.index.shape == rows.weights.shape == (count, n)
    assert (rows.index[:, 0] == np.arange(count)).all()
    assert np.allclose(rows.weights.sum(1), 1)
    assert ((rows.weights > 0).sum(1) == 2).all()
    assert ((rows.weights[np.arange(count), rows.slots] == 0) == unused).all()
    for row in rows.index.tolist():
        assert len(set(row)) == min(n, count)
        assert len({of[k] for k in row}) == min(n, len(set(of)))


def test_partners_and_shares_are_drawn_evenly():
    rng = np.random.default_rng(0)
    rows = [draw_rows(rng, 6, 3, 5, 8) for _ in range(3000)]
    index, weights = np.concatenate([r.index for r in rows]), np.concatenate([r.weights for r in rows])
    partners = np.bincount(((index[:, 1:] - index[:, :1]) % 6).ravel(), minlength=6)
    assert partners[0] == 0
    assert np.abs(partners[1:] / partners.sum() - 0.2).max() < 0.01
    p = weights[weights > 0].astype(float)
    assert abs(weights.max(1).mean() - 0.645) < 0.005
    assert abs(p.var() - (0.016906 + (0.5 - 5 / 13) ** 2)) < 0.001
    assert np.abs((weights > 0).mean(0) - 2 / 3).max() < 0.01


def test_mixtures_are_weighted_sums_of_floats_and_of_bytes():
    rows = draw_rows(np.random.default_rng(0), 9, 4, 5, 8)
    index, weights = torch.from_numpy(rows.index), torch.from_numpy(rows.weights)
    images = torch.randint(0, 256, (9, 3, 5, 5), dtype=torch.uint8)
    expected = torch.einsum("bn,bnchw->bchw", weights.double(), images[index].double())
    for given_ in (images, images.float()):
        torch.testing.assert_close(mixtures(given_, index, weights).double(), expected, atol=1e-3, rtol=1e-5)


def test_slots_that_show_one_image_share_its_weight():
    index = torch.tensor([[4, 4, 2], [0, 0, 0], [1, 2, 3]])
    weights = torch.tensor([[0.3, 0.0, 0.7], [0.4, 0.6, 0.0], [0.1, 0.0, 0.9]])
    expected = torch.tensor([[0.15, 0.15, 0.7], [1 / 3, 1 / 3, 1 / 3], [0.1, 0.0, 0.9]])
    torch.testing.assert_close(shared_weights(index, weights), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_windows_are_moved_and_turned(dtype):
    images = torch.randint(0, 256, (40, 3, 11, 9)).to(dtype)
    moves = draw_moves(np.random.default_rng(0), 40, 2)
    cut = windows(images, torch.from_numpy(moves), 7)
    for image, (y, x, down, across), window in zip(images, moves.tolist(), cut):
        expected = image[:, y : y + 7, x : x + 7]
        expected = expected.flip(1) if down else expected
        assert torch.equal(window, expected.flip(2) if across else expected)
    assert {tuple(m) for m in moves[:, 2:].tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(moves[:, :2].ravel().tolist()) == {0, 1, 2}
