"""Evaluations from runs to pages: what is computed, what is not computed again, and what is told."""

import dataclasses
import json
import re

import numpy as np
import pytest
from evaluations import made_run, small_data

from diagnose.errors import DiagnoseError
from sslwang import evaluate
from sslwang.circumstances import fingerprint
from sslwang.commands.study import made, study
from sslwang.data.labelled import stratified
from sslwang.evaluate import Plan, inputs_of, write_evaluation, write_study
from sslwang.evaluation import cells, pages, starts
from sslwang.evaluation.cells import Cell, Protocol, Tuning, run_unit
from sslwang.evaluation.comparison import sentences
from sslwang.evaluation.starts import Budget, random_start
from sslwang.runs import open_run
from sslwang.transfer import data_digest

PLAN = Plan(("knn", "probe", "finetune"), (0.25, 1.0), (0, 1, 2), tuning=Tuning(2))


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """Labelled images of 16 px in place of every source."""
    made = small_data()
    for module in (evaluate, cells):
        monkeypatch.setattr(module, "data_of", lambda source, size: made)
    return made


@pytest.fixture
def runs(tmp_path):
    """Runs of one task under three seeds."""
    return [open_run(made_run(tmp_path / "runs" / str(seed), seed=seed)) for seed in range(3)]


@pytest.fixture
def pretraining(monkeypatch):
    """Pretraining that writes runs without training them; (task, seed, steps, gate) of each."""
    calls = []

    def pretrain(task, out, *, steps, seed, gate, **options):
        calls.append((task.id, seed, steps, gate))
        return open_run(made_run(out / task.id / "now", task.id, seed, steps, size=task.settings.size))

    monkeypatch.setattr(starts, "pretrain", pretrain)
    return calls


@pytest.fixture
def counted(monkeypatch):
    """Names of the cells that are computed."""
    computed = []

    def unit(group, *args):
        computed.extend(f"{c.start.name} {c.method} {c.fraction:g} {c.seed}" for c in group)
        return run_unit(group, *args)

    monkeypatch.setattr(evaluate, "run_unit", unit)
    return computed


def budget():
    return Budget(5, {"size": 16, "encoder.arch": "small", "encoder.norm": "group"})


# ---- cells -----------------------------------------------------------------------------------------------------------


def test_a_unit_fills_its_cells_the_same_every_time(data, tmp_path):
    start = random_start(budget(), (0, 1))
    protocol = Protocol("small", data_digest(data), 16, "standardised", Tuning(3))
    group = [Cell(start, method, 0.5, 1) for method in ("knn", "probe", "finetune")]
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        run_unit(group, protocol, folder, shown=group[:1])
        found.append([json.loads(c.path(folder, protocol).read_text()) for c in group])
        assert len(list(folder.iterdir())) == 4
    for one, other in zip(*found):
        assert one.pop("seconds") > 0
        other.pop("seconds")
        assert one == other
        assert (one["labels"], one["pretraining_seed"]) == (18, 1)
        assert np.array(one["confusion"]).sum() == 24
    rows = json.loads(group[0].rows_path(tmp_path / "a", protocol).read_text())
    assert set(rows["kinds"]) == {"most wrong", "least wrong", "most sure", "least sure"}


def test_only_labelled_images_of_the_subset_are_learned_from(data, tmp_path, monkeypatch):
    start = random_start(budget(), (0,))
    seen = {}

    def nearest(train, labels, asked, classes):
        seen["labels"], seen["asked"] = labels, len(asked)
        return np.full((len(asked), classes), 1 / classes, dtype=np.float32)

    monkeypatch.setattr(cells, "nearest", nearest)
    protocol = Protocol("small", "x", 16, "standardised", Tuning())
    run_unit([Cell(start, "knn", f, 3) for f in (0.25, 0.5)], protocol, tmp_path)
    expected = data.train.labels[stratified(data.train.labels, 0.5, 3)]
    assert seen["labels"].tolist() == expected.tolist()
    assert seen["asked"] == len(data.valid)


def test_frozen_features_are_averaged_over_choices_of_the_labels(data, tmp_path):
    start, method = random_start(budget(), (0,)), "knn"
    found = {}
    for draws in (1, 3):
        protocol = Protocol("small", "x", 16, "standardised", Tuning(1), draws)
        group = [Cell(start, m, f, 1) for m, f in ((method, 0.25), (method, 1.0), ("finetune", 0.25))]
        run_unit(group, protocol, tmp_path)
        found[draws] = [json.loads(c.path(tmp_path, protocol).read_text()) for c in group]
    assert [np.array(c["confusion"]).sum() for c in found[3]] == [3 * 24, 24, 24]
    assert len(list(tmp_path.iterdir())) == 4  # all of the labels are one choice, and fine-tuning takes the first
    one, three = (np.array(found[draws][0]["confusion"]) for draws in (1, 3))
    assert (three >= one).all()  # the first choice is among them
    assert (three != 3 * one).any()
    cell = Cell(start, method, 0.25, 1)
    chosen = {tuple(cell.subset(data.train.labels, draw)) for draw in range(3)}
    assert len(chosen) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"data_key": "y"},
        {"size": 32},
        {"inputs": "normalised"},
        {"draws": 2},
        {"tuning": Tuning(9)},
        {"tuning": Tuning(balanced=True)},
    ],
)
def test_a_cell_of_another_protocol_is_another_file(tmp_path, other):
    start = random_start(budget(), (0,))
    protocol = {"data": "small", "data_key": "x", "size": 16, "inputs": "standardised", "tuning": Tuning()}
    for method in ("knn", "finetune"):
        paths = {Cell(start, method, 0.5, 0).path(tmp_path, Protocol(**p)) for p in (protocol, {**protocol, **other})}
        same = ("tuning" if method == "knn" else "draws") in other  # frozen features are not tuned
        assert len(paths) == (1 if same else 2)


# ---- evaluations -----------------------------------------------------------------------------------------------------


def test_runs_stand_beside_random_weights_and_both_baselines(runs, pretraining, tmp_path):
    seen = []
    found = evaluate.evaluate(runs, "small", tmp_path, PLAN, on_progress=lambda *x: seen.append(x))
    assert [s.name for s in found.starts] == ["random", "autoencode", "simclr", "unmix"]
    assert sorted(pretraining) == [(n, s, 100, "skip") for n in ("autoencode", "simclr") for s in range(3)]
    assert len(found.cells) == 4 * 3 * 2 * 3
    for start in found.starts:
        assert len(start.members) == 3
        for method in PLAN.methods:
            assert found.mean(start.name, method, 0.25).n == 3
    assert found.difference("unmix", "random", "probe", 1.0).n == 3
    assert found.baselines
    assert found.missing == ()
    assert seen[-1][1:] == (72, 72)
    assert found.labels(0.25) == 9


def test_a_second_call_computes_nothing_and_an_interrupted_one_the_rest(runs, pretraining, counted, tmp_path):
    plan = Plan(("knn", "finetune"), (0.25, 1.0), (0, 1, 2), tuning=Tuning(1))
    first = evaluate.evaluate(runs, "small", tmp_path, plan)
    assert len(counted) == 48
    assert evaluate.evaluate(runs, "small", tmp_path, plan).cells == first.cells
    assert len(counted) == 48
    assert len(pretraining) == 6
    folder = tmp_path / "small" / "cells"
    next(folder.glob("unmix-finetune-1-2-*.json")).unlink()
    next(p for p in folder.glob("random-knn-1-0-*.json") if "rows" not in p.name).write_text("{ half of a fi")
    next(folder.glob("simclr-knn-0.25-0-*.rows.json")).unlink()
    again = evaluate.evaluate(runs, "small", tmp_path, plan)
    assert sorted(counted[48:]) == ["random knn 1 0", "simclr knn 0.25 0", "unmix finetune 1 2"]
    for one, other in zip(first.cells, again.cells):
        assert one["scores"] == other["scores"]


def test_features_are_computed_once_for_an_encoder(runs, monkeypatch, tmp_path):
    asked = []
    real = cells.features
    monkeypatch.setattr(cells, "features", lambda *args, **kw: asked.append(1) or real(*args, **kw))
    evaluate.evaluate(runs, "small", tmp_path, Plan(("knn", "probe"), (0.25, 0.5, 1.0), (0, 1, 2)), baselines=False)
    assert len(asked) == 2 * 2 * 3  # two sides, two starts, three encoders each


def test_one_run_is_judged_under_every_seed_and_its_baselines_once(runs, pretraining, tmp_path):
    found = evaluate.evaluate(runs[:1], "small", tmp_path, Plan(("knn",), (0.25,), (0, 1, 2)))
    assert len(pretraining) == 2
    assert {s.name: len(s.members) for s in found.starts} == {"random": 3, "autoencode": 1, "simclr": 1, "unmix": 1}
    assert len(found.values("unmix", "knn", 0.25)) == 3


def test_a_baseline_that_is_given_is_not_trained_again(pretraining, tmp_path):
    given = [open_run(made_run(tmp_path / "s" / str(k), "simclr", k)) for k in range(3)]
    found = evaluate.evaluate(given, "small", tmp_path, Plan(("knn",), (0.25,), (0, 1, 2)))
    assert {name for name, *_ in pretraining} == {"autoencode"}
    assert [s.name for s in found.starts] == ["random", "autoencode", "simclr"]


def test_without_baselines_random_weights_stay_and_the_result_says_so(runs, pretraining, tmp_path):
    found = evaluate.evaluate(runs, "small", tmp_path, Plan(("knn",), (0.25,), (0, 1, 2)), baselines=False)
    assert [s.name for s in found.starts] == ["random", "unmix"]
    assert pretraining == []
    folder = write_evaluation(found, tmp_path, ["sslwang x"], {})
    assert "A quick look" in (folder / "transfer.md").read_text()
    assert json.loads((folder / "result.json").read_text())["baselines"] is False


def test_what_other_code_has_computed_is_computed_anew_unless_it_is_wanted(runs, counted, tmp_path):
    plan = Plan(("knn",), (0.25,), (0, 1, 2))

    def evaluated(**changes):
        return evaluate.evaluate(runs, "small", tmp_path, dataclasses.replace(plan, **changes), baselines=False)

    found = evaluated()
    assert len(counted) == 6
    path = next((tmp_path / "small" / "cells").glob("unmix-knn-0.25-1-*.json"))
    own = json.loads(path.read_text())
    assert own["code"] == fingerprint()
    path.write_text(json.dumps({**own, "code": "0.1.0 of yesterday"}))
    kept = evaluated(changed_code=True)
    assert len(counted) == 6
    assert any("Of 6 cells, 1 computed by other code than this." in s for s in sentences(kept))
    again = evaluated()
    assert counted[6:] == ["unmix knn 0.25 1"]
    assert [c["scores"] for c in again.cells] == [c["scores"] for c in found.cells]
    assert not any("other code" in s for s in sentences(again))


def test_a_study_says_what_other_code_has_pretrained(pretraining, tmp_path):
    tasks = [starts.task_of("scale", {"size": 16, "bs": 4})]
    plan = Plan(("knn",), (0.25,), (0, 1, 2), changed_code=True)
    evaluate.study("photos", tasks, 7, tmp_path, plan, ("small",))
    assert len(pretraining) == 9
    record = next(p for p in tmp_path.rglob("run.json") if json.loads(p.read_text())["task"] == "scale")
    told = json.loads(record.read_text())
    told["identity"]["code sslwang/losses.py"] = "of yesterday"
    record.write_text(json.dumps(told))
    (found,) = evaluate.study("photos", tasks, 7, tmp_path, plan, ("small",))
    assert len(pretraining) == 9
    said = f"Pretrained by other code than this: scale, seed {told['seed']} (sslwang/losses.py changed)."
    assert said in sentences(found)
    assert pages.result(found, [], {})["other_code"] == [f"scale, seed {told['seed']} (sslwang/losses.py changed)"]


def test_what_cannot_be_computed_is_told_and_the_rest_is_there(runs, tmp_path):
    found = evaluate.evaluate(runs, "small", tmp_path / "a", Plan(("knn",), (0.25,), (0, 1, 2)), baselines=False)
    path = runs[1].path / "encoder.safetensors"
    good = starts.starts_of(runs)
    path.unlink()
    made = [random_start(found.starts[0].budget, (0, 1, 2)), *good]
    again = evaluate.evaluate_starts(made, "small", tmp_path / "b", Plan(("knn",), (0.25,), (0, 1, 2)))
    assert len(again.missing) == 1
    assert "unmix: frozen features of seed 1" in again.missing[0]
    assert sorted(again.values("unmix", "knn", 0.25)) == [0, 2]
    assert len(again.values("random", "knn", 0.25)) == 3


def test_images_are_brought_to_the_encoder_as_the_pretext_task_did(tmp_path):
    hardened = starts.starts_of([open_run(made_run(tmp_path / "a"))])
    raw = starts.starts_of([open_run(made_run(tmp_path / "b", hardened=False))])
    assert inputs_of([random_start(budget(), (0,)), *hardened]) == "standardised"
    assert inputs_of([random_start(budget(), (0,)), *raw]) == "normalised"
    with pytest.raises(DiagnoseError, match="--inputs standardised"):
        inputs_of([*hardened, *raw])


@pytest.mark.parametrize(
    "wrong", [{"fractions": (0.0,)}, {"fractions": (1.5,)}, {"seeds": ()}, {"seeds": (0, -1)}, {"methods": ()}]
)
def test_a_plan_of_nothing_or_of_what_cannot_be_is_refused(wrong):
    with pytest.raises(DiagnoseError):
        Plan(**wrong)


def test_what_is_asked_for_twice_is_planned_once():
    plan = Plan(("finetune", "knn", "knn"), (1.0, 0.1, 1.0), (2, 0, 2))
    assert (plan.methods, plan.fractions, plan.seeds) == (("knn", "finetune"), (0.1, 1.0), (0, 2))


def test_everything_is_written_and_links_hold(runs, pretraining, tmp_path):
    found = evaluate.evaluate(runs, "small", tmp_path, Plan(fractions=(0.25,), tuning=Tuning(1)))
    folder = write_evaluation(found, tmp_path, ["sslwang evaluate"], {"commit": "abc", "versions": {"torch": "2"}})
    page = (folder / "transfer.md").read_text()
    assert "commit abc, torch 2." in page
    linked = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert len(linked) == 3
    for address in linked:
        assert (folder / address).read_bytes().startswith(b"\x89PNG")
    index = (folder / "predictions" / "index.html").read_text()
    for href in re.findall(r'href="([^"]+)"', index):
        text = (folder / "predictions" / href).read_text()
        assert "&lt;b&gt;red" in text
        assert text.count("<img ") == 3 * 4 * 12
    assert index.count("<a ") == 4
    result = json.loads((folder / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(result["cells"]) == 36


def test_a_folder_that_cannot_be_written_is_one_clear_error(runs, pretraining, tmp_path):
    found = evaluate.evaluate(runs, "small", tmp_path / "a", Plan(("knn",), (0.25,), (0, 1, 2)))
    (tmp_path / "file").write_text("")
    with pytest.raises(DiagnoseError, match="cannot be written"):
        write_evaluation(found, tmp_path / "file", [], {})


# ---- studies ---------------------------------------------------------------------------------------------------------


def test_a_study_pretrains_every_task_under_every_seed_beside_the_baselines(pretraining, tmp_path):
    tasks = [starts.task_of("scale", {"size": 16, "bs": 4}), starts.task_of("unmix", {"size": 16, "bs": 4})]
    found = evaluate.study("photos", tasks, 7, tmp_path, Plan(("knn",), (0.25,), (0, 1, 2)), ("small", "other"))
    assert sorted(pretraining) == sorted(
        (name, seed, 7, "skip") for name in ("autoencode", "simclr", "scale", "unmix") for seed in range(3)
    )
    assert [len(one.cells) for one in found] == [15, 15]
    page = write_study(found, "photos", tmp_path / "reports" / "transfer-photos.md", ["sslwang study"], {})
    text = page.read_text()
    assert text.count("## small, with few labels") == 2  # both sources are the same images here
    for address in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (page.parent / address).is_file()
    assert "Of 2 pretext tasks" in text


def test_a_task_that_cannot_be_trained_is_told_and_the_others_are_judged(pretraining, monkeypatch, tmp_path):
    fake = starts.pretrain

    def pretrain(task, out, **options):
        if task.id == "unmix":
            raise DiagnoseError("no images")
        return fake(task, out, **options)

    monkeypatch.setattr(starts, "pretrain", pretrain)
    tasks = [starts.task_of(name, {"size": 16, "bs": 4}) for name in ("scale", "unmix")]
    (found,) = evaluate.study("photos", tasks, 7, tmp_path, Plan(("knn",), (0.25,), (0, 1, 2)), ("small",))
    assert [s.name for s in found.starts] == ["random", "autoencode", "simclr", "scale"]
    assert found.missing == tuple(f"unmix, seed {seed}: no images" for seed in range(3))


# ---- commands --------------------------------------------------------------------------------------------------------


def test_the_command_evaluates_and_says_what_it_wrote(runs, pretraining, sslwang):
    args = ["evaluate", *(a for r in runs for a in ("--from", str(r.path)))]
    code, out, err = sslwang(
        *args, "--methods", "knn,probe", "--fractions", "0.25", "--data", "digits", "--device", "cpu"
    )
    assert code == 0, err
    assert "accuracy in %" in out
    assert "Of 1 pretext task, " in out
    assert "wrote evaluated/small/transfer.md" in out
    assert re.search(r"\[ +\d+ s\] 24 of 24", err)


def test_the_command_studies_tasks_with_settings_of_their_own(pretraining, sslwang, tmp_path):
    code, out, err = sslwang(
        "study", "--tasks", "scale,unmix:n=4:lr=0.01", "--steps", "3", "--set", "size=16", "--set", "bs=4",
        "--methods", "knn", "--fractions", "0.25", "--seeds", "0,1,2", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "wrote reports/transfer-photos.md" in out
    page = (tmp_path / "reports" / "transfer-photos.md").read_text()
    assert "sslwang study --tasks" in page


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["study", "--tasks", "nothing"], "no such task"),
        (["study", "--tasks", "unmix:x=1"], "no such setting"),
        (["study", "--tasks", "unmix,unmix"], "given twice"),
        (["study", "--tasks", "unmix:bs=4,scale"], "its bs differs"),
        (["study", "--tasks", "unmix", "--set", "bs"], "NAME=VALUE"),
        (["study", "--tasks", "unmix", "--seeds", "a"], "whole numbers"),
        (["study", "--tasks", "unmix", "--seeds=0,-1,2"], "seed -1: seeds are 0 or above"),
        (["study", "--tasks", "unmix", "--methods", "svm"], "one of knn, probe, finetune"),
        (["study", "--tasks", "unmix", "--fractions", "2"], "at most 1"),
        (["study", "--tasks", "unmix", "--gate", "open"], "one of skip, verify, examine"),
        (["study", "--tasks", "unmix", "--unfreeze", "some"], "one of all, gradual, none"),
        (["evaluate", "--from", "nowhere"], "no such run"),
        (["evaluate", "--from", "nowhere", "--which", "first"], "one of last, best"),
        (["evaluate", "--from", "nowhere", "--inputs", "raw"], "one of standardised, normalised"),
    ],
)
def test_wrong_options_are_one_clear_line(sslwang, args, said):
    code, _, err = sslwang(*args)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_an_interrupted_command_says_that_it_goes_on(runs, sslwang, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate", stopped)
    code, _, err = sslwang("evaluate", "--from", str(runs[0].path))
    assert code == 130
    assert "the same command goes on" in err


def test_the_examples_of_study_are_tasks_that_there_are():
    examples = re.findall(r"--tasks (\S+)", study.__doc__)
    assert len(examples) == 3
    for text in examples:
        assert len(made(tuple(text.split(",")), "photos", [])) == len(text.split(","))
