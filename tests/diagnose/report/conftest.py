from __future__ import annotations

from types import ModuleType

import pytest
import report_samples


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    return report_samples


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "made" in metafunc.fixturenames:
        metafunc.parametrize("made", [f() for f in report_samples.ALL.values()], ids=list(report_samples.ALL))
