"""Figures: what they show of a diagnosis and of a record, and that no name, number or emptiness breaks them."""

from __future__ import annotations

import math
import random
import warnings

import learners
import numpy as np
import pytest
import torch
import watched
from matplotlib import pyplot
from torch import nn

from diagnose.report import curves, figures
from diagnose.report.recorded import recorded
from diagnose.store import Store


def titles(figure) -> str:
    parts = [figure, *figure.subfigs]
    said = [p.get_suptitle() for p in parts] + [a.get_title(loc="left") for a in figure.axes]
    return " ".join(" ".join(said).split())


def colours(figure) -> int:
    """Distinct colours of the drawn figure; drawing it must not warn, as about a glyph that the font lacks."""
    import io

    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.open(io.BytesIO(figures.png(figure, dpi=50))).convert("RGB")
    return len(image.getcolors(image.width * image.height))


@pytest.fixture(scope="module")
def found():
    return recorded(watched.fit(learners.digits(), 30).store)


def test_a_proof_shows_both_curves_on_one_axis(samples):
    cause = samples.lr_too_high()
    figure = figures.proof(cause)
    before, after = figure.axes
    assert before.get_ylim() == after.get_ylim()
    assert "lr = 0.003 instead of 30" in titles(figure)
    assert cause.proof.after.summary in titles(figure)
    drawn = after.lines[0].get_ydata()
    assert list(drawn) == pytest.approx(cause.proof.after.loss)
    lost = before.lines[0].get_ydata()
    assert np.isnan(lost[9:]).all()
    assert not np.isnan(lost[:9]).any()
    assert "not finite from step 9" in [t.get_text() for t in before.get_legend().get_texts()]
    assert colours(figure) > 20


def test_a_proof_by_inspection_has_no_curves_to_draw(samples):
    by_inspection = [c for f in samples.ALL.values() for c in f().causes if c.proof and c.proof.kind == "inspection"]
    assert by_inspection
    assert all(figures.proof(c) is None for c in by_inspection if not (c.proof.before.loss or c.proof.after.loss))


def test_the_ladder_shows_every_rung_and_the_configured_rate(samples):
    figure = figures.ladder(samples.ladder_check(configured=30.0))
    (ax,) = figure.axes
    rates, learned = ax.lines[0].get_data()
    assert list(rates) == [3e-5, 3e-4, 3e-3, 3e-2, 3e-1, 3.0]
    assert list(learned[:5]) == [0.04, 0.51, 0.97, 0.62, 0.02]
    assert math.isnan(learned[5])
    assert list(ax.lines[1].get_xdata()) == [3.0]
    assert list(ax.lines[2].get_xdata()) == [30.0, 30.0]
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize(("text", "rate"), [("3e-03", 3e-3), ("slice(1e-05, 1e-03)", 1e-3), ("none", None), (-1, None)])
def test_a_configured_rate_is_read_from_text(samples, text, rate):
    check = samples.ladder_check()
    evidence = [e.model_copy(update={"value": text}) if e.name == "configured rate" else e for e in check.evidence]
    assert curves.rungs(check.model_copy(update={"evidence": evidence}))[1] == rate


def test_a_check_without_rungs_has_no_ladder(samples):
    assert [c.id for c in samples.checks() if figures.ladder(c) is not None] == ["learning-rate-ladder"]


def test_the_loss_is_that_of_the_run_and_the_rate_stands_below(found):
    top, bottom = figures.loss(found).axes
    assert np.array_equal(top.lines[0].get_ydata(), found.curves["loss"].values)
    assert np.array_equal(bottom.lines[0].get_ydata(), found.curves["lr_0"].values)


def test_broken_losses_and_gradients_are_marked_where_they_are():
    learn = learners.digits()
    poison = watched.At("before_batch", lambda learn: learn.xb[0].fill_(math.nan), steps=[3])
    found = recorded(watched.fit(learn, 6, poison, alarms=False).store)
    mark = next(line for line in figures.loss(found).axes[0].lines if "not finite" in line.get_label())
    assert list(mark.get_xdata()) == [3, 4, 5]
    assert any("not finite" in line.get_label() for line in figures.gradient_norm(found).axes[0].lines)


def test_parameters_stand_in_the_order_of_the_model_and_have_their_own_colour():
    learn = learners.digits()
    found = recorded(watched.fit(learn, 4).store)
    figure = figures.update_ratios(found)
    ax = figure.axes[0]
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == [n for n, _ in learn.model.named_parameters()]
    shown = ax.collections[0].get_array().reshape(len(names), -1)
    grid = found.grids["updates"]
    for row, name in zip(shown, names):
        ratio = grid.values["ratio"][grid.places.index(name)]
        assert row.tolist() == pytest.approx(np.clip(np.log10(ratio), -7, 1).tolist(), abs=1e-5)
    assert figure.axes[1].get_ylabel() == "log10 ‖Δw‖ / ‖w‖ of one step"


def test_layers_show_the_first_and_the_last_step(found):
    figure = figures.layers(found)
    panel = next(a for a in figure.axes if a.get_xlabel() == "gradient norm (loss / weight)")
    grid = found.grids["gradients"]
    first, last = (line.get_xdata() for line in panel.lines)
    assert list(first) == pytest.approx(grid.values["l2"][:, 0].tolist())
    assert list(last) == pytest.approx(grid.values["l2"][:, -1].tolist())
    assert {a.get_xlabel() for a in figure.axes} >= {"spread", "zeros (share)", "moved", "update / weight"}


def test_a_histogram_figure_has_a_heat_map_a_layer(found):
    figure = figures.histograms(found, "weights")
    named = [a.get_title(loc="left") for a in figure.axes if a.get_title(loc="left")]
    assert named == [figures.label(p) for p in found.histograms["weights"].places]
    (only, bar) = figures.histograms(found, "activations", ["0.2 (ReLU)"]).axes
    heat = found.histograms["activations"].heat(found.histograms["activations"].places.index("0.2 (ReLU)"))
    assert np.asarray(only.collections[0].get_array()).reshape(heat.shares.shape) == pytest.approx(heat.shares)
    assert bar.get_ylabel() == "share of the elements"
    assert "0" in [t.get_text() for t in only.get_yticklabels()]
    with pytest.raises(KeyError):
        figures.histograms(found, "activations", ["no such layer"])


def test_many_layers_are_thinned_and_it_is_said():
    model = nn.Sequential(nn.Flatten(), *[nn.Linear(64, 64) for _ in range(60)], nn.Linear(64, 10))
    found = recorded(watched.fit(learners.digits(model=model), 2).store)
    figure = figures.update_ratios(found)
    assert f"({figures.PLACES} of 122, evenly chosen)" in titles(figure)
    assert len(figure.axes[0].get_yticks()) == figures.PLACES
    assert f"({figures.PANELS} of 62, evenly chosen)" in titles(figures.histograms(found))


def test_hostile_names_are_drawn_as_they_are(samples):
    class Odd(nn.Sequential):
        pass

    names = [n.replace(".", "_") for n in samples.HOSTILE] + ["$\\frac{", "100$", "a\nb", "漢字"]
    model = Odd()
    model.add_module("flat", nn.Flatten())
    for name in dict.fromkeys(names):
        model.add_module(name, nn.Linear(64, 64))
    model.add_module("last", nn.Linear(64, 10))
    found = recorded(watched.fit(learners.digits(model=model), 2).store)
    for name, figure in figures.everything(samples.ALL["hostile"](), found).items():
        assert colours(figure) > 10, name


def test_every_sample_diagnosis_is_drawn(made):
    for name, figure in figures.everything(made, None).items():
        assert colours(figure) > 10, name


def test_an_empty_record_has_nothing_to_draw():
    store = Store()
    assert recorded(store) is None
    store.append("steps", {"step": [0, 1], "loss": [math.nan, math.nan]})
    assert figures.everything(None, recorded(store)) == {}


def test_nothing_is_left_behind(found):
    before = dict(pyplot.rcParams)
    streams = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    for figure in figures.everything(None, found).values():
        figures.png(figure, dpi=30)
    assert pyplot.get_fignums() == []
    assert dict(pyplot.rcParams) == before
    assert random.getstate() == streams[0]
    assert torch.equal(torch.get_rng_state(), streams[1])
    assert np.random.get_state()[1].tobytes() == streams[2]  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a" * 100, "a" * 22 + "…" + "a" * 21), ("$x$", r"\$x\$"), ("a\n b", "a b"), ("\u202eabc", "abc"), ("漢", "▯")],
)
def test_labels_are_short_and_plain(name, shown):
    assert figures.label(name) == shown
