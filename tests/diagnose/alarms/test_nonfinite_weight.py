"""Alarm nonfinite-weight."""

import learners
import torch
import watched


def spoil(name, value, at):
    def act(learn):
        with torch.no_grad():
            learn.model.get_parameter(name).view(-1)[at] = value

    return act


def test_names_the_parameter():
    learn = learners.unused_head(0)
    watch = watched.fit(learn, 16, watched.At("before_batch", spoil("extra.weight", torch.inf, 0), [9]))
    (alarm,) = watch.raised
    assert (alarm.id, alarm.step, alarm.where) == ("nonfinite-weight", 9, "extra.weight")
    assert alarm.message == "extra.weight is not finite in 0.111 of its elements that were read, where none may be"


def test_is_raised_once_and_names_the_first_of_many():
    watch = watched.fit(watched.digits(lr=float("nan")), 12, alarms=["nonfinite-weight"])
    (alarm,) = watch.raised
    assert (alarm.step, alarm.where) == (1, "1.weight")
    assert "and so is 1.bias, 3.weight, 3.bias" in alarm.message


def test_a_single_element_of_a_large_tensor_is_found_when_it_is_read_whole():
    learn = watched.digits(widths=(64, 600, 10))
    watch = watched.fit(
        learn, 42, watched.At("before_batch", spoil("1.weight", torch.nan, 7), [5]), alarms=["nonfinite-weight"]
    )
    assert len(watch.raised) == 1
    found = watched.fit(watched.digits(widths=(64, 600, 10)), 42, alarms=["nonfinite-weight"])
    assert found.raised == []


def test_each_fit_is_told_anew():
    learn = learners.unused_head(0)
    watch = watched.fit(learn, 8, watched.At("before_batch", spoil("extra.bias", torch.nan, 0), [0]))
    learn.add_cb(watch)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=watched.StopAfter(8))
    assert [(a.id, a.step) for a in watch.raised] == [("nonfinite-weight", 0), ("nonfinite-weight", 8)]
