"""Alarm waiting-for-data."""

import watched


class Slow:
    """A loader that takes so many seconds a batch."""

    def __init__(self, loader, clock, seconds):
        self.loader, self.clock, self.seconds = loader, clock, seconds

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for number, batch in enumerate(self.loader):
            self.clock.wait(self.seconds(number))
            yield batch


def fit(clock, seconds, steps=70, **settings):
    learn = watched.digits(bs=16, **settings)
    learn.dls.loaders[0] = Slow(learn.dls.loaders[0], clock, seconds)
    return watched.fit(learn, steps, alarms=["waiting-for-data"])


def test_a_slow_loader(clock):
    (alarm,) = fit(clock, lambda _: 0.1).raised
    assert (alarm.id, alarm.step) == ("waiting-for-data", 55)  # the first step does not count
    assert "of the time of the last 50 recorded steps was spent waiting for data, 10" in alarm.message


def test_a_fast_loader(clock):
    assert fit(clock, lambda _: 0.001).raised == []


def test_milliseconds_are_the_loops_own(clock, monkeypatch):
    quick = watched.clock(1e-5)
    monkeypatch.setattr("diagnose.watch.time", quick)
    assert fit(quick, lambda _: 0.004).raised == []  # over 95 % of the time
    assert len(fit(quick, lambda _: 0.01).raised) == 1


def test_one_batch_that_took_long(clock):
    assert fit(clock, lambda number: 30.0 if number == 20 else 0.001).raised == []


def test_the_first_batch_of_an_epoch_waits_for_workers_and_validation(clock):
    watch = fit(clock, lambda number: 30.0 if number == 0 else 0.001, steps=400)
    assert watch.raised == []
    assert watch.frame("steps")["seconds_waiting"].max() > 30
