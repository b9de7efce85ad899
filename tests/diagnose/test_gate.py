"""The gate: a pass holds for what was examined, and for nothing else."""

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from diagnose import gate
from diagnose.diagnosis import Diagnosis, SubjectInfo, Tool
from diagnose.errors import DiagnoseError
from diagnose.gate import GateRefused

IDENTITY = {
    "code train.py": "aa",
    "setting lr": "0.1",
    "model structure": "bb",
    "data train: count": "1000",
    "data train: sample": "cc",
    "version torch": "2.14",
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def own_config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DIAGNOSE_KEY", raising=False)


def diagnosis(verdict="pass", **given):
    info = SubjectInfo(name="train-build", source="train.py:build", fingerprint="f")
    return Diagnosis(
        tool=Tool(name="diagnose", version="0"),
        subject=info,
        seed=0,
        verdict=verdict,
        summary="so",
        seconds=1.0,
        **given,
    )


def run_folder(tmp_path, verdict="pass", complete=True, name="run", identity=IDENTITY, **given):
    found = diagnosis(verdict, **given)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "report.json").write_text(found.to_json(), encoding="utf-8")
    content = gate.issue(found, identity, complete)
    if content is not None:
        (folder / gate.PASS).write_bytes(content)
    return folder


def test_a_pass_holds_for_what_was_examined(tmp_path):
    held = gate.verify(run_folder(tmp_path), dict(IDENTITY), max_age=60)
    assert (held.subject, held.verdict) == ("train-build", "pass")
    assert 0 <= held.age < 60


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("code train.py", "zz", "train.py changed"),
        ("code train.py", None, "train.py is gone"),
        ("code other.py", "zz", "other.py was not examined"),
        ("setting lr", "0.3", "setting lr: 0.1, now 0.3"),
        ("setting n", "4", "setting n: none, now 4"),
        ("model structure", "zz", "model structure changed"),
        ("data train: count", "999", "data train: count: 1000, now 999"),
        ("data train: sample", "zz", "data train: sample changed"),
        ("version torch", "2.15", "version torch: 2.14, now 2.15"),
        ("device", "cuda", "device: cpu, now cuda"),
    ],
)
def test_whatever_changed_is_named_in_one_line(tmp_path, name, value, said):
    now = {k: v for k, v in {**IDENTITY, name: value}.items() if v is not None}
    with pytest.raises(GateRefused) as caught:
        gate.verify(run_folder(tmp_path), now)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_several_changes_are_counted(tmp_path):
    with pytest.raises(GateRefused, match=r"\(and 6 more\)"):
        gate.verify(run_folder(tmp_path), {})


def edited(folder, **changes):
    content = json.loads((folder / gate.PASS).read_text())
    (folder / gate.PASS).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "warn"},
        {"issued": time.time() + 10},
        {"identity": {**IDENTITY, "code train.py": "zz"}},
        {"subject": "another"},
        {"signature": "0" * 64},
        {"signature": None},
        {"report": hashlib.sha256(b"x").hexdigest()},
    ],
)
def test_an_edited_pass_is_refused(tmp_path, changes):
    folder = run_folder(tmp_path)
    edited(folder, **changes)
    with pytest.raises(GateRefused, match="edited after it was issued"):
        gate.verify(folder, IDENTITY)


def test_a_warning_turned_into_a_pass_by_hand_is_refused(tmp_path):
    folder = run_folder(tmp_path, "warn")
    edited(folder, verdict="pass")
    with pytest.raises(GateRefused, match="edited"):
        gate.verify(folder, IDENTITY)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"signature": "x"}', '{"signature": "x", "evil": 1}'])
def test_what_is_no_pass_is_refused(tmp_path, content):
    folder = run_folder(tmp_path)
    (folder / gate.PASS).write_text(content)
    with pytest.raises(GateRefused, match="not a pass"):
        gate.verify(folder, IDENTITY)


def test_a_pass_of_another_report_is_refused(tmp_path):
    good, bad = run_folder(tmp_path), run_folder(tmp_path, "fail", name="bad")
    (bad / gate.PASS).write_bytes((good / gate.PASS).read_bytes())
    with pytest.raises(GateRefused, match="not the report of this pass"):
        gate.verify(bad, IDENTITY)


def test_a_report_edited_by_hand_is_refused(tmp_path):
    folder = run_folder(tmp_path)
    text = (folder / "report.json").read_text()
    (folder / "report.json").write_text(text.replace('"so"', '"so!"'))
    with pytest.raises(GateRefused, match="not the report of this pass"):
        gate.verify(folder, IDENTITY)


def test_another_key_is_told_apart(tmp_path, monkeypatch):
    folder = run_folder(tmp_path)
    monkeypatch.setenv("DIAGNOSE_KEY", "a key of the build server")
    with pytest.raises(GateRefused, match="signed with another key"):
        gate.verify(folder, IDENTITY)
    ci = run_folder(tmp_path, name="ci")
    assert gate.verify(ci, IDENTITY).verdict == "pass"
    monkeypatch.delenv("DIAGNOSE_KEY")
    with pytest.raises(GateRefused, match="another key"):
        gate.verify(ci, IDENTITY)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"partial": True}, "interrupted"),
        ({"verdict": "fail"}, "the verdict was fail: so"),
        ({"complete": False}, "not whole"),
    ],
)
def test_no_pass_without_a_whole_examination_that_passed(tmp_path, given, said):
    folder = run_folder(tmp_path, **given)
    assert not (folder / gate.PASS).exists()
    with pytest.raises(GateRefused, match=said):
        gate.verify(folder, IDENTITY)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(GateRefused, match="no run was examined there"):
        gate.verify(tmp_path, IDENTITY)


def test_warnings_count_only_where_they_are_allowed(tmp_path):
    folder = run_folder(tmp_path, "warn")
    with pytest.raises(GateRefused, match="the verdict was warn"):
        gate.verify(folder, IDENTITY)
    assert gate.verify(folder, IDENTITY, allow_warn=True).verdict == "warn"


def test_a_pass_expires(tmp_path, monkeypatch):
    folder = run_folder(tmp_path)
    now = time.time()
    monkeypatch.setattr(gate.time, "time", lambda: now + 8 * 86400)
    with pytest.raises(GateRefused, match="older than 7d"):
        gate.verify(folder, IDENTITY, max_age=gate.age("7d"))
    assert gate.verify(folder, IDENTITY, max_age=gate.age("9d"))
    monkeypatch.setattr(gate.time, "time", lambda: now - 3600)
    with pytest.raises(GateRefused, match="in the future"):
        gate.verify(folder, IDENTITY)


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 604800), ("12h", 43200), ("90s", 90), ("1.5h", 5400), ("2w", 1209600)]
)
def test_ages_are_read(text, seconds):
    assert gate.age(text) == seconds


@pytest.mark.parametrize("text", ["7", "d", "-1d", "7 days", ""])
def test_other_ages_are_refused(text):
    with pytest.raises(DiagnoseError, match="for instance 7d"):
        gate.age(text)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_key_is_the_users_alone(tmp_path):
    gate.signing_key()
    path = gate.key_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert gate.signing_key() == gate.signing_key()
    path.chmod(0o644)
    with pytest.raises(DiagnoseError, match="chmod 600"):
        gate.signing_key()


def test_a_short_key_is_refused(monkeypatch):
    monkeypatch.setenv("DIAGNOSE_KEY", "short")
    with pytest.raises(DiagnoseError, match="at least 16"):
        gate.signing_key()


def test_the_newest_pass_that_holds_is_found(tmp_path):
    old, new = run_folder(tmp_path, name="1"), run_folder(tmp_path, "warn", name="2")
    folder, held = gate.find([new, old], IDENTITY)
    assert (folder, held.verdict) == (old, "pass")
    with pytest.raises(GateRefused, match="the verdict was warn"):
        gate.find([new], IDENTITY)
    with pytest.raises(GateRefused, match="nothing was examined yet"):
        gate.find([], IDENTITY)


def test_of_several_passes_the_nearest_says_what_changed(tmp_path):
    mine = {**IDENTITY, "code train.py": "ab"}
    other = run_folder(tmp_path, name="3", identity=dict.fromkeys(IDENTITY, "of another subject"))
    broken = run_folder(tmp_path, name="2")
    (broken / gate.PASS).write_text("{}")
    near = run_folder(tmp_path, name="1")
    with pytest.raises(GateRefused, match="/1: changed since the examination") as refused:
        gate.find([other, broken, near], mine)
    assert refused.value.apart == 1
    with pytest.raises(GateRefused, match="not a pass"):
        gate.find([broken], mine)


# ---- identity: what a real project is made of --------------------------------------------------------------------

PROJECT = {
    "train.py": """
        import torch
        from torch import nn
        from fastai.data.core import DataLoaders
        from fastai.data.load import DataLoader
        from fastai.learner import Learner
        from nets import Net
        UNUSED = "a"

        def build(lr=0.01):
            torch.manual_seed(0)
            rows = [(torch.randn(4), torch.tensor(i % 2)) for i in range(64)]
            dls = DataLoaders(DataLoader(rows, bs=8), DataLoader(rows[:8], bs=8))
            return Learner(dls, Net(), nn.CrossEntropyLoss(), lr=lr)
        """,
    "nets/__init__.py": "from nets.one import Net",
    "nets/one.py": """
        from torch import nn
        from .parts import width
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                from helpers import late
                self.body = nn.Linear(4, width * late)
            def forward(self, x):
                return self.body(x)
        """,
    "nets/parts.py": "width = 2",
    "helpers.py": "late = 1",
    "unrelated.py": "x = 1",
}
SCRIPT = """
import json, os, sys
import fastai.learner
from diagnose.identity import identity
from diagnose.subject import from_spec
sys.path.insert(0, ".")
sys.dont_write_bytecode = True  # an edit within the same second, of the same length, would run the old
for line in sys.stdin:
    folder, spec = json.loads(line)
    if not os.fork():
        os.chdir(folder)
        subject = from_spec(spec, device="cpu")
        print(json.dumps(identity(subject.learner, None, [sys.modules["train"]])), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit("the process that looked at " + folder + " failed")
"""


@contextlib.contextmanager
def looking():
    """A process that imports torch once and has a process of its own look at each project; gives the way to ask it."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def seen(folder, spec="train.py:build"):
            print(json.dumps([str(folder), spec]), file=server.stdin, flush=True)
            found = json.loads(server.stdout.readline())
            assert found.pop("version diagnose")  # the tool's own source may be under edit while its tests run
            return found

        yield seen
        server.stdin.close()


@pytest.fixture(scope="module")
def seen():
    """What tells a project from others."""
    with looking() as seen:
        yield seen


@pytest.fixture
def project(tmp_path):
    for name, text in PROJECT.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path / "project"


def test_the_project_code_is_followed_and_nothing_else(project, seen):
    first = seen(project)
    code = {k.removeprefix("code ") for k in first if k.startswith("code ")}
    assert code == {"train.py", "nets/__init__.py", "nets/one.py", "nets/parts.py", "helpers.py"}
    with looking() as seen_anew:
        assert first == seen_anew(project), "the same with other hashes of text"
    (project / "unrelated.py").write_text("x = 2")
    assert first == seen(project)
    for name in ("nets/parts.py", "helpers.py"):
        (project / name).write_text((project / name).read_text() + "\n# a word\n")
        now = seen(project)
        assert gate.differences(first, now) == [f"{name} changed"]
        first = now


def test_settings_model_and_data_are_told_apart(project, seen):
    first = seen(project)
    text = (project / "train.py").read_text()
    for change, names in {
        ("lr=0.01", "lr=0.02"): {"setting lr"},
        ("range(64)", "range(65)"): {"data train: count", "data train: sample"},
        ("bs=8), DataLoader", "bs=4), DataLoader"): {"setting batch size"},
        ("torch.randn(4)", "torch.rand(4)"): {"data train: sample", "data valid: sample"},
        ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(label_smoothing=0.1)"): set(),
    }.items():
        (project / "train.py").write_text(text.replace(*change))
        now = seen(project)
        assert {k for k in first if first[k] != now.get(k)} == names | {"code train.py"}, change
    (project / "train.py").write_text(text)
    (project / "nets/parts.py").write_text("width = 3")
    assert "model structure" in {k for k, v in seen(project).items() if first[k] != v}


# ---- the command and the callback ----------------------------------------------------------------------------------

BUILDER = """
    import sys
    sys.path.insert(0, {support!r})
    from learners import digits

    def build():
        return digits(lr=3e-3)

    def too_high():
        return digits(lr=30.0)
    """


@pytest.fixture
def train_py(diagnose, monkeypatch, tmp_path):
    """`train.py` in the folder that the command runs in."""
    support = str(Path(__file__).parents[1] / "support")
    (tmp_path / "train.py").write_text(textwrap.dedent(BUILDER.format(support=support)))
    monkeypatch.delitem(sys.modules, "train", raising=False)


@pytest.fixture
def steady(monkeypatch):
    """The tool's own source may be under edit while its tests run."""
    monkeypatch.setattr("diagnose.identity._own_source", lambda: "steady")


def test_run_leaves_a_pass_and_the_gate_opens_for_it_alone(diagnose, train_py, steady, tmp_path):
    assert diagnose("gate", "--learner", "train.py:build")[0] == 4
    code, *_ = diagnose("run", "--learner", "train.py:build", "--device", "cpu", "--out", "reports")
    assert code == 0
    code, out, _ = diagnose("gate", "--learner", "train.py:build", "--device", "cpu", "--max-age", "1h")
    assert code == 0
    assert "pass, issued" in out
    (run,) = (tmp_path / "reports" / "train-build").iterdir()
    assert diagnose("gate", run, "--device", "cpu")[0] == 0

    text = (tmp_path / "train.py").read_text()
    (tmp_path / "train.py").write_text(text.replace("3e-3", "4e-3"))
    code, _, err = diagnose("gate", run, "--device", "cpu")
    assert code == 4
    assert "changed since the examination: train.py changed" in err
    (tmp_path / "train.py").write_text(text)
    assert diagnose("gate", run, "--device", "cpu")[0] == 0
    edited(run, verdict="fail")
    code, _, err = diagnose("gate", "--learner", "train.py:build", "--device", "cpu")
    assert (code, "edited" in err) == (4, True)


def test_what_fails_or_was_examined_in_part_leaves_no_pass(diagnose, train_py, tmp_path):
    args = ("--device", "cpu", "--out", "reports")
    assert diagnose("run", "--learner", "train.py:too_high", *args)[0] == 1
    assert diagnose("run", "--learner", "train.py:build", "--only", "loss-finite", *args)[0] in (0, 2)
    assert list(tmp_path.glob("reports/*/*/pass.json")) == []
    code, _, err = diagnose("gate", "--learner", "train.py:too_high", "--device", "cpu")
    assert code == 4
    assert "the verdict was fail" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name one thing"),
        (["unmix", "--learner", "train.py:build"], "name one thing"),
        (["no-such-run"], "no-such-run"),
        (["unmix", "--max-age", "soon"], "for instance 7d"),
    ],
)
def test_a_wrong_question_is_a_usage_error(diagnose, args, said):
    code, _, err = diagnose("gate", *args)
    assert code == 2
    assert said in err


def test_the_callback_stops_training_without_a_pass_and_examines_on_request(tmp_path, steady):
    from learners import digits

    from diagnose import PreflightGate

    learn = digits(lr=3e-3)
    before = [p.detach().clone() for p in learn.model.parameters()]
    with pytest.raises(GateRefused, match="nothing was examined yet"), learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=PreflightGate(tmp_path / "runs"))
    assert all(map(torch.equal, before, learn.model.parameters())), "refused before the first step"
    with learn.no_bar(), learn.no_logging():
        learn.validate(cbs=PreflightGate(tmp_path / "runs"))  # needs no pass
        asked = PreflightGate(tmp_path / "runs", examine=True)
        learn.fit(1, cbs=asked)
    assert asked.granted.verdict == "pass"
    assert not all(map(torch.equal, before, learn.model.parameters()))
    held = PreflightGate(tmp_path / "runs", max_age="1h")
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=held)
    assert held.granted.report == asked.granted.report
    learn.lr = 0.5
    with pytest.raises(GateRefused, match=r"setting lr: 0\.003, now 0\.5"), learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=PreflightGate(tmp_path / "runs"))


def test_the_callback_refuses_what_the_examination_fails(tmp_path, steady):
    from learners import digits

    from diagnose import PreflightGate

    learn = digits(lr=30.0)
    before = [p.detach().clone() for p in learn.model.parameters()]
    with pytest.raises(GateRefused, match="the verdict was fail"), learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=PreflightGate(tmp_path / "runs", examine=True))
    assert all(map(torch.equal, before, learn.model.parameters()))


BUILDER_ALONE = """
    import torch
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from torch import nn

    def build():
        torch.manual_seed(0)
        rows = [(torch.randn(4) + 2 * (i % 2), torch.tensor(i % 2)) for i in range(320)]
        dls = DataLoaders(DataLoader(rows[:256], bs=32, shuffle=True, drop_last=True), DataLoader(rows[256:], bs=32))
        net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        return Learner(dls, net, nn.CrossEntropyLoss(), lr=1e-2)
    """
SCRIPT_THAT_TRAINS = """
    from train import build
    from diagnose import PreflightGate

    learn = build()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=PreflightGate("reports"))
    print("trained")
    """


def test_a_script_trains_what_the_command_examined_and_not_after_an_edit(tmp_path):
    """The builder's module defines no part of the Learner, and the script that trains was not examined."""
    (tmp_path / "train.py").write_text(textwrap.dedent(BUILDER_ALONE))
    (tmp_path / "go.py").write_text(textwrap.dedent(SCRIPT_THAT_TRAINS))

    def ran(*command):
        return subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)

    examined = ran("-m", "diagnose", "run", "--learner", "train.py:build", "--device", "cpu")
    assert examined.returncode == 0, examined.stdout + examined.stderr
    trained = ran("go.py")
    assert trained.stdout.endswith("trained\n"), trained.stderr
    (tmp_path / "train.py").write_text((tmp_path / "train.py").read_text() + "# a word\n")
    refused = ran("go.py")
    assert "train.py changed" in refused.stderr
    assert "trained" not in refused.stdout
