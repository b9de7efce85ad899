"""SARIF 2.1.0: the shape that the standard and GitHub ask for, levels that agree with the verdict, and places."""

from __future__ import annotations

import json
import textwrap

import jsonschema
import pytest

from diagnose.report import sarif


def closed(required: dict, optional: dict | None = None) -> dict:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def listed(item: dict, **more) -> dict:
    return {"type": "array", "items": item, "uniqueItems": True, **more}


TEXT = {"type": "string", "minLength": 1}
MESSAGE = closed({"text": TEXT})
INDEX = {"type": "integer", "minimum": 0}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
BAG = {"type": "object"}
RULE = closed(
    {
        "id": TEXT,
        "name": TEXT,
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": closed({"level": LEVEL}),
        "properties": closed({"tags": listed(TEXT)}),
    }
)
PHYSICAL = closed(
    {
        "artifactLocation": closed(
            {"uri": {"type": "string", "pattern": '^[^ /\\\\<>"{}|^`][^ \\\\<>"{}|^`]*$'}, "uriBaseId": TEXT}
        ),
        "region": closed({"startLine": {"type": "integer", "minimum": 1}}),
    }
)
LOGICAL = closed({"kind": TEXT}, {"name": TEXT, "fullyQualifiedName": TEXT})
RESULT = closed(
    {
        "ruleId": TEXT,
        "ruleIndex": INDEX,
        "kind": {"const": "fail"},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": listed(closed({"logicalLocations": listed(LOGICAL)}, {"physicalLocation": PHYSICAL})),
        "partialFingerprints": closed({"diagnose/v1": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}),
    },
    {"rank": {"type": "number", "minimum": 0, "maximum": 100}, "properties": BAG},
)
NOTE = closed({"level": LEVEL, "message": MESSAGE}, {"associatedRule": closed({"id": TEXT, "index": INDEX})})
RUN = closed(
    {
        "tool": closed({"driver": closed({"name": TEXT, "version": TEXT, "rules": listed(RULE)})}),
        "automationDetails": closed({"id": TEXT}),
        "invocations": listed(
            closed({"executionSuccessful": {"type": "boolean"}, "toolExecutionNotifications": {"type": "array"}})
        ),
        "results": {"type": "array", "items": RESULT},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "defaultSourceLanguage": TEXT,
        "properties": BAG,
    }
)
LOG = closed({"$schema": {"format": "uri"}, "version": {"const": "2.1.0"}, "runs": listed(RUN, minItems=1, maxItems=1)})
"""What the published schema says of everything that is written, and nothing else is written."""


def read(made, root=None) -> dict:
    return json.loads(sarif.render(made, root))["runs"][0]


def test_the_shape_is_that_of_the_standard(made):
    jsonschema.validate(json.loads(sarif.render(made)), LOG)
    run = read(made)
    rules = run["tool"]["driver"]["rules"]
    ids = [r["id"] for r in rules]
    assert len(set(ids)) == len(ids)
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
    for note in run["invocations"][0]["toolExecutionNotifications"]:
        jsonschema.validate(note, NOTE)
        if rule := note.get("associatedRule"):
            assert ids[rule["index"]] == rule["id"]
    assert not any(c in sarif.render(made) for c in "\x1b\x07\x9b\u202e")


def test_an_error_exactly_where_the_verdict_is_fail(made):
    levels = {r["level"] for r in read(made)["results"]}
    assert ("error" in levels) == (made.verdict == "fail" and bool(levels))
    assert read(made)["invocations"][0]["executionSuccessful"] is not made.partial


def test_results_are_what_calls_for_action(samples):
    found = {r["ruleId"]: r for r in read(samples.failing())["results"]}
    assert {id: r["level"] for id, r in found.items()} == {
        "cause/lr-too-high": "error",
        "cause/output-collapse": "warning",  # suspected
        "check/overfit-one-batch": "error",
        "check/learning-rate-ladder": "error",
        "check/initial-loss": "warning",
    }
    cause = found["cause/lr-too-high"]
    assert cause["rank"] == 99.0
    assert cause["properties"] == {"proven": True, "fix": samples.lr_too_high().fix.code}
    for said in ("Proven: The learning rate 30", "optimizer group 1", "0.71 to 0.03", "Fix: Train at a learning rate"):
        assert said in cause["message"]["text"]
    assert [p.get("name") for p in cause["locations"][0]["logicalLocations"]][1:] == [
        "optimizer group 0",
        "optimizer group 1",
    ]
    rules = {r["id"]: r for r in read(samples.failing())["tool"]["driver"]["rules"]}
    assert {"check/gradient-flow", "cause/loss-double-activation"} < set(rules)
    assert "Train at a learning rate of about 0.003" in rules["cause/lr-too-high"]["help"]["text"]
    assert not read(samples.passing())["results"]


def test_a_doubt_is_never_an_error(samples):
    failed = samples.ladder_check(30.0, "fail")
    run = read(samples.diagnosis("warn", checks=[failed], causes=[samples.lr_too_high()]))
    assert [r["level"] for r in run["results"]] == ["warning", "warning"]


def test_what_was_not_checked_is_notified(samples):
    notes = read(samples.failing())["invocations"][0]["toolExecutionNotifications"]
    assert notes[0]["associatedRule"]["id"] == "check/identical-pairs"
    assert notes[1]["message"]["text"] == "Not checked: random-labels: the budget of 60 s was used up"


def test_the_same_finding_has_the_same_fingerprint_in_the_next_run(samples):
    def prints(made):
        return {r["ruleId"]: r["partialFingerprints"]["diagnose/v1"] for r in read(made)["results"]}

    first, again = prints(samples.failing()), prints(samples.failing().model_copy(update={"seed": 7, "summary": "x"}))
    assert first == again
    assert len(set(first.values())) == len(first)
    other = samples.failing().model_copy(update={"subject": samples.subject(name="rotate")})
    assert not set(prints(other).values()) & set(first.values())


@pytest.fixture
def project(tmp_path):
    (tmp_path / "my code").mkdir()
    (tmp_path / "my code" / "träin.py").write_text(
        textwrap.dedent(
            """
            raise RuntimeError("never executed")

            @decorated
            def build():
                return None
            """
        ),
        encoding="utf-8",
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("x = 1\nclass Build:\n    pass\n")
    (tmp_path / "bad.py").write_text("def build(:\n")
    (tmp_path.parent / "outside.py").write_text("def build():\n    pass\n")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("my code/träin.py:build", ("my%20code/tr%C3%A4in.py", 5)),
        ("my code/träin.py:absent", ("my%20code/tr%C3%A4in.py", 1)),
        ("package.module:Build", ("package/module.py", 2)),
        ("absent.py:build", None),
        ("bad.py:build", None),
        ("../outside.py:build", None),
        ("/etc/hosts.py:x", None),
        ("a live Learner", None),
        ("task no-such-task", None),
        ("", None),
        (":", None),
        ("\0.py:x", None),
        ("package:x", None),
    ],
)
def test_the_place_is_the_builders_file_and_line(project, source, place):
    assert sarif.location(source, project) == place


def test_an_absolute_path_within_the_root_becomes_relative(project):
    assert sarif.location(f"{project}/package/module.py:Build", project) == ("package/module.py", 2)


def test_a_task_is_where_it_is_defined(samples, monkeypatch, tmp_path):
    from diagnose import registry

    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.py").write_text('"""Mine."""\n')
    monkeypatch.setattr(registry, "task_entries", lambda: [registry.Entry("mine", "tasks.mine", "Mine.")])
    made = samples.failing().model_copy(update={"subject": samples.subject(source="task mine")})
    physical = read(made, tmp_path)["results"][0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"] == {"uri": "tasks/mine.py", "uriBaseId": "%SRCROOT%"}
    assert physical["region"] == {"startLine": 1}
    assert "physicalLocation" not in read(made, tmp_path / "tasks")["results"][0]["locations"][0]


def test_no_text_becomes_a_link(samples):
    check = samples.checks()[3].model_copy(update={"summary": "see [here](http://example.org) and [0, 1]"})
    (result,) = read(samples.diagnosis("warn", checks=[check]))["results"]
    assert result["message"]["text"] == r"initial-loss: see \[here](http://example.org) and [0, 1]"


def test_many_results_and_endless_texts_are_cut_and_counted(samples):
    many = [samples.checks()[3].model_copy(update={"id": f"c{i}", "summary": "x" * 9000}) for i in range(1100)]
    run = read(samples.diagnosis("warn", checks=many))
    assert len(run["results"]) == sarif.ALERTS
    assert run["properties"]["resultsLeftOut"] == 100
    assert max(len(r["message"]["text"]) for r in run["results"]) <= sarif.LONGEST
