"""Numbers for people, and tables in Markdown."""

import pytest

from sslwang.scores import interval
from sslwang.telling import counted, markdown_table, points


@pytest.mark.parametrize(
    ("values", "sign", "deviation", "said"),
    [
        ([0.5], True, True, "+50.0"),
        ([0.1, 0.2, 0.3], False, False, "20.0 (-4.8 to 44.8)"),
        ([0.1, 0.2, 0.3], True, True, "+20.0 ± 10.0 (-4.8 to +44.8)"),
        ([-0.0001, -0.0003], True, False, "0.0 (-0.1 to +0.1)"),
        ([0.2, 0.2, 0.2], True, True, "+20.0 (3 alike)"),
        ([0.3 - 0.1, 0.4 - 0.2], False, False, "20.0 (2 alike)"),
    ],
)
def test_intervals_are_told_in_points(values, sign, deviation, said):
    assert points(interval(values), sign, deviation) == said


def test_of_equal_values_nothing_is_excluded():
    assert not interval([0.2, 0.2, 0.2]).excludes(0)
    assert not interval([0.6 - 0.5, 0.7 - 0.6, 0.3 - 0.2]).excludes(0)
    assert interval([0.2, 0.2001, 0.2]).excludes(0)
    assert not interval([0.2]).alike


def test_tables_and_counts():
    assert markdown_table(["a", "b"], [["1", "x|y"]]) == ["| a | b |", "| --- | --- |", "| 1 | x\\|y |"]
    assert [counted(n, "run") for n in (1, 2)] == ["1 run", "2 runs"]
