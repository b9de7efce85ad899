"""The page of a pull request: it says what matters, fits a comment, and no name in it is obeyed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from diagnose.report import markdown
from diagnose.report.compare import compare

OWN = {
    *("h2", "h3", "p", "strong", "em", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "details"),
    *("summary", "sub", "span"),
}
"""Every element that the writer makes itself."""

TRICKS = [
    "a | b \\| c",
    "``` \n```\n# heading",
    "`tick` ``two`` |",
    "*bold* _em_ ~~gone~~ [link](http://example.org) ![picture](http://example.org/x.png)",
    "http://example.org www.example.org HTTPS://EXAMPLE.ORG",
    "@octocat and #12 and a&lt;b &amp;",
    "<details><summary>x</summary></details> </details>",
    "$x^2$ $$y$$",
    "---",
    "- item",
    "1. item",
    "# heading",
    "> quoted",
    "===",
    "    indented",
    "line\r\nbreak\u2028and\u0085more\vtab\ttoo",
    "\\",
    "[^1]: note",
    "<!-- comment",
]


class Tree(HTMLParser):
    """Elements, links, texts and whether all that was opened is closed."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.addresses, self.texts, self.open = [], [], [], []
        self.comments = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.addresses += [v for name, v in attributes if name in ("href", "src")]
        if tag not in ("br", "hr", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        self.texts.append(data)


def shown(page: str) -> Tree:
    """As GitHub would show it: HTML is let through, tables and struck-out text are read."""
    return Tree(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(page))


def plain(text: str) -> str:
    return " ".join(text.replace("\u2060", "").split())


def test_any_diagnosis_fits_a_comment_and_holds_no_element_of_anothers(made):
    page = markdown.render(made)
    assert len(page.encode()) <= markdown.LIMIT
    tree = shown(page)
    assert set(tree.elements) <= OWN
    assert not tree.addresses
    assert not tree.comments
    assert not tree.open
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


def test_what_was_left_out_is_said(samples):
    assert "Shortened" in markdown.render(samples.hostile()) or "more in report.json" in markdown.render(
        samples.hostile()
    )
    many = [samples.checks()[0].model_copy(update={"id": f"check-{i}", "summary": "x" * 900}) for i in range(300)]
    page = markdown.render(samples.diagnosis(checks=many))
    assert len(page.encode()) <= markdown.LIMIT
    left_out = int(re.search(r"(\d+) more in report.json", page)[1])
    assert left_out + page.count("| `check-") == 300
    assert page.count("<details>") == page.count("</details>")
    assert page.rstrip().endswith("</sub>")


def test_an_enormous_fix_and_many_causes_leave_the_verdict_first(samples):
    code = "\n".join(f"line_{i} = {i}" for i in range(20_000))
    cause = samples.lr_too_high().model_copy(update={"fix": samples.Fix(text="Do it.", code=code), "where": ["x"] * 99})
    made = samples.diagnosis("fail", causes=[cause.model_copy(update={"id": f"cause-{i}"}) for i in range(30)])
    page = markdown.render(made)
    assert page.startswith("## ❌ FAIL: `unmix`")
    assert len(page.encode()) <= markdown.LIMIT
    assert "# the rest stands in report.json" in page
    assert "and 93 more" in page
    assert page.count("### Cause") == markdown.PROVEN
    assert "`cause-23`" in page


def test_failing_says_verdict_cause_numbers_fix_and_checks(samples):
    page = markdown.render(samples.failing())
    for said in (
        "## ❌ FAIL: `unmix`",
        "**It does not learn as it is: the learning rate 30 is too high, proven by learning at 0.003.**",
        "### Cause: `lr-too-high`, proven",
        "Where: `optimizer group 0`, `optimizer group 1`",
        "(same batch, same random numbers, one change): lr = 0.003 instead of 30",
        "| learned, of 1 | 0.00 | 0.95 |",
        "| last loss | NaN | 0.03366 |",
        "| best constant | 0.637 | 0.637 |",
        "| gradient norm, last | NaN | 0.081 |",
        "```python\nlearn = unmix_learner(lr=3e-3)\nlearn.fit_one_cycle(10, lr_max=3e-3)  # was 30\n```",
        "| ❌ fail | `overfit-one-batch` |",
        "| ⚠️ warn | `initial-loss` |",
        "<details><summary>Not checked: 2</summary>",
        "| `output-collapse` | suspected 0.55 |",
        "| `loss-double-activation` | ruled out |",
        "| ➖ not tested | `batch-too-small` |",
        "seed 0, learner-diagnose 0.1.0",
    ):
        assert said in page, said
    open_part = page[: page.index("<details>")]
    assert "| ✅ pass |" not in open_part
    assert {"details", "table", "pre"} <= set(shown(page).elements)


def test_passing_is_short_and_interrupted_is_marked(samples):
    page = markdown.render(samples.passing())
    assert page.startswith("## ✅ PASS: `unmix`")
    assert "Cause" not in page
    assert "Interrupted" not in page
    assert "Interrupted" in markdown.render(samples.interrupted())


@pytest.mark.parametrize("trick", TRICKS)
def test_text_is_shown_letter_by_letter(trick):
    for page in (markdown.text(trick), f"| a |\n| --- |\n| {markdown.text(trick)} |", f"**{markdown.text(trick)}**"):
        tree = shown(page)
        assert set(tree.elements) <= OWN - {"em", "code", "details", "summary", "pre", "h2", "h3"}, page
        assert plain(trick) in plain("".join(tree.texts)), page


@pytest.mark.parametrize("trick", TRICKS)
def test_a_name_is_shown_letter_by_letter_also_in_a_table(trick):
    for page in (markdown.code(trick), f"| a | b |\n| --- | --- |\n| {markdown.code(trick)} | x |"):
        tree = shown(page)
        assert set(tree.elements) <= {"p", "code", "table", "thead", "tbody", "tr", "th", "td"}, page
        assert plain(trick) in plain("".join(tree.texts)), page
        assert tree.elements.count("td") in (0, 2)


@pytest.mark.parametrize("trick", [*TRICKS, "````\n`````", "~~~\n</pre></code>"])
def test_code_cannot_leave_its_block(trick):
    tree = shown(markdown.block(trick) + "\n\nend")
    assert tree.elements == ["pre", "code", "p"]
    assert plain("".join(tree.texts)) == plain(trick.replace("\v", "�").replace("\x85", "�")) + " end"


MARKUP = st.text(st.sampled_from(" |\\`*_[]()<>&#~$@!-+=.:/\n\tab1é🧪"), max_size=40)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(MARKUP)
def test_no_mixture_of_signs_is_markup(mixed):
    said, name = markdown.text(mixed), markdown.code(mixed)
    for page in (said, f"| a | b |\n| --- | --- |\n| {said} | {name} |", f"**x {said}** {name} y"):
        tree = shown(page)
        assert set(tree.elements) <= OWN - {"em", "details", "summary", "pre", "h2", "h3"}, page
        assert not tree.addresses
        assert plain(mixed) in plain("".join(tree.texts)), page
        assert tree.elements.count("td") in (0, 2)


def test_mentions_and_addresses_are_broken():
    said = markdown.text("@octocat #12 http://x.org www.x.org me@x.org")
    assert not re.search(r"@\w|#\d|http://|www\.", said)


def test_a_very_long_name_is_cut():
    assert len(markdown.code("a" * 5000)) <= markdown.NAME + 2
    assert len(markdown.text("a" * 5000)) == markdown.SENTENCE
    assert markdown.code("") == "–"


def test_a_comparison_says_what_changed(samples):
    page = markdown.comparison(compare(samples.passing(), samples.failing()))
    assert page.startswith("## ❌ `unmix`: pass → fail")
    assert "| `lr` | 0.003 | 30 |" in page
    assert "| `lr-too-high` | – | proven |" in page
    assert "| `overfit-one-batch` | pass | fail |" in page
    assert "as before" in markdown.comparison(compare(samples.failing(), samples.failing()))
    assert "was interrupted" in markdown.comparison(compare(samples.interrupted(), samples.passing()))


def test_any_comparison_is_safe(made, samples):
    for other in (samples.hostile(), samples.passing()):
        page = markdown.comparison(compare(made, other))
        assert len(page.encode()) <= markdown.LIMIT
        assert set(shown(page).elements) <= OWN
        assert not shown(page).addresses
