"""A curriculum moves on when a threshold is passed and not before, in any Learner, and tells where."""

import pytest
import torch
from fastai.callback import progress  # noqa: F401  patches `no_bar` into Learner
from fastai.callback.core import Callback, CancelValidException
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import AccumMetric
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from diagnose.errors import DiagnoseError
from diagnose.report import figures
from diagnose.report.recorded import recorded
from diagnose.store import Store
from diagnose.watch import Watch
from sslwang.curriculum import Curriculum, StageMark
from sslwang.tasks.patchwork import Patchwork


def loaders(value, count=3):
    x = torch.full((4, 2), float(value))
    return DataLoaders([(x, x[:, :1])] * count, [(x, x[:, :1])])


def level(prediction, target):
    """The mean of the targets: which stage was validated."""
    return target.mean().item()


def learner(dls=None, metrics=None):
    model = nn.Linear(2, 1)
    return Learner(dls or loaders(0), model, nn.MSELoss(), metrics=metrics or [AccumMetric(level)], lr=1e-3)


def fit(learn, epochs, curriculum):
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs, cbs=curriculum)


def test_it_moves_on_after_the_threshold_one_stage_an_epoch():
    stages = {f"stage {v}": loaders(v) for v in (1, 2, 3)}
    curriculum = Curriculum(stages, [1.0, 2.0], metric="level")
    learn = learner()
    fit(learn, 5, curriculum)
    assert curriculum.marks == [
        StageMark("stage 1", 0, 0, None),
        StageMark("stage 2", 3, 1, 1.0),
        StageMark("stage 3", 6, 2, 2.0),
    ]
    assert [v[-1] for v in learn.recorder.values] == [1, 2, 3, 3, 3]
    assert learn.dls is stages["stage 3"]


def test_it_stays_while_the_threshold_is_not_passed_however_long():
    curriculum = Curriculum({"easy": loaders(1), "hard": loaders(2)}, 1.5, metric="level")
    fit(learner(), 6, curriculum)
    assert [m.stage for m in curriculum.marks] == ["easy"]


def test_an_epoch_that_validates_nothing_moves_nothing():
    class Every(Callback):
        def before_validate(self):
            if self.epoch % 2 == 0:
                raise CancelValidException

    curriculum = Curriculum({"easy": loaders(1), "hard": loaders(2)}, 1.0, metric="level")
    learn = learner()
    learn.add_cb(Every())
    fit(learn, 3, curriculum)
    assert [(m.stage, m.epoch) for m in curriculum.marks] == [("easy", 0), ("hard", 2)]


def test_losses_move_on_when_they_are_low():
    curriculum = Curriculum({"easy": loaders(0), "hard": loaders(9)}, 1e6, metric="valid_loss", lower=True)
    fit(learner(), 1, curriculum)
    assert [m.stage for m in curriculum.marks] == ["easy", "hard"]


def test_the_next_fit_goes_on_in_the_stage_that_was_reached_and_validating_is_no_epoch():
    made = []

    def hard():
        made.append(1)
        return loaders(2)

    curriculum = Curriculum({"easy": loaders(1), "hard": hard}, 1.0, metric="level")
    learn = learner()
    learn.add_cb(curriculum)
    with learn.no_bar(), learn.no_logging():
        learn.validate()
        assert [m.stage for m in curriculum.marks] == ["easy"]
        assert not made
        learn.fit(1)
        learn.validate()
        learn.fit(1)
    assert [m.stage for m in curriculum.marks] == ["easy", "hard"]
    assert made == [1]
    assert curriculum.epochs == 2
    assert curriculum.steps == 6


def test_what_cannot_be_is_refused():
    with pytest.raises(DiagnoseError, match="at least one stage"):
        Curriculum({}, 1.0)
    with pytest.raises(DiagnoseError, match="2 thresholds for 2 stages"):
        Curriculum({"a": loaders(1), "b": loaders(2)}, [1.0, 2.0])
    with pytest.raises(DiagnoseError, match=r"no metric named accuracy.*known: train_loss, valid_loss, level"):
        fit(learner(), 1, Curriculum({"a": loaders(1), "b": loaders(2)}, 1.0))


def test_curves_show_where_stages_begin():
    curriculum = Curriculum({"easy": loaders(1), "hard": loaders(2)}, 1.0, metric="level")
    fit(learner(), 2, curriculum)
    axes = Figure().subplots()
    curriculum.draw(axes)
    assert [line.get_xdata()[0] for line in axes.lines] == [0, 3]
    assert [t.get_text().strip() for t in axes.texts] == ["easy", "hard"]


def test_patchwork_grows_from_two_images_to_all_under_one_network():
    task = Patchwork().under(n=2, room=8, size=32, bs=4, items=4, valid_items=4)
    stages = task.stages()
    assert list(stages) == ["n=2", "n=4", "n=8"]
    curriculum = Curriculum({n: t.loaders(0) for n, t in stages.items()}, 0.0)
    learn = task.learner(0)
    fit(learn, 3, curriculum)
    assert [m.stage for m in curriculum.marks] == ["n=2", "n=4", "n=8"]


def test_a_watch_hears_where_stages_begin_and_shows_it(tmp_path):
    watch = Watch(tmp_path / "run", first=100, alarms=False, tensorboard=True)
    curriculum = Curriculum({f"v={v}": loaders(v) for v in (1, 2, 3)}, [1.0, 9.0], metric="level")
    learn = learner()
    learn.add_cb(watch)
    fit(learn, 3, curriculum)
    watch.close()
    marks = watch.frame("marks")
    assert list(zip(marks.step, marks.name)) == [(0, "stage v=1"), (3, "stage v=2")]
    found = recorded(Store.read(tmp_path / "run"))
    assert found.marks == [(0, "stage v=1"), (3, "stage v=2")]
    assert [t.get_text() for t in figures.loss(found).axes[0].texts] == ["stage v=1", "stage v=2"]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    told = [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors("marks/text_summary")]
    assert told == [(0, "**stage v=1** begins with step 0"), (3, "**stage v=2** begins with step 3")]


def test_a_watch_that_comes_later_is_told_of_later_stages_only():
    curriculum = Curriculum({"easy": loaders(1), "hard": loaders(2)}, 1.0, metric="level")
    learn = learner()
    learn.add_cb(curriculum)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        watch = Watch(alarms=False)
        learn.fit(2, cbs=watch)
    assert watch.frame("marks").name.tolist() == ["stage hard"]
