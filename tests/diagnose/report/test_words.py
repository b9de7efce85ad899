"""The checklist in words."""

from __future__ import annotations

from diagnose.report import html, words


def test_the_checklist_is_grouped_by_question_and_the_most_certain_answer_counts(samples):
    lines = {q.asked: q for q in words.questions(samples.failing())}
    rate = lines["6. Is the learning rate far too high or too low?"]
    assert rate.answer == "yes"
    assert [a.id for a in rate.causes] == ["lr-too-high", "lr-too-low"]
    assert lines["3. Is it the network's last activation?"].answer == "no"
    assert lines["15. Does a small batch cause it?"].answer == "not tested"
    assert [a.id for a in lines["Is it anything else?"].causes] == ["train-valid-leak"]


def test_where_something_is_wrong_and_nothing_is_proven_no_question_is_answered_with_no(samples):
    failing = samples.failing()
    lines = {q.asked: q.answer for q in words.questions(failing)}
    unproven = failing.model_copy(update={"causes": [], "verdict": "warn"})
    others = {q.asked: q.answer for q in words.questions(unproven)}
    assert "no" in lines.values()
    assert others == {asked: "none known" if answer == "no" else answer for asked, answer in lines.items()}
    assert ">none known</span>" in html.render(unproven)
    assert "of the causes that are known it is none" in html.render(unproven)
    assert "it is none" not in html.render(failing)
    healthy = unproven.model_copy(update={"verdict": "pass"})
    assert "no" in {q.answer for q in words.questions(healthy)}


def test_a_cause_that_answers_two_questions_stands_in_both(samples):
    lines = words.questions(samples.failing())
    assert sum(any(a.id == "loss-double-activation" for a in q.causes) for q in lines) == 2


def test_the_page_answers_every_line_with_its_reason(samples):
    page = html.render(samples.failing())
    assert "But could it be …?" in page
    assert "1 yes, 3 no, 1 not tested" in page
    assert "learning rate 0.003: 0.98 learned" in page


def test_no_checklist_no_section(samples):
    assert "could it be" not in html.render(samples.passing())
