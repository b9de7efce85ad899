"""Patch paste: where the patch is from, its options, and that nothing else of the image changes."""

import pytest
import torch

from sslwang.data.pixels import normalised
from sslwang.tasks.patch_paste import PatchPaste, PatchPasteSettings, surroundings

ROWS = 100


def drawn(**given):
    settings = PatchPasteSettings(**{"bs": 8, "items": ROWS, "valid_items": 8, "size": 32, **given})
    items = PatchPaste(settings).items(0, "train")
    images, *rest = items.stack([items.item(0, i) for i in range(ROWS)])
    images = images.float() / 255
    return items, images, rest, items.batch(images, *rest)


def test_the_patch_is_from_where_the_label_says_and_the_rest_stays():
    items, images, (same, at, cut, _, _), (picture, target) = drawn(hardened=False)
    side = items.settings.patch
    assert torch.equal(target, same.float())
    for r in range(ROWS):
        y, x = at[r].tolist()
        v, u = cut[r].tolist()
        source = normalised(images[r, 0 if target[r] else 1])
        assert torch.equal(picture[r, :, y : y + side, x : x + side], source[:, v : v + side, u : u + side])
        rest = torch.ones(32, 32, dtype=torch.bool)
        rest[y : y + side, x : x + side] = False
        assert torch.equal(picture[r][:, rest], normalised(images[r, 0])[:, rest])
        if target[r]:
            assert max(abs(y - v), abs(x - u)) >= side / 4
        else:
            assert (y, x) == (v, u)


def test_where_it_is_pasted_says_nothing():
    _, _, (same, at, *_), _ = drawn()
    yes, no = at[same == 1].float(), at[same == 0].float()
    assert (yes.mean(0) - no.mean(0)).abs().max() < 5
    assert 35 < same.sum() < 65


@pytest.mark.parametrize("pct", [0.2, 0.9])
def test_the_share_of_positives_and_its_constant(pct):
    _, _, (same, *_), _ = drawn(pct_pos=pct)
    assert same.float().mean().item() == pytest.approx(pct, abs=0.12)
    assert PatchPaste(PatchPasteSettings(pct_pos=pct)).chance == pytest.approx(max(pct, 1 - pct))


def test_fixed_pastes_in_the_corner_and_cuts_an_eighth_away():
    _, _, (same, at, cut, *_), _ = drawn(fixed=True)
    assert not at.any()
    assert (cut[same == 1] == 4).all()


def test_flips_and_noise_change_the_patch_alone():
    items, _, (_, at, cut, flips, _), (flipped, _) = drawn(flip_h=True, hardened=False)
    _, _, (_, at_plain, cut_plain, *_), (plain, _) = drawn(hardened=False)
    assert torch.equal(at, at_plain)
    assert torch.equal(cut, cut_plain)
    assert 30 < flips[:, 1].sum() < 70
    assert not flips[:, 0].any()
    one, other = (items.patches(p, at) for p in (flipped, plain))
    assert torch.equal(one[flips[:, 1] == 1], other[flips[:, 1] == 1].flip(-1))
    assert torch.equal(one[flips[:, 1] == 0], other[flips[:, 1] == 0])
    noisy = drawn(noise=0.05, hardened=False)
    _, _, (_, at, cut, *_), (picture, target) = noisy
    yes = target == 1
    difference = noisy[0].patches(picture, at)[yes] - noisy[0].patches(normalised(noisy[1][:, 0]), cut)[yes]
    assert difference.std().item() == pytest.approx(0.05 / 0.25, rel=0.05)


def test_hardened_patches_lose_their_brightness():
    items, _, (_, at, *_), (picture, _) = drawn()
    assert items.patches(picture, at).mean((-2, -1)).abs().max() < 1e-4


def test_the_strongest_seam_and_the_colour_in_it_by_hand():
    pictures = torch.zeros(2, 3, 32, 32)
    pictures[0, :, 5:16, 8:19] = 2.0
    found = surroundings(pictures, 11)
    assert found[0, 1] == pytest.approx(2 * 3**0.5, rel=1e-5)
    assert found[0, 0] > 5
    assert not found[1].any()


def test_an_image_too_small_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 16"):
        PatchPasteSettings(size=8)
