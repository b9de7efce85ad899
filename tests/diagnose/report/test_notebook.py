"""`learn.diagnose()` as the cells of a notebook see it, and the figures of a diagnosis."""

from __future__ import annotations

import base64
import html
import json
import os
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import diagnose
from diagnose import report
from diagnose.errors import DiagnoseError
from diagnose.notebook import PLOTS, ShownDiagnosis

SUPPORT = Path(__file__).parents[2] / "support"

SHELL = """
    import base64, json, sys
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    class Notebook(InteractiveShell):
        kernel = object()  # what a notebook's shell has and a terminal's has not

    quiet = Config()
    quiet.HistoryManager.enabled = False
    shell = Notebook.instance(config=quiet) if sys.argv[1] == "notebook" else InteractiveShell.instance(config=quiet)
    texts = lambda v: base64.b64encode(v).decode() if isinstance(v, bytes) else v
    cells = []
    for cell in json.loads(sys.stdin.read()):
        with shell.display_trap, capture_output() as captured:
            done = shell.run_cell(cell, store_history=True)
        outputs = [{"data": {k: texts(v) for k, v in o.data.items()}, "update": bool(o.update),
                    "id": (o.transient or {}).get("display_id")} for o in captured.outputs]
        error = done.error_in_exec or done.error_before_exec
        cells.append({"outputs": outputs, "stdout": captured.stdout, "error": error and repr(error)})
    print(json.dumps(cells))
"""

LEARNER = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from learners import digits
import diagnose
learn = digits()
"""


def ran(kind: str, cells: list[str], folder: Path) -> list[dict]:
    """What the cells put out under a shell of that kind, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SHELL), kind],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
        env=os.environ | {"IPYTHONDIR": str(folder / "ipython"), "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Frame(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def shown(made, **changes) -> ShownDiagnosis:
    found = ShownDiagnosis.model_validate(made.model_dump(by_alias=True) | changes)
    found.files.update(made.files)
    return found


def test_a_notebook_shows_the_report_once_and_again_when_asked(tmp_path):
    cells = [LEARNER, "found = learn.diagnose(only=['initialisation'])\nfound", "found", "len(found.checks)"]
    built, examined, again, count = ran("notebook", cells, tmp_path)
    assert [c["error"] for c in (built, examined, again, count)] == [None] * 4
    pages = [o for o in examined["outputs"] if "<iframe" in o["data"].get("text/html", "")]
    assert len(pages) == 1
    assert pages[0]["update"]
    told = [o["data"]["text/plain"] for o in examined["outputs"] if o["id"] and "text/html" not in o["data"]]
    assert told[0] == "diagnose: starting"
    assert len(told) > 1
    assert examined["outputs"][-1]["data"]["text/plain"].startswith("<warn: ")
    assert examined["stdout"] == ""
    assert "initialisation" in html.unescape(again["outputs"][0]["data"]["text/html"])
    assert count["outputs"][0]["data"]["text/plain"] == "1"


def test_a_figure_is_shown_as_a_picture(tmp_path, samples):
    report.write(samples.failing(), tmp_path / "run")
    (cell,) = ran("notebook", ["import diagnose\ndiagnose.load('run').plot('ladder')"], tmp_path)
    assert cell["error"] is None
    assert base64.b64decode(cell["outputs"][-1]["data"]["image/png"]).startswith(b"\x89PNG")


def test_a_terminals_shell_gets_the_table_and_show_false_gets_nothing(tmp_path):
    table = "found = learn.diagnose(only=['initialisation'])"
    quiet = "found = learn.diagnose(only=['initialisation'], show=False)"
    _, shown, silent = ran("terminal", [LEARNER, table, quiet], tmp_path)
    assert "WARN  learner" in shown["stdout"]
    assert not shown["outputs"]
    assert (silent["stdout"], silent["outputs"], silent["error"]) == ("", [], None)


def test_the_frame_holds_the_whole_page_and_nothing_leaves_it(made):
    frame = shown(made)._repr_html_()
    ((tag, attributes),) = Frame(frame).tags
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"  # not allow-same-origin: it cannot reach into the notebook
    assert attributes["srcdoc"] == report.html.render(made)
    assert set(attributes) == {"title", "sandbox", "allow", "style", "srcdoc"}


def test_the_text_of_it_is_one_line(samples):
    assert repr(shown(samples.failing())) == f"<fail: {samples.failing().summary}>"


def test_an_earlier_run_is_loaded_by_its_name(samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.write(samples.passing(), Path("reports/unmix/2026-11-23T10-00-00"))
    report.write(samples.failing(), Path("reports/unmix/2026-11-24T10-00-00"))
    assert diagnose.load().verdict == "fail"
    assert diagnose.load("unmix/2026-11-23").verdict == "pass"
    assert diagnose.load(Path("reports/unmix/2026-11-23T10-00-00"))._repr_html_().startswith("<iframe")
    assert diagnose.load().files
    with pytest.raises(DiagnoseError, match="no run absent"):
        diagnose.load("absent")


def test_proof_and_ladder_are_drawn(samples):
    found = shown(samples.failing())
    for figure in (found.plot(), found.plot("proof", id="loss-double-activation"), found.plot("ladder")):
        assert isinstance(figure, Figure)
        assert figure.axes
    assert "lr-too-high" in found.plot().get_suptitle() + "".join(ax.get_title() for ax in found.plot().axes)


@pytest.mark.parametrize(
    ("sample", "args", "says"),
    [
        ("passing", {}, "no cause is proven"),
        ("failing", {"what": "pie"}, "no figure pie; there are proof, ladder"),
        ("failing", {"id": "absent"}, "no cause absent; there are lr-too-high, output-collapse"),
        ("failing", {"id": "output-collapse"}, "output-collapse was not tried"),
        ("inspected", {}, "settled by inspection"),
        ("interrupted", {"what": "ladder"}, "measured no two learning rates"),
        ("failing", {"what": "layers"}, "no training was recorded"),
        ("failing", {"what": "loss", "table": "weights"}, "only histograms have options"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(samples, sample, args, says):
    with pytest.raises(DiagnoseError, match=says) as caught:
        shown(samples.ALL[sample](), gauges=None).plot(**args)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def recorded_run(tmp_path_factory):
    """A real run folder with what was recorded."""
    from learners import digits

    found = diagnose.examine_learner(digits(), show=False, budget=None, only=["overfit-one-batch"])
    folder = tmp_path_factory.mktemp("runs") / "run"
    report.write(found, folder)
    return found, folder


@pytest.mark.slow
@pytest.mark.parametrize("what", [p for p in PLOTS if p not in ("proof", "ladder")])
def test_what_was_recorded_is_drawn_from_memory_and_from_the_run_folder(recorded_run, what):
    found, folder = recorded_run
    for source in (found, diagnose.load(folder)):
        figure = source.plot(what)
        assert isinstance(figure, Figure)
        assert figure.axes


@pytest.mark.slow
def test_histograms_of_named_layers(recorded_run):
    found, _ = recorded_run
    assert found.plot("histograms", table="weights").axes
    with pytest.raises(DiagnoseError, match=r"nothing of the name .*absent"):
        found.plot("histograms", places=["absent"])
    with pytest.raises(DiagnoseError, match="table= and places="):
        found.plot("histograms", colour="red")
