"""What is loaded is recorded, and loading itself is what it was."""

import threading

import pytest
import torch
from learners import digits, small_cnn
from torch import nn

from diagnose.cli import main
from diagnose.errors import DiagnoseError
from diagnose.isolate import seed_everything
from diagnose.loads import compared, recording
from diagnose.subject import from_spec

ORIGINAL = nn.Module.load_state_dict, torch.load


def patched():
    return (nn.Module.load_state_dict, torch.load) != ORIGINAL


def state(seed=5):
    seed_everything(seed)
    model = small_cnn()
    model(torch.rand(32, 1, 8, 8))
    return model.state_dict()


def test_nothing_is_left_behind_also_by_an_exception():
    with recording():
        assert patched()
        with recording():
            assert patched()
        assert patched()
    assert not patched()
    with pytest.raises(ZeroDivisionError), recording():
        raise ZeroDivisionError
    assert not patched()


def test_recordings_that_end_in_the_order_of_their_beginning():
    first, second = recording(), recording()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert patched()
    second.__exit__(None, None, None)
    assert not patched()


def test_a_patch_made_meanwhile_is_kept(monkeypatch):
    monkeypatch.setattr(torch, "load", torch.load)  # puts it back in the end
    with recording():
        inner = torch.load
        torch.load = theirs = lambda *a, **k: inner(*a, **k)
    assert torch.load is theirs
    assert nn.Module.load_state_dict is ORIGINAL[0]


def test_loading_returns_and_raises_what_it_did(tmp_path):
    torch.save(state(), tmp_path / "w.pth")
    plain, seen = small_cnn(), small_cnn()
    expected = plain.load_state_dict({"3.bias": torch.arange(10.0), "x": torch.ones(3)}, strict=False)
    with recording() as record:
        assert seen.load_state_dict({"3.bias": torch.arange(10.0), "x": torch.ones(3)}, strict=False) == expected
        with pytest.raises(RuntimeError, match="Missing key"):
            seen.load_state_dict({"3.bias": torch.arange(10.0)})
        with pytest.raises(TypeError):
            seen.load_state_dict(3)
        with pytest.raises(FileNotFoundError):
            torch.load(tmp_path / "none.pth")
        given = torch.load(tmp_path / "w.pth")
        seen.load_state_dict(given, assign=True)
    assert all(torch.equal(a, b) for a, b in zip(given.values(), state().values(), strict=True))
    load = record.loads(seen)[0]
    assert (load.source, load.arrived) == ("w.pth", load.names)
    assert len(load.names) == len(given) - 6  # ones and zeros of two norms, and two counters, tell nothing


def test_an_override_and_what_it_calls_are_one_load():
    class Renames(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def load_state_dict(self, given, strict=True, assign=False):
            return super().load_state_dict({f"net.{k}": v for k, v in given.items()}, strict, assign)

    model = Renames()
    with recording() as record:
        model.load_state_dict(state())
    (load,) = record.loads(model)
    assert not load.lost
    assert len(load.arrived) == len(load.names)


def test_half_precision_that_was_cast_arrived(tmp_path):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state().items()}, tmp_path / "half.pth")
    model = small_cnn()
    with recording() as record:
        model.load_state_dict({k: v.clone() for k, v in torch.load(tmp_path / "half.pth").items()})
    assert [len(load.names) - len(load.arrived) for load in record.loads(model)] == [0, 0]


def test_a_layer_without_a_size_yet_is_passed_over():
    model = nn.Sequential(small_cnn(), nn.LazyLinear(3))
    with recording() as record:
        model.load_state_dict({f"x.{k}": v for k, v in state().items()}, strict=False)
    (load,) = record.loads(model)
    assert (load.lost, load.removed, load.added) == (True, "x.", "0.")


def test_another_thread_is_not_recorded():
    model, given = small_cnn(), state()
    with recording() as record:
        other = threading.Thread(target=lambda: model.load_state_dict({f"x.{k}": v for k, v in given.items()}, False))
        other.start()
        other.join()
    assert record.loads(model) == []


def test_tied_weights_and_a_module_outside_the_model():
    teacher, learn = small_cnn(), digits(0)
    with recording() as record:
        teacher.load_state_dict({f"t.{k}": v for k, v in state().items()}, strict=False)
    (load,) = record.loads(learn.model)
    assert load.lost
    assert load.place is None


PROJECT = """
import torch
from learners import digits
def build():
    learn = digits(0)
    learn.model.load_state_dict(torch.load("encoder.pth"), strict=False)
    return learn
def without():
    return digits(0)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "projects_train.py").write_text(PROJECT)
    torch.save({f"module.{k}": v for k, v in state().items()}, tmp_path / "encoder.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_builds_a_subject_is_watched(project):
    subject = from_spec("projects_train.py:build")
    (load,) = subject.loads
    assert (load.source, load.lost, load.removed, load.added) == ("encoder.pth", True, "module.", "")
    assert from_spec("projects_train.py:without").loads == []
    assert not patched()


def test_the_command_compares_a_checkpoint(project, capsys, monkeypatch):
    command = ["diagnose", "run", "--learner", "projects_train.py:without", "--only", "weights-loaded"]
    monkeypatch.setattr("sys.argv", [*command, "--weights", "encoder.pth"])
    with pytest.raises(SystemExit) as e:
        main()
    assert e.value.code == 1
    out = capsys.readouterr().out
    assert "weights-not-loaded" in out
    monkeypatch.setattr("sys.argv", [*command, "--weights", "none.pth"])
    with pytest.raises(SystemExit) as e:
        main()
    assert e.value.code == 2


@pytest.mark.parametrize(
    "given", [b"no tensors at all", {"x": torch.ones(3)}, {"optimizer": {"weight": torch.ones(3)}}]
)
def test_what_is_no_checkpoint_is_told(tmp_path, given):
    path = tmp_path / "w.pth"
    if isinstance(given, bytes):
        path.write_bytes(given)
    else:
        torch.save(given, path)
    with pytest.raises(DiagnoseError, match=r"weights .*w\.pth"):
        compared(path, small_cnn())


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_nothing_in_a_checkpoint_is_run(tmp_path, capsys):
    torch.save(Evil(), tmp_path / "w.pth")
    with pytest.raises(DiagnoseError, match="not a file of tensors"):
        compared(tmp_path / "w.pth", small_cnn())
    assert "run" not in capsys.readouterr().out
