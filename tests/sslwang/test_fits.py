"""The tables of heads and losses: they say what the tasks accept, and everything in them has words."""

import sys

import pytest

from diagnose.errors import DiagnoseError
from sslwang import cli
from sslwang.fits import KINDS, fit_rows, fitting, kind_rows
from sslwang.losses import LOSSES
from sslwang.models.pairs import HEADS, METRIC_HEADS
from sslwang.models.single import SINGLE_HEADS
from sslwang.models.views import VIEW_HEADS
from sslwang.tasks.unmix import Unmix


def test_what_fits_depends_on_the_settings_and_its_own_comes_first():
    assert fitting(Unmix(), "losses") == {"": ("bce",), "target=regression": ("soft-ce", "mse")}
    assert fitting(Unmix(), "heads")[""][0] == "spatial"


@pytest.mark.parametrize("kind", ["heads", "losses"])
def test_every_task_accepts_what_the_table_says_and_nothing_else(kind):
    rows = fit_rows(cli.CATALOGUE, kind)
    assert {r[0] for r in rows} == {e.id for e in cli.entries(cli.CATALOGUE)}
    everything = {name for kinds in KINDS[kind].values() for name in kinds}
    setting = "head.kind" if kind == "heads" else "loss.kind"
    for task, under, own, others in rows:
        fits = {own, *filter(None, others.split(", "))}
        under = [under] if under else []
        for name in fits:
            cli.make_task(task, [*under, f"{setting}={name}"])
        for name in everything - fits:
            with pytest.raises(DiagnoseError, match=f"{setting}={name}: does not fit {task}; what fits: {own}"):
                cli.make_task(task, [*under, f"{setting}={name}"])


def test_every_head_and_loss_is_explained():
    heads, losses = kind_rows("heads"), kind_rows("losses")
    assert [r[0] for r in heads] == [*SINGLE_HEADS, *HEADS, *METRIC_HEADS, *VIEW_HEADS]
    assert sorted(r[0] for r in losses) == sorted(LOSSES)
    for name, group, words in (*heads, *losses):
        assert group, name
        assert words.endswith("."), name
        assert len(words) > 20, name


def test_the_command_prints_both(monkeypatch, capsys):
    monkeypatch.setattr(cli, "console", cli.Console(width=220))
    monkeypatch.setattr(sys, "argv", ["sslwang", "tasks", "--heads", "--losses"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    out = capsys.readouterr().out
    for words in (
        "heads by task",
        "losses by task",
        "target=regression",
        "softmax(logits)[y]",
        "embed-cosine",
        "n-pair",
    ):
        assert words in out
