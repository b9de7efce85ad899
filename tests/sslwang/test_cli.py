"""The command `sslwang`."""

import subprocess
import sys

import pytest
from PIL import Image

from sslwang import cli

SMALL = [f"--set={s}" for s in ("bs=4", "valid_items=8", "size=16", "data.shift=2")]


@pytest.fixture
def run(monkeypatch, sslwang):
    monkeypatch.setattr(cli, "console", cli.Console(width=200))
    return sslwang


def test_the_command_starts_without_torch():
    code = "import sys, sslwang.cli; sys.exit('torch' in sys.modules or 'fastai' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tasks_lists_one_a_line(run):
    code, out, _ = run("tasks")
    assert code == 0
    known = cli.entries(cli.CATALOGUE)
    assert len(out.splitlines()) == len(known)
    assert len({line.index(e.title) for line, e in zip(out.splitlines(), known)}) == 1


@pytest.mark.parametrize("seen", [True, False])
def test_in_a_narrow_console_tasks_are_a_line_each_and_whole_where_they_are_piped(run, monkeypatch, seen):
    monkeypatch.setattr(cli, "console", cli.Console(width=60, force_terminal=seen, color_system=None))
    _, out, _ = run("tasks")
    known = cli.entries(cli.CATALOGUE)
    assert len(out.splitlines()) == len(known)
    assert all(line.startswith(e.id) for line, e in zip(out.splitlines(), known))
    if seen:
        assert max(map(len, out.splitlines())) <= 60
    else:
        assert all(line.endswith(e.title) for line, e in zip(out.splitlines(), known))


@pytest.mark.parametrize("target", ["classification", "regression"])
def test_show_draws_a_batch(run, tmp_path, target):
    code, out, _ = run("show", "unmix", *SMALL, f"--set=target={target}", "--rows=2", "--out=pictures/batch.png")
    assert code == 0
    assert "wrote pictures/batch.png" in out
    with Image.open(tmp_path / "pictures" / "batch.png") as picture:
        assert picture.width > picture.height > 100


def test_details_say_all_that_is_known_of_a_task(run):
    code, out, _ = run("tasks", "--details=unmix", *SMALL, "--set=items=8")
    assert code == 0
    assert "What it is: a row is one mixture" in out
    cells, last = {}, ""
    for line in out.splitlines():
        if line.startswith("│"):
            name, text = (c.strip() for c in line.strip("│").split("│"))
            last = name or last  # a line without a name goes on with the one above
            cells[last] = f"{cells.get(last, '')} {text}".strip()
    assert cells["mixture"] == "4 x 3 x 16 x 16 float32"
    assert cells["target"] == cells["output"] == "4 x 3 float32"
    assert cells["loss"].startswith("bce")
    assert "0.3333" in cells["metric"]
    assert "0.6365" in cells["best constant"]
    assert cells["oracle"] == "exact pair 1.0000 without training, on the raw task"
    assert cells["easier versions"] == "dup_src, dup_mix, scale"
    hardened, raw = (float(part.split()[0]) for part in cells["solver: mean colour"].split(", "))
    assert raw > 0.95 > 0.5 > hardened


def test_show_all_draws_a_small_picture_of_every_task_and_a_page(run, tmp_path, monkeypatch):
    known = [e for e in cli.entries(cli.CATALOGUE) if e.id in ("quadrant", "unmix")]
    monkeypatch.setattr(cli, "entries", lambda catalogue: known)
    code, out, _ = run("show", "--all", "--out=pictures", "--set=bs=4", "--set=valid_items=4", "--rows=2")
    assert code == 0
    assert "wrote 2 pictures and pictures/README.md" in out
    page = (tmp_path / "pictures" / "README.md").read_text()
    for entry in known:
        assert f"## {entry.id}\n\n{entry.title}\n" in page
        assert f"![{entry.id}]({entry.id}.png)" in page
        file = tmp_path / "pictures" / f"{entry.id}.png"
        assert file.stat().st_size < 60_000
        with Image.open(file) as picture:
            assert picture.height > 100
            assert len(picture.convert("RGB").getcolors(10_000)) > 10
    assert "exact pair: chance 0.333, loss of the best constant 0.6365." in page


def test_learn_trains_every_seed_and_judges_every_split(run, tmp_path):
    code, out, _ = run("learn", "--task=unmix", *SMALL, "--steps=3", "--seeds=0,1", "--out=results/unmix.md")
    assert code == 0
    assert "best constant: loss 0.6365, exact pair 0.3333" in out
    page = (tmp_path / "results" / "unmix.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
    assert [c.strip() for c in rows[0]] == ["seed", "held out", "loss", "exact pair", "per label", "seconds"]
    assert [(r[0].strip(), r[1].strip()) for r in rows[2:]] == [
        ("0", "region"),
        ("0", "photo"),
        ("1", "region"),
        ("1", "photo"),
    ]
    assert "    sslwang learn --task=unmix" in page
    assert "cores" in page


def test_learn_from_a_folder_judges_by_file(run, tmp_path):
    for i in range(6):
        Image.effect_noise((70, 80), 90).save(tmp_path / f"{i}.png")
    code, out, _ = run("learn", "--task=unmix", *SMALL, "--steps=2", f"--set=data.source={tmp_path}")
    assert code == 0
    assert "file" in out
    assert "region" not in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show"], "name one task, or --all without one"),
        (["show", "unmix", "--all"], "name one task, or --all without one"),
        (["show", "--all", "--out", "/dev/null/x", "--set", "bs=4"], "cannot be written"),
        (["tasks", "--details", "unmx"], "no task named unmx; known: "),
        (["show", "unmx"], "no task named unmx; known: "),
        (["show", "unmix", "--set", "n"], "--set n: write NAME=VALUE"),
        (["show", "unmix", "--set", "m=3"], "--set m=3: no such setting"),
        (["show", "unmix", "--set", "n=2"], "n=2 classification is degenerate"),
        (["show", "unmix", "--set", "data.source=/no/such/folder"], "/no/such/folder: no such folder"),
        (["show", "unmix", "--set", "items=3"], "3 training items are fewer than one batch of 48"),
        (["show", "unmix", "--set", "bs=2", "--out", "x.nonsense"], "x.nonsense: cannot be written"),
        (["learn", "--task", "unmix", "--seeds", "one"], "--seeds one: write whole numbers"),
    ],
)
def test_a_wrong_request_is_one_clear_line_and_exit_code_2(run, args, message):
    code, _, err = run(*args)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
