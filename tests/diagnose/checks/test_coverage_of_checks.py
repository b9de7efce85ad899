"""Every check is tested on what it catches, on what it leaves alone, and on numbers alone; and it explains itself."""

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from learners import diabetes, digits

from diagnose import registry
from diagnose.checks import Check
from diagnose.errors import NotApplicable
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_learner

CHECKS = registry.load_all("diagnose.checks", Check)
HERE = Path(__file__).parent
SHARED = {Path(__file__).name, "test_contracts.py"}  # they ask all checks alike
# they say what a run costs and what runs it: every answer is right, so there is nothing to fail
STATES_ONLY = {"loader-throughput", "parameter-share", "run-environment", "run-estimate", "step-time"}
every_check = pytest.mark.parametrize("id", CHECKS)


@cache
def parsed(file: Path) -> tuple[dict[str, str], list[str]]:
    "What a file binds to names at its top, and the source of its tests and helpers, decorators included."
    text = file.read_text()
    lines, tree = text.splitlines(), ast.parse(text)
    bound = {ast.unparse(n.targets[0]): ast.unparse(n.value) for n in tree.body if isinstance(n, ast.Assign)}
    functions = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            functions.append("\n".join(lines[first - 1 : node.end_lineno]))
    return bound, functions


def about(file: Path, id: str) -> list[str]:
    "Functions of a file that name a check, its class, or a name that stands for it."
    bound, functions = parsed(file)
    names = [rf"""["']{id}["']""", rf"\b{type(CHECKS[id]).__name__}\b"]
    for name, value in bound.items():
        if any(re.search(n, value) for n in names):
            names.append(rf"\b{name}\b")
    return [f for f in functions if any(re.search(n, f) for n in names)]


def sources(id: str) -> list[str]:
    "All tests of a check: its own file, and the functions of other files that name it."
    own = HERE / f"test_{id.replace('-', '_')}.py"
    others = [f for f in sorted(HERE.glob("test_*.py")) if f != own and f.name not in SHARED]
    return [*([own.read_text()] if own.exists() else []), *(s for f in others for s in about(f, id))]


@cache
def measures_a_healthy_learner(id: str) -> bool:
    "Then the contracts hold it to passing there, and to standing any number."
    for make in (digits, diabetes):
        learn = make()
        with untouched(learn):
            try:
                CHECKS[id].measure(Lab(from_learner(learn), 0))
                return True
            except NotApplicable:
                continue
    return False


@every_check
def test_something_faulty_is_caught(id):
    if id in STATES_ONLY:
        code = inspect.getsource(type(CHECKS[id]))
        assert not re.search(r'"(fail|warn)"', code), "it does judge: show what it catches"
        return
    assert any(re.search(r'"(fail|warn)"', s) for s in sources(id)), "no test in which it fails or warns"


@every_check
def test_something_healthy_is_left_alone(id):
    passing = any(re.search(r'"pass"|\bpasses\(|not_passed', s) for s in sources(id))
    assert passing or measures_a_healthy_learner(id), "no test in which it passes"


@every_check
def test_it_is_judged_from_numbers_alone(id):
    alone = any(re.search(r"judge_never_raises|evidence_of\(|EvidenceList\(|NUMBERS", s) for s in sources(id))
    assert alone or measures_a_healthy_learner(id), "no test of `judge` on numbers"


def test_explain_has_every_section_for_every_check():
    code = (
        "import sys; from diagnose.cli import main\n"
        "for id in sys.argv[1:]:\n"
        "    print('=====', id, flush=True)\n"
        "    sys.argv = ['diagnose', 'explain', id]\n"
        "    try: main()\n"
        "    except SystemExit as e: assert not e.code, (id, e.code)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *CHECKS], capture_output=True, text=True, timeout=120, check=True)
    told = dict(re.findall(r"===== (\S+)\n(.*?)(?=\n===== |\Z)", run.stdout, re.S))
    assert told.keys() == CHECKS.keys()
    for id, text in told.items():
        for heading in ("What it does", "Why it matters", "How it is judged", "What to do", "Source"):
            assert heading in text, (id, heading)
