"""What a person is shown of a batch: the rows that were scored, words and columns in place of their numbers."""

from __future__ import annotations

import math

import numpy as np
import odd_subjects
import pandas as pd
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.tabular.core import Categorify, FillMissing, Normalize
from fastai.tabular.data import TabularDataLoaders
from fastai.tabular.learner import tabular_learner
from learners import digits, pair_scores
from torch import nn

from diagnose.lab import Lab
from diagnose.samples import EXTREMES, MOST, samples
from diagnose.subject import from_learner
from diagnose.trial import forward


def of(learn: Learner, trained: bool = False):
    lab = Lab(from_learner(learn))
    rows, files = samples(lab, lab.baseline.learner.model if trained else None)
    return lab, rows, files


def test_hardest_and_easiest_are_those_of_the_whole_first_batch():
    lab, rows, files = of(digits(), trained=True)
    x, y = (t[:128] for t in lab.whole_batch)
    losses = nn.functional.cross_entropy(forward(lab.baseline.learner.model, (x,)), y, reduction="none")
    order = losses.sort(descending=True)
    hardest = [r for r in rows if r.rank.startswith("hardest")]
    easiest = [r for r in rows if r.rank.startswith("easiest")]
    assert [r.rank for r in rows[:MOST]] == [""] * MOST
    assert len(hardest) == len(easiest) == EXTREMES
    assert hardest[0].rank == f"hardest 1 of {len(x)} items of the first training batch"
    assert [r.loss for r in hardest] == pytest.approx(order.values[:EXTREMES].tolist(), rel=1e-4)
    assert [r.loss for r in easiest] == pytest.approx(order.values.flip(0)[:EXTREMES].tolist(), rel=1e-4, abs=1e-6)
    assert [r.target for r in hardest] == [f"class {y[i]}" for i in order.indices[:EXTREMES]]
    assert {p.file for r in rows for p in r.inputs} == set(files)
    assert len(files) == len(rows)


def test_the_same_seed_shows_the_same():
    assert of(digits(), True)[1:] == of(digits(), True)[1:]


def test_a_wrong_label_is_the_hardest_item():
    learn = digits()
    lab = Lab(from_learner(learn))
    x, y = (t.clone() for t in lab.whole_batch)
    y[5] = (y[5] + 1) % 10
    others = torch.arange(len(y)) != 5
    trained = lab.trial(batches=[(x[others], y[others])], steps=200, scale=lab.scale).learner.model
    learn.dls = DataLoaders(DataLoader([(a, b) for a, b in zip(x, y)], bs=len(x)), learn.dls.valid)
    rows, _ = samples(Lab(from_learner(learn)), trained)
    first = next(r for r in rows if r.rank.startswith("hardest 1 "))
    assert first.target == f"class {int(y[5])}"
    assert first.prediction.startswith(f"class {int(y[5] - 1) % 10} ")


def test_a_loss_that_is_not_finite_is_the_hardest():
    learn = digits()
    lab = Lab(from_learner(learn))
    x, y = (t.clone() for t in lab.whole_batch)
    x[7] = math.nan
    learn.dls = DataLoaders(DataLoader([(a, b) for a, b in zip(x, y)], bs=len(x)), learn.dls.valid)
    _, rows, _ = of(learn)
    assert [r.loss for r in rows if math.isnan(r.loss or 0)] != []
    assert math.isnan(next(r for r in rows if r.rank.startswith("hardest 1 ")).loss)
    assert not any(math.isnan(r.loss) for r in rows if r.rank.startswith("easiest"))


def test_a_loss_over_pairs_of_rows_has_no_hardest_row():
    _, rows, _ = of(odd_subjects.contrastive())
    assert rows
    assert not any(r.rank for r in rows)


def test_a_model_made_for_one_batch_size_shows_its_first_rows():
    _, rows, _ = of(odd_subjects.fixed_batch_size())
    assert len(rows) >= MOST


def test_a_batch_that_the_model_does_not_take_whole_shows_its_first_rows():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def forward(self, x):
            if len(x) > 16:
                raise ValueError("too many rows")
            return self.body(x)

    learn = digits()
    learn.model = Picky()
    _, rows, _ = of(learn)
    assert len(rows) == MOST


def test_a_mixed_batch_has_losses_of_unmixed_items():
    _, rows, _ = of(odd_subjects.mixup())
    assert any(r.rank.startswith("hardest") for r in rows)


def test_words_of_a_text():
    lab, rows, _ = of(odd_subjects.text_classifier_of_fastai())
    said = rows[0].inputs[0].text
    assert said.split()[0] in lab.learn.dls.vocab
    assert rows[0].target.startswith("class ")


def test_words_and_class_names_stand_in_one_vocabulary_of_fastai():
    learn = odd_subjects.text_classifier_of_fastai()
    words = ["xxunk", "xxpad", *(f"w{i}" for i in range(2, 60))]
    learn.dls.vocab = [words, ["bad", "good", "fair", "poor"]]
    lab, rows, _ = of(learn)
    kept = [int(v) for v in lab.xb[0][0].tolist() if v != 1]
    assert rows[0].inputs[0].text == " ".join(words[v] for v in kept)
    assert rows[0].target == ["bad", "good", "fair", "poor"][int(lab.yb[0][0])]
    assert rows[0].prediction.split(" (score")[0] in ("bad", "good", "fair", "poor")


def test_words_of_a_language_model():
    lab, rows, _ = of(odd_subjects.language_model_of_fastai())
    said, vocab = rows[0].inputs[0].text, list(lab.learn.dls.vocab)
    assert said.split()[0] in vocab
    assert rows[0].target.split()[:5] == said.split()[1:6]  # the next word
    assert rows[0].prediction.split()[0] in vocab


@pytest.mark.filterwarnings("ignore")
def test_columns_of_a_table_are_what_they_were_before_they_were_normalised():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(20, 60, 80).astype(float), "work": ["office", "home"] * 40})
    frame["y"] = np.where(frame["age"] > 40, "old", "young")
    dls = TabularDataLoaders.from_df(
        frame, procs=[Categorify, FillMissing, Normalize], cat_names=["work"], cont_names=["age"], y_names="y", bs=16,
        valid_idx=list(range(64, 80)), shuffle=False,
    )  # fmt: skip
    learn = tabular_learner(dls, layers=[8])
    _, rows, _ = of(learn)
    ages = {(w, round(a)) for w, a in zip(frame["work"], frame["age"])}
    for row in rows[:MOST]:
        work, age = row.inputs[0].text.split("\n")
        assert (work.removeprefix("work = "), round(float(age.removeprefix("age = ")))) in ages
        assert row.target == ("old" if float(age.removeprefix("age = ")) > 40 else "young")


@pytest.mark.parametrize(
    "name", ["dict_input", "segmentation", "multi_task", "torch_loaders", "several_images", "tabular"]
)
def test_any_batch_can_be_shown(name):
    _, rows, files = of(getattr(odd_subjects, name)())
    assert rows
    assert all(r.inputs for r in rows)
    assert {p.file for r in rows for p in r.inputs if p.file} == set(files)


def test_nothing_is_changed():
    learn = pair_scores()
    before = [p.detach().clone() for p in learn.model.parameters()]
    state = torch.get_rng_state()
    torch.manual_seed(1)
    of(learn)
    assert all(torch.equal(a, b) for a, b in zip(before, learn.model.parameters()))
    torch.set_rng_state(state)
