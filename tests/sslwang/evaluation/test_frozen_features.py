"""Features of frozen encoders, nearest neighbours and linear probes."""

import numpy as np
import pytest
import torch
from evaluations import small_data

from sslwang.evaluation.features import features, pooled
from sslwang.evaluation.frozen import nearest, probe
from sslwang.finetune import LabelledItems
from sslwang.models.encoder import Encoder


def blobs(count, spread, seed=0, classes=3, width=8):
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99).standard_normal((classes, width)) * 2
    labels = np.arange(count) % classes
    return (middles[labels] + spread * rng.standard_normal((count, width))).astype(np.float32), labels


def test_features_are_mean_and_maximum_of_each_map():
    encoder, images = Encoder(), torch.randn(3, 3, 32, 32)
    maps = encoder(images)
    found = pooled(encoder, images)
    assert found.shape == (3, 192)
    torch.testing.assert_close(found[:, :96], maps.mean((2, 3)))
    torch.testing.assert_close(found[:, 96:], maps.flatten(2).max(2).values)


def test_an_encoder_is_left_in_its_mode_and_its_running_statistics_stay():
    encoder = Encoder("batch").train()
    before = {n: t.clone() for n, t in encoder.state_dict().items()}
    pooled(encoder, torch.randn(4, 3, 32, 32) + 5)
    assert encoder.training
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("inputs", ["standardised", "normalised"])
def test_features_of_some_images_are_those_of_all(inputs):
    data = small_data()
    items = LabelledItems(data.train, data.classes, 16, 0, "valid", inputs=inputs)
    encoder = Encoder()
    everything = features(encoder, items)
    assert everything.shape == (36, 192)
    np.testing.assert_allclose(
        features(encoder, items, places=[7, 2, 30]), everything[[7, 2, 30]], rtol=1e-4, atol=1e-5
    )
    by_hand = pooled(encoder, items.collate([items.item(0, 7)])[0]).numpy()
    np.testing.assert_allclose(everything[7:8], by_hand, rtol=1e-4, atol=1e-5)


def test_neighbours_vote_as_wu_et_al_write():
    known, labels = blobs(40, 1.5)
    asked, _ = blobs(9, 1.5, seed=1)
    found = nearest(known, labels, asked, 4, neighbours=5, temperature=0.2)
    middle = known.mean(0)
    for row, vector in zip(found, asked):
        cosines = [
            float((vector - middle) @ (k - middle) / np.linalg.norm(vector - middle) / np.linalg.norm(k - middle))
            for k in known
        ]
        best = sorted(range(40), key=lambda i: -cosines[i])[:5]
        votes = np.zeros(4)
        for i in best:
            votes[labels[i]] += np.exp(cosines[i] / 0.2)
        np.testing.assert_allclose(row, votes / votes.sum(), rtol=1e-3, atol=1e-5)


def test_fewer_labels_than_neighbours_all_vote():
    known, labels = blobs(3, 0.1)
    found = nearest(known, labels, known, 3)
    assert found.argmax(1).tolist() == labels.tolist()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_neighbours_do_not_mind_the_length_of_features():
    known, labels = blobs(40, 1)
    asked, _ = blobs(9, 1, seed=1)
    np.testing.assert_allclose(
        nearest(known * 100, labels, asked * 100, 3), nearest(known, labels, asked, 3), rtol=1e-3, atol=1e-6
    )


def test_a_probe_finds_classes_and_gives_probabilities():
    known, labels = blobs(60, 0.5)
    asked, truth = blobs(30, 0.5, seed=1)
    found = probe(known, labels, asked, 4, 0)
    assert (found.probabilities.argmax(1) == truth).mean() > 0.95
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)
    assert (found.probabilities[:, 3] == 0).all()  # no label of it was ever seen
    assert found.chosen


def test_the_strength_of_a_probe_is_chosen_by_the_labels_alone():
    known, labels = blobs(60, 1)
    asked, _ = blobs(30, 1, seed=1)
    here, there = probe(known, labels, asked, 3, 0), probe(known, labels, asked[::-1] * 3, 3, 0)
    assert here.strength == there.strength


def test_noise_asks_for_a_weaker_probe_than_clear_classes():
    clear, labels = blobs(90, 0.3, width=40)
    noise = np.random.default_rng(3).standard_normal((90, 40)).astype(np.float32)
    assert probe(noise, labels, noise, 3, 0).strength < probe(clear, labels, clear, 3, 0).strength / 10


def test_one_label_a_class_leaves_nothing_to_choose_by():
    known, labels = blobs(3, 0.1)
    found = probe(known, labels, known, 3, 0)
    assert not found.chosen
    assert found.strength == 1
    assert found.probabilities.argmax(1).tolist() == [0, 1, 2]


def test_a_class_with_one_label_is_never_held_out():
    known, labels = blobs(30, 0.3)
    keep = (labels != 2) | (np.arange(30) == 2)
    found = probe(known[keep], labels[keep], known[[2]], 3, 0)
    assert found.chosen
    assert found.probabilities.argmax() == 2


def test_labels_of_one_class_are_all_that_is_said():
    known, _ = blobs(5, 1)
    found = probe(known, np.full(5, 2), known, 3, 0)
    assert (found.probabilities == [0, 0, 1]).all()


def test_a_probe_is_the_same_for_the_same_seed():
    known, labels = blobs(60, 2)
    a, b = (probe(known, labels, known, 3, 5) for _ in range(2))
    assert a.strength == b.strength
    assert (a.probabilities == b.probabilities).all()
