import torch

from sslwang.losses import Contrastive
from sslwang.tasks.same_or_different import SameOrDifferent

SMALL = {"bs": 128, "items": 128, "valid_items": 8, "size": 16}


def test_pairs_are_the_same_where_the_label_says_so():
    one, other, labels = SameOrDifferent().under(views="copies", **SMALL).loaders(0).train.one_batch()
    same = (one == other).flatten(1).all(1)
    assert torch.equal(same, labels[:, 0] > 0.5)
    assert 0.35 < labels.mean() < 0.65


def test_both_views_are_distorted_those_of_one_image_too():
    task = SameOrDifferent().under(**SMALL)
    plain = task.under(views="copies").loaders(0).train.one_batch()
    hard = task.loaders(0).train.one_batch()
    assert torch.equal(plain[2], hard[2])  # the same rows
    for role in (0, 1):
        assert (plain[role] != hard[role]).flatten(1).float().mean(1).min() > 0.5


def test_a_distance_is_called_the_same_below_half_the_margin():
    task = SameOrDifferent().under(goal="distance", **SMALL)
    assert task.heads() == ("embed-l2",)
    assert task.losses() == ("contrastive",)
    half = Contrastive().margin / 2
    outputs = torch.tensor([[-half + 0.1], [-half - 0.1]])
    assert task.score(outputs, torch.tensor([[1.0], [0.0]])) == 1
    assert task.score(outputs, torch.tensor([[0.0], [1.0]])) == 0
    assert task.oracle() > 0.95


def test_a_prediction_is_told_and_judged():
    task = SameOrDifferent().under(**{**SMALL, "bs": 4, "items": 4})
    loader = task.loaders(0).train
    batch = loader.one_batch()
    right = loader.dataset.shown(batch, 4 * batch[2] - 2)
    wrong = loader.dataset.shown(batch, 2 - 4 * batch[2])
    assert [row.right for row in right] == [[None, True]] * 4
    assert [row.right for row in wrong] == [[None, False]] * 4
    said = "yes" if batch[2][0] else "no"
    assert right[0].captions[1] == f"same image: {said}\nsaid {said} ({2 if batch[2][0] else -2:.2f})"
