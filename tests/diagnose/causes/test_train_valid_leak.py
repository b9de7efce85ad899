"""Training items in validation: named and proven; validation on the training set and repeats by chance are left."""

import torch
from data_subjects import Folders, Read, colour_net, digit, over, write_pictures
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "train-valid-leak"


@in_turn(build=[digits, diabetes])
def test_training_items_in_validation_are_named(build, seed):
    assert "training item" in is_named(with_fault("validation-from-training", build, seed), ID).summary


def test_files_in_both_folders_are_named(tmp_path):
    write_pictures(tmp_path, ["ape", "bee"], each=16)
    train, valid = Folders(tmp_path), Folders(tmp_path)
    valid.samples, valid.targets = valid.samples[::2], valid.targets[::2]
    is_named(examined(over(train, valid, model=colour_net(2), bs=8)), ID)


def test_validation_on_the_training_set_is_left_alone():
    data = Read(128, digit)
    is_left_alone(examined(over(data, data)), ID)


def test_short_rows_that_repeat_by_chance_are_left_alone():
    def row(i):
        bits = torch.tensor([float(i >> k & 1) for k in range(4)])
        return bits, (bits.sum() - 2)[None]

    net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    is_left_alone(examined(over(row, lambda i: row(i * 7), model=net, loss=torch.nn.MSELoss())), ID)


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("validation-from-training", digits)))
