"""Sorted batches: named and proven on held-out rows; unsorted items read in order and mixed batches are left alone."""

import pytest
from data_subjects import digit, over
from fastai.data.core import DataLoaders
from learners import _digits, digits
from naming import examined, fault_of, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch.utils.data import DataLoader as TorchLoader

ID = "loader-not-shuffled"


@pytest.mark.parametrize("seed", [0, 1])
def test_items_sorted_by_class_are_named(seed):
    proof = is_named(with_fault("sorted-by-label", digits, seed), ID).proof
    known = "learned on held-out rows"
    assert proof.after.numbers[known] >= 0.3
    assert not proof.before.numbers[known] >= proof.after.numbers[known] - 0.3


@pytest.mark.parametrize("seed", [0, 1])
def test_sorted_items_in_a_torch_loader_are_named(seed):
    learn = digits(seed)
    fault_of("sorted-by-label").inject(learn)
    learn.dls = DataLoaders(*(TorchLoader(dl.dataset, batch_size=64) for dl in learn.dls.loaders))
    is_named(examined(learn, seed), ID)


def test_unsorted_items_read_in_order_are_left_alone():
    is_left_alone(examined(over(digit, shuffle=False)), ID)


def test_batches_of_four_classes_each_are_left_alone():
    _, y = _digits()
    groups = [(y[:1500] == k).nonzero().flatten().tolist() for k in range(10)]
    place = [groups[(4 * (i // 16) + i % 4) % 10][i // 4 % 100] for i in range(320)]
    is_left_alone(examined(over(lambda i: digit(place[i]), count=320, shuffle=False)), ID)


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("sorted-by-label", digits)))
