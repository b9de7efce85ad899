"""`sslwang transfer`: what it prints and writes, what it passes on, and its refusals."""

import json
import re
from functools import partial

import pytest
from PIL import Image
from pretrained_runs import make_run

from sslwang.finetune import finetune

QUICK = ("--data=digits", "--fraction=0.1", "--size=16", "--epochs=1", "--seeds=0,1", "--device=cpu", "--no-gate")


@pytest.fixture
def call(monkeypatch, sslwang):
    monkeypatch.setenv("COLUMNS", "220")
    return partial(sslwang, "transfer")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "pretrained" / "unmix" / "one")


def test_it_prints_a_table_and_writes_a_page_and_a_record(call, run, tmp_path):
    code, out, err = call("--from=pretrained", *QUICK)
    assert code == 0, err
    for words in ("pretrained", "random weights, the same training", "random weights, trained whole"):
        assert re.search(rf"^ *16 +1 +2 +{words} ", out, re.MULTILINE), words
    assert "12 of 12 tensors of the encoder loaded; head left behind: 6." in out
    assert "…" not in out, "a word of the table is cut"
    assert "trained without asking the gate (--no-gate)" in out
    assert "6 trainings done, 0 found finished" in out
    folder = tmp_path / "transferred" / "unmix-one-digits"
    record = json.loads((folder / "result.json").read_text())
    assert record["command"] == "sslwang transfer --from=pretrained " + " ".join(QUICK)
    assert record["settings"]["fraction"] == 0.1
    assert record["settings"]["balanced"] is True
    assert {row["start"] for row in record["rows"]} == {"pretrained", "random", "scratch"}
    assert f"    {record['command']}\n" in (folder / "result.md").read_text()
    code, out, _ = call("--from=pretrained", *QUICK)
    assert code == 0
    assert "0 trainings done, 6 found finished" in out


def test_folders_are_named_as_they_are(call, run, tmp_path):
    """Brackets are no markup: a closing one would end the command, an opening one would swallow the name."""
    for part in ("train", "val"):
        for k, name in enumerate(("a", "b")):
            (tmp_path / "[bold]" / part / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (16, 16), (90 * k, 90, 40 * i)).save(tmp_path / "[bold]" / part / name / f"{i}.png")
    code, out, err = call("--from=pretrained", *QUICK, "--data=[bold]", "--seeds=0", "--fraction=1", "--out=[/red]")
    assert code == 0, err
    assert "unmix to [bold], percent" in out
    assert "wrote [/red]/unmix-one-" in out


def test_without_a_pass_it_ends_with_4_and_says_what_opens_the_gate(call, run, tmp_path):
    code, _, err = call("--from=pretrained", *(a for a in QUICK if a != "--no-gate"))
    assert code == 4
    assert "no fine-tuning without a pass: nothing was examined yet; add --examine" in err
    assert not (tmp_path / "transferred").exists()


def test_interrupted_it_keeps_what_is_finished_and_goes_on(call, run, monkeypatch):
    done = []

    def interrupted(*args, **kwargs):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(kwargs["seed"])
        return finetune(*args, **kwargs)

    monkeypatch.setattr("sslwang.transfer.finetune", interrupted)
    code, _, err = call("--from=pretrained", *QUICK)
    assert code == 130
    assert "finished trainings are kept, and the same command goes on" in err
    assert "Traceback" not in err
    monkeypatch.setattr("sslwang.transfer.finetune", finetune)
    assert "2 trainings done, 4 found finished" in call("--from=pretrained", *QUICK)[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--epochs=five",), "--epochs five: write whole numbers with commas between them"),
        (("--epochs=5,0",), "--epochs 5,0: 0 is below 1"),
        (("--seeds=-1",), "--seeds -1: -1 is below 0"),
        (("--size=8",), "--size 8: 8 is below 16"),
        (("--fraction=0",), "--fraction 0: it must be above 0 and at most 1"),
        (("--fraction=1.5",), "--fraction 1.5: it must be above 0"),
        (("--lr=0",), "--lr 0: it must be above 0"),
        (("--examine", "--no-gate"), "--examine and --no-gate exclude each other"),
        (("--from=nowhere",), "nowhere: no such run; `sslwang pretrain` makes one"),
        (("--data=no/such/folder",), "no/such/folder: no such folder"),
        (("--device=cuda:77",), "--device cuda:77: not available here"),
    ],
)
def test_bad_input_is_one_line(call, run, args, message):
    code, out, err = call("--from=pretrained", "--no-gate", *args)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not out


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of `sslwang.transfer.transfer`, which is not done."""
    found = {}

    class NotDone(Exception):
        pass

    def note(run, data, out, **kwargs):
        found.update(kwargs, run=run, data=data, out=out)
        raise NotDone

    def ask(call, *args):
        with pytest.raises(NotDone):
            call("--from=somewhere", *args)
        return found

    monkeypatch.setattr("sslwang.transfer.transfer", note)
    return ask


def test_a_protocol_gives_what_is_not_given_by_hand(call, asked):
    given = asked(call, "--data=imagewang", "--protocol=imagewang")
    assert (given["sizes"], given["epochs"], given["seeds"]) == ((128, 192, 256), (5, 20, 80, 200), None)
    given = asked(call, "--data=imagewang", "--protocol=imagewang", "--size=128", "--epochs=20,5", "--seeds=7")
    assert (given["sizes"], given["epochs"], given["seeds"]) == ((128,), (20, 5), (7,))
    given = asked(call, "--data=photos")
    assert (given["sizes"], given["epochs"], given["seeds"]) == ((), (5,), (0, 1, 2))


def test_every_option_reaches_the_training(call, asked):
    given = asked(
        call, "--which=best", "--fraction=0.25", "--unfreeze=none", "--as-is", "--bs=8", "--lr=0.1", "--examine"
    )
    settings = given["settings"]
    assert (settings.which, settings.fraction, settings.unfreeze) == ("best", 0.25, "none")
    assert (settings.balanced, settings.bs, settings.lr) == (False, 8, 0.1)
    assert given["gate"] == "examine"
    assert asked(call)["gate"] == "verify"
    assert asked(call, "--no-gate")["gate"] == "skip"
