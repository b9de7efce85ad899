"""Where the encoders of an evaluation come from, and that they are comparable."""

import json

import pytest
import torch
from evaluations import made_run

from diagnose.errors import DiagnoseError
from sslwang.evaluation import starts
from sslwang.evaluation.starts import (
    Budget,
    baseline_tasks,
    named,
    pretrained,
    random_encoder,
    random_start,
    start_of,
    starts_of,
)
from sslwang.pretrain import Interrupted, code_since, task_of
from sslwang.runs import open_run


@pytest.mark.parametrize("name", ["unmix", "scale", "simclr", "autoencode", "patchwork"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_task_starts_from_the_random_encoder_of_its_seed(name, seed):
    task = task_of(name, {"size": 32, "bs": 4, "items": 8, "valid_items": 4})
    trained = task.learner(seed).model.encoder.state_dict()
    for key, tensor in random_encoder("small", "group", seed).state_dict().items():
        assert torch.equal(tensor, trained[key]), key


def test_random_encoders_leave_the_stream_and_differ_by_seed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    found = random_start(Budget(1, {"encoder.arch": "small", "encoder.norm": "group"}), (0, 1, 1))
    assert torch.equal(torch.rand(3), expected)
    assert [m.seed for m in found.members] == [0, 1]
    assert found.members[0].key != found.members[1].key


def test_runs_of_one_task_are_one_start_in_the_order_of_their_seeds(tmp_path):
    runs = [open_run(made_run(tmp_path / str(seed), seed=seed)) for seed in (2, 0, 1)]
    (start,) = starts_of(runs)
    assert (start.name, start.kind, start.metric) == ("unmix", "pretext", "exact pair")
    assert [m.seed for m in start.members] == [0, 1, 2]
    assert {m.score for m in start.members} == {0.7}
    assert start.members[0].gate == "no gate (by hand)"
    assert start.member(2).seed == 2
    assert start.member(7).seed == 1  # none of this seed: they take turns


def test_the_best_weights_go_with_the_best_score(tmp_path):
    run = open_run(made_run(tmp_path / "a"))
    last, best = start_of([run], "last"), start_of([run], "best")
    assert (last.members[0].score, best.members[0].score) == (0.7, 0.5)
    assert last.members[0].key != best.members[0].key
    assert torch.equal(best.encoder(best.members[0])[0][0].weight, random_encoder("small", "group", 200)[0][0].weight)


def test_settings_that_differ_make_other_starts_with_names_that_say_so(tmp_path):
    runs = [
        open_run(made_run(tmp_path / "a")),
        open_run(made_run(tmp_path / "b", lr=1e-3)),
        open_run(made_run(tmp_path / "c", "simclr")),
    ]
    found = starts_of(runs)
    assert [s.name for s in found] == ["unmix", "unmix lr=0.001", "simclr"]
    assert found[2].kind == "baseline"


@pytest.mark.parametrize("changed", [{"items": 44}, {"data.workers": 2}, {"data.pin": True}])
def test_items_an_epoch_and_how_they_are_loaded_do_not_make_another_start(tmp_path, changed):
    runs = [open_run(made_run(tmp_path / str(k), seed=k, **(changed if k else {}))) for k in range(2)]
    assert [s.name for s in starts_of(runs)] == ["unmix"]


@pytest.mark.parametrize(
    ("changed", "word"), [({"bs": 8}, "bs"), ({"steps": 50}, "steps"), ({"encoder.norm": "batch"}, "encoder.norm")]
)
def test_other_budgets_are_refused_by_name(tmp_path, changed, word):
    if "encoder.norm" in changed:
        second = made_run(tmp_path / "b", seed=1)
        record = (second / "run.json").read_text().replace('"encoder.norm": "group"', '"encoder.norm": "batch"')
        (second / "run.json").write_text(record)
    else:
        second = made_run(tmp_path / "b", seed=1, **changed)
    with pytest.raises(DiagnoseError, match=f"other {word} than"):
        starts_of([open_run(made_run(tmp_path / "a")), open_run(second)])


def test_one_seed_twice_and_unfinished_runs_are_refused(tmp_path):
    first = open_run(made_run(tmp_path / "a"))
    with pytest.raises(DiagnoseError, match="has seed 0 too"):
        starts_of([first, open_run(made_run(tmp_path / "b"))])
    with pytest.raises(DiagnoseError, match="not finished; go on"):
        starts_of([open_run(made_run(tmp_path / "c", finished=False))])


def test_weights_that_change_meanwhile_are_noticed(tmp_path):
    run = made_run(tmp_path / "a")
    (start,) = starts_of([open_run(run)])
    (run / "encoder.safetensors").write_bytes((run / "encoder-best.safetensors").read_bytes())
    with pytest.raises(DiagnoseError, match="has changed since"):
        start.encoder(start.members[0])


def test_baselines_have_the_budget_of_the_run(tmp_path):
    budget = Budget.of(open_run(made_run(tmp_path / "a")))
    autoencoder, contrastive = baseline_tasks(budget)
    assert (autoencoder.id, contrastive.id) == ("autoencode", "simclr")
    for task in (autoencoder, contrastive):
        assert (task.settings.size, task.settings.bs, task.settings.data.source) == (16, 4, "photos")
        assert named(task) == task.id  # the budget is no part of a name


# ---- pretraining that is done once -----------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Pretraining that writes a run without training; what was called is listed."""
    calls = []

    def pretrain(task, out, *, steps, seed, gate, **options):
        calls.append(("pretrain", task.id, steps, seed, gate))
        return open_run(made_run(out / task.id / "now", task.id, seed, steps))

    monkeypatch.setattr(starts, "pretrain", pretrain)
    return calls


def test_a_pretraining_is_made_once(trained, tmp_path):
    task = task_of("scale", {"size": 16})
    first = pretrained(task, 7, 0, tmp_path)
    assert pretrained(task, 7, 0, tmp_path).path == first.path
    assert trained == [("pretrain", "scale", 7, 0, "skip")]


def test_a_pretraining_by_other_code_is_made_anew_unless_it_is_wanted(trained, tmp_path):
    task = task_of("scale", {"size": 16})
    run = pretrained(task, 7, 0, tmp_path)
    assert code_since(run, task) == []
    record = json.loads((run.path / "run.json").read_text())
    record["identity"] |= {"code sslwang/losses.py": "of yesterday", "version torch": "1.0"}
    (run.path / "run.json").write_text(json.dumps(record))
    assert pretrained(task, 7, 0, tmp_path, changed_code=True).path == run.path
    assert len(trained) == 1
    changed = code_since(open_run(run.path), task)
    assert changed[0] == "sslwang/losses.py changed"
    assert changed[1].startswith("version torch: 1.0, now ")
    run.path.rename(run.path.with_name("before"))
    assert pretrained(task, 7, 0, tmp_path).path == run.path
    assert len(trained) == 2


@pytest.mark.parametrize("other", ["steps", "seed", "settings", "options"])
def test_another_pretraining_is_another_run(trained, tmp_path, other):
    task = task_of("scale", {"size": 16})
    pretrained(task, 7, 0, tmp_path)
    pretrained(
        task_of("scale", {"size": 16, "lr": 0.01}) if other == "settings" else task,
        8 if other == "steps" else 7,
        1 if other == "seed" else 0,
        tmp_path,
        **({"accumulate": 2} if other == "options" else {}),
    )
    assert len(trained) == 2


def test_how_many_workers_load_is_no_reason_to_train_again(trained, tmp_path):
    pretrained(task_of("scale", {"size": 16}), 7, 0, tmp_path)
    pretrained(task_of("scale", {"size": 16, "data.workers": 2}), 7, 0, tmp_path)
    assert len(trained) == 1


def test_an_interrupted_pretraining_goes_on(trained, monkeypatch, tmp_path):
    task = task_of("scale", {"size": 16})
    run = pretrained(task, 7, 0, tmp_path)
    record = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(record.replace('"finished": true', '"finished": false'))
    resumed = []

    def resume(path, changed_code):
        assert not changed_code
        resumed.append(path)
        (path / "run.json").write_text(record)
        return open_run(path)

    monkeypatch.setattr(starts, "resume", resume)
    assert pretrained(task, 7, 0, tmp_path).finished
    assert (len(resumed), len(trained)) == (1, 1)


def test_what_cannot_go_on_is_trained_anew_and_a_signal_ends_all(trained, monkeypatch, tmp_path):
    task = task_of("scale", {"size": 16})
    run = pretrained(task, 7, 0, tmp_path)
    record = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(record.replace('"finished": true', '"finished": false'))

    def signalled(path, changed_code):
        raise Interrupted("stopped", 2)

    monkeypatch.setattr(starts, "resume", signalled)
    with pytest.raises(Interrupted):
        pretrained(task, 7, 0, tmp_path)

    def changed(path, changed_code):
        raise DiagnoseError("its code has changed")

    monkeypatch.setattr(starts, "resume", changed)
    run.path.rename(run.path.with_name("before"))
    assert pretrained(task, 7, 0, tmp_path).finished
    assert len(trained) == 2
