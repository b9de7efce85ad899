"""The command as a test calls it."""

import sys

import pytest

from diagnose import cli, compiled


@pytest.fixture
def diagnose(monkeypatch, capsys, tmp_path):
    """Runs the command in this process, in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["diagnose", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module", params=["compiled", "PyTorch"])
def both_ways(request):
    """Statistics as a processor's memory is read, and as PyTorch computes them on any device."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "PyTorch":
            patch.setattr(compiled, "enabled", lambda: False)
        yield request.param
