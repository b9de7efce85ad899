from __future__ import annotations

from types import ModuleType

import pytest
import report_samples

from diagnose.diagnosis import Diagnosis


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    return report_samples


@pytest.fixture(params=list(report_samples.ALL))
def made(request: pytest.FixtureRequest) -> Diagnosis:
    """Each of the hand-made diagnoses."""
    return report_samples.ALL[request.param]()
