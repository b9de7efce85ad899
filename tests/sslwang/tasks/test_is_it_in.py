import torch

from sslwang.data.pixels import MEAN, STD
from sslwang.tasks.is_it_in import IsItIn

SMALL = {"bs": 128, "items": 128, "valid_items": 8, "size": 32}


def test_a_copy_is_one_where_the_label_says_so():
    mixture, picture, labels = IsItIn().under(mode="copy", **SMALL).loaders(0).train.one_batch()
    assert torch.equal((mixture == picture).flatten(1).all(1), labels[:, 0] > 0.5)
    assert 0.35 < labels.mean() < 0.65


def test_a_picture_that_is_in_leaves_a_picture_when_it_is_taken_out():
    """Half of it subtracted, what is left is half an image: nowhere below black or above half of white."""
    batch = IsItIn().under(mode="equal", hardened=False, **SMALL).loaders(0).train.one_batch()
    mixture, picture = (x * STD + MEAN for x in batch[:2])
    rest = mixture - picture / 2
    possible = (rest.amin((1, 2, 3)) > -1e-4) & (rest.amax((1, 2, 3)) < 0.5 + 1e-4)
    labels = batch[2][:, 0] > 0.5
    assert possible[labels].all()
    assert possible[~labels].float().mean() < 0.2


def test_the_share_of_the_picture_is_drawn_anew():
    items = IsItIn().under(alpha=2.0, beta=6.0, **SMALL).items(0, "train")
    shares = torch.tensor([float(items.item(0, i)[2]) for i in range(128)])
    assert 0.4 < shares.mean() < 0.6  # of either of the two that were mixed
    assert shares.std() > 0.2


def test_the_hardened_picture_is_moved_against_the_mixture():
    task = IsItIn().under(**SMALL)
    probes = task.probes()
    raw, hard = (task.under(hardened=h).loaders(0).train.one_batch() for h in (False, True))
    assert probes["detail"](raw) > 0.9
    assert probes["detail"](hard) < 0.62
