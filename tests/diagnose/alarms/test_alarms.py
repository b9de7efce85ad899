"""What all alarms have in common: choosing them, stopping a fit, the store, and leaving the run alone."""

import pytest
import torch
import watched
from fastai.callback.core import Callback

from diagnose import registry
from diagnose.alarms import Alarm
from diagnose.errors import DiagnoseError
from diagnose.watch import Watch

ALARMS = {
    *("nonfinite-loss", "nonfinite-gradient", "nonfinite-weight", "outputs-collapsed", "layer-died", "update-ratio"),
    *("nothing-moves", "loss-at-best-constant", "representation-collapsed", "waiting-for-data"),
}
HEADINGS = (
    "What it watches",
    "Why it matters",
    "How it is judged",
    "What to do",
    "What it looks like but is not",
    "Source",
)


def test_every_alarm_says_what_it_does():
    found = registry.load_all("diagnose.alarms", Alarm)
    assert set(found) >= ALARMS
    for alarm in found.values():
        at = [alarm.doc.find(f"## {h}\n") for h in HEADINGS]
        assert -1 not in at, alarm.id
        assert at == sorted(at), alarm.id


class Ended(Callback):
    """Whether the fit was cancelled, and after how many batches."""

    def before_fit(self):
        self.cancelled, self.batches = False, 0

    def after_batch(self):
        self.batches += self.training

    def after_cancel_fit(self):
        self.cancelled = True


def moves_nothing():
    learn = watched.digits()
    learn.create_opt()
    learn.model = watched.mlp(64, 32, 10)
    return learn


def test_stop_on_ends_the_fit():
    learn, ended = moves_nothing(), Ended()
    watch = Watch(every=1, stop_on=["nothing-moves"])
    with learn.no_bar(), learn.no_logging():
        learn.fit(3, cbs=[watch, ended])
    assert (ended.cancelled, ended.batches) == (True, 24)  # 20 steps, and the end of a block of 8
    frame = watch.store.frame("alarms")
    assert frame[["step", "id", "where"]].to_numpy().tolist() == [[23, "nothing-moves", ""]]
    assert frame["message"].tolist() == [watch.raised[0].message]


def test_an_alarm_alone_does_not_end_the_fit():
    learn, ended = moves_nothing(), Ended()
    watch = Watch(every=1, stop_on=["nonfinite-loss"])
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, cbs=[watch, ended])
    assert (ended.cancelled, ended.batches) == (False, 2 * len(learn.dls.train))
    assert watched.ids(watch) == ["nothing-moves"]


def test_none_and_some():
    assert watched.fit(moves_nothing(), 24, alarms=False).raised == []
    assert watched.fit(moves_nothing(), 24, alarms=["nonfinite-loss", "layer-died"]).raised == []
    assert watched.ids(watched.fit(moves_nothing(), 24, alarms=["nothing-moves"])) == ["nothing-moves"]


@pytest.mark.parametrize("settings", [{"alarms": ["nothing-move"]}, {"stop_on": ["nothing-move"]}])
def test_an_unknown_alarm(settings):
    with pytest.raises(DiagnoseError, match="no alarm nothing-move; there are layer-died, loss-at-best-constant, "):
        Watch(**settings)


def test_all_alarms_without_most_gauges():
    gauges = list(Watch().recording.gauges)
    for gauge in gauges:
        watch = watched.fit(moves_nothing(), 24, without=[gauge])
        assert watched.ids(watch) == ([] if gauge == "updates" else ["nothing-moves"]), gauge
    assert watched.fit(moves_nothing(), 24, without=gauges).raised == []


def test_a_run_with_a_nonfinite_loss_is_the_same_with_and_without():
    def run(alarms):
        learn = watched.digits(0)

        def spoil(learn):
            learn.xb = (learn.xb[0] * torch.nan,)

        watch = watched.fit(learn, 12, watched.At("before_batch", spoil, [10]), alarms=alarms)
        return learn, watch, torch.rand(3)

    with_it, watch, random = run(True)
    without, _, other = run(False)
    assert watched.ids(watch)[0] == "nonfinite-loss"
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(with_it.model.parameters(), without.model.parameters())
    )
    assert torch.equal(random, other)
