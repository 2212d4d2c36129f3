"""Which tables with gaps are fitted as one chain, which by modules, and what is said of it."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gap_tables import NUM_QUERIES, log_of, make_table, without

from cascade_bayes import cli
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.structure import MIN_STOPPED, check_modular, default_structure, find_selection


def noisy_log(table: CascadeData, spread: float, seed: int = 1) -> CascadeData:
    """Return a log whose first model defers by its logit and noise of this spread."""
    logit = np.log(table.confidence[:, 0] / (1 - table.confidence[:, 0]))
    noise = np.random.default_rng(seed).normal(scale=spread, size=len(logit))
    return log_of(table, logit + noise < 0.6)


def test_a_running_cascade_is_told_by_its_threshold() -> None:
    table = make_table()
    low = table.confidence[:, 0] < 0.5
    found = find_selection(log_of(table, low))
    assert found is not None
    assert found[:2] == ("b", "a")
    assert found.threshold == table.confidence[~low, 0].min()
    assert found.sentence() == (
        f"Model 'b' has confidences of the queries on which 'a' is below {found.threshold:.6g}, "
        "and of no others."
    )
    # A handful of queries, or of those that stop, is enough: no test has power there, but a threshold shows.
    for num_queries in (4, 8, NUM_QUERIES):
        few = table.take(np.arange(num_queries))
        last = np.sort(few.confidence[:, 0])[-MIN_STOPPED]
        assert default_structure(log_of(few, few.confidence[:, 0] < last)) == "chain"


@pytest.mark.parametrize("num_models", [3, 5])
def test_longer_cascades_are_told_by_any_of_their_thresholds(num_models: int) -> None:
    table = make_table(num_models)
    low = table.confidence < 0.7
    assert default_structure(log_of(table, *low.T[:-1])) == "chain"
    # One model asked offline of everything, another of a subset, a third by a threshold.
    chosen = np.random.default_rng(0).random(NUM_QUERIES) < 0.5
    missing = np.zeros_like(low)
    missing[:, 1] = ~chosen
    missing[:, 2] = ~low[:, 0]
    assert default_structure(without(table, missing, rows=True)) == "chain"


def test_rules_that_no_single_threshold_tells_stay_a_chain() -> None:
    table = make_table()
    a = table.confidence[:, 0]
    abstaining = log_of(table, (a >= 0.25) & (a < 0.75))
    changed = log_of(table, a < np.where(np.arange(NUM_QUERIES) < 100, 0.4, 0.7))
    lost = np.zeros((NUM_QUERIES, 2), dtype=bool)
    lost[np.flatnonzero(a < 0.5)[:5], 1] = True  # calls that failed
    failures = without(log_of(table, a < 0.5), lost)
    surer = log_of(table, a > 0.5)
    for log in (abstaining, changed, failures, surer, noisy_log(table, 1.0)):
        found = find_selection(log)
        assert found == ("b", "a", None)
        assert found.sentence().startswith("Whether a query has a confidence of model 'b' depends on")


def test_gaps_that_no_cascade_made_are_modular() -> None:
    """Of 60 tables of each kind about as many as `LEVEL` allows by chance: 0.6 expected."""
    rng = np.random.default_rng(3)
    counts = dict.fromkeys(("here and there", "subset", "one", "same queries"), 0)
    for seed in range(60):
        table = make_table(3, 120, seed)
        subset = np.zeros((120, 3), dtype=bool)
        subset[rng.permutation(120)[:70], 1:] = True
        one = np.zeros((120, 3), dtype=bool)
        one[rng.integers(120), rng.integers(3)] = True
        kinds = {
            "here and there": rng.random((120, 3)) < 0.2,
            "subset": subset & (np.arange(3) == 2),
            "one": one,
            "same queries": subset,
        }
        for name, missing in kinds.items():
            counts[name] += default_structure(without(table, missing, rows=name != "one")) == "chain"
    assert counts["one"] == 0
    assert max(counts.values()) <= 3
    assert default_structure(make_table(5)) == "modular"


def test_gaps_too_few_to_matter_are_modular_whatever_their_reason() -> None:
    """Three of 200 queries, unsure ones, move no margin by more than 0.015."""
    table = make_table()
    missing = np.zeros((NUM_QUERIES, 2), dtype=bool)
    missing[np.argsort(table.confidence[:, 0])[:3], 1] = True
    assert find_selection(without(table, missing)) is None
    missing[np.argsort(table.confidence[:, 0])[:20], 1] = True
    assert find_selection(without(table, missing)) == ("b", "a", None)


def test_a_modular_fit_says_what_it_assumes() -> None:
    table = make_table()
    missing = np.zeros((NUM_QUERIES, 2), dtype=bool)
    missing[[3, 7], 1] = True
    blank = without(table, missing)
    with pytest.warns(DataWarning) as log:
        check_modular(blank, None)
    assert [str(caught.message) for caught in log] == [
        "of 200 queries confidences are missing (2 of model 'b'); each model, and each pair of models, is "
        "fitted to the queries that have it, as if which are missing did not depend on the confidences. If a "
        "running cascade left them out, fit with structure='chain' (--structure chain).",
        "structure='modular' does not use labels of answers without a confidence; there are 2.",
    ]
    running = log_of(table, table.confidence[:, 0] < 0.5)
    with pytest.warns(DataWarning, match="and not at random. Model 'b' has confidences of the"):
        check_modular(running, find_selection(running))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_modular(table, None)
    nothing_known = replace(blank, labelled=missing, correct=table.correct & missing)
    with pytest.raises(InputError, match="model 'a' must have labels of queries whose confidence is known"):
        check_modular(nothing_known, None)


@pytest.fixture
def run_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Fit a table on the command line, stop before anything is drawn, and return what is said."""

    def stop(*_: Any, **__: Any) -> None:
        raise InputError("Stopped.")

    def run(data: CascadeData) -> str:
        lines = ["query,model,confidence,correct,cost"]
        for row, column in np.argwhere(~np.isnan(data.cost)):
            value = data.confidence[row, column]
            cells = [f"q{row}", data.models[column], "" if np.isnan(value) else repr(float(value))]
            lines.append(",".join([*cells, str(int(data.correct[row, column])), str(data.cost[row, column])]))
        (tmp_path / "table.csv").write_text("\n".join([*lines, ""]))
        options = ["--confidence", "probability", "-o", str(tmp_path / "posterior.nc")]
        monkeypatch.setattr("cascade_bayes.inference.fit.draw", stop)
        monkeypatch.setattr(sys, "argv", ["cascade-bayes", "fit", str(tmp_path / "table.csv"), *options])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 2
        said = " ".join(capsys.readouterr().err.split())
        assert said.endswith("Error: Stopped.")
        return said

    return run


@pytest.mark.slow
def test_the_command_line_says_which_it_takes(run_fit: Any) -> None:
    table = make_table()
    said = run_fit(log_of(table, table.confidence[:, 0] < 0.5))
    assert "'a' is below 0.5" in said
    assert "Read as the log of a running cascade: fitting one Markov chain (--structure chain)." in said
    missing = np.zeros((NUM_QUERIES, 2), dtype=bool)
    missing[[3, 7], 1] = True
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # so that it is shown, and not raised
        said = run_fit(without(table, missing))
    assert "Warning: of 200 queries confidences are missing (2 of model 'b'); each model" in said
    assert "Read as" not in said
