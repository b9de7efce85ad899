"""What the gauges recorded of a trial, as evidence."""

from __future__ import annotations

import numpy as np

from diagnose.trial import Trial


def series(trial: Trial, column: str) -> list[float]:
    """One number a step from the table `steps`; empty if it was not recorded."""
    if trial.recorded is None or "steps" not in trial.recorded.tables:
        return []
    steps = trial.recorded.frame("steps")
    return steps[column].astype(float).tolist() if column in steps else []


def update_size(trial: Trial, every: int = 10) -> list[float]:
    """‖Δw‖/‖w‖ of all parameters together, of every so many steps that were made."""
    if trial.recorded is None or not {"updates", "weights"} <= set(trial.recorded.tables):
        return []
    updates = trial.recorded.frame("updates", ["step", "parameter", "ratio"])
    weights = trial.recorded.frame("weights", ["step", "parameter", "l2"])
    both = updates.astype({"parameter": str}).merge(weights.astype({"parameter": str}), on=["step", "parameter"])
    both["moved"] = (both["ratio"].astype(float) * both["l2"].astype(float)).replace(np.inf, np.nan) ** 2
    both["size"] = both["l2"].astype(float) ** 2
    whole = both.groupby("step")[["moved", "size"]].sum()
    return (np.sqrt(whole["moved"]) / np.sqrt(whole["size"].clip(lower=1e-24))).iloc[::every].tolist()
