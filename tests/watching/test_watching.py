"""Watching a log: exact ranks, fair bets, few false alarms, alarms where something changed, a kept state."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from gap_tables import make_table
from posteriors import make_posterior
from scipy import stats

import cascade_bayes as cb
from cascade_bayes import InputError, Policy
from cascade_bayes.data import CascadeData
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.watching.martingale import SPREADS, TILTS, bet, bin_of, edges_of, rank, start_capital
from cascade_bayes.watching.streams import make_streams

TABLE = make_table(2, 300, seed=0)
POLICY = Policy(
    models=("a", "b"),
    thresholds=np.array([0.6]),
    draw_thresholds=np.zeros((0, 1)),
    error_price=1.0,
    question={"error_price": 1.0},
    prediction=Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.5), 2.0, 1.5, 2.5),
    kind="probability",
    call_cost=np.array([2.0, 20.0]),
    fit_digest="0" * 64,
)


def posterior_of(data: CascadeData) -> Any:
    """What `watch` asks of a posterior: its table and its digest."""
    return SimpleNamespace(data=data, digest=lambda: "1" * 64)


def lines_of(data: CascadeData, start: int = 0, **changes: Any) -> str:
    """The log that a cascade with the policy writes of a table."""
    lines = []
    for i in range(data.num_queries):
        for j, model in enumerate(data.models):
            row = {
                "query": f"q{start + i}",
                "model": model,
                "confidence": float(data.confidence[i, j]),
                "cost": float(data.cost[i, j]),
                "correct": bool(data.correct[i, j]),
            }
            lines.append(json.dumps(row | changes))
            if data.confidence[i, 0] >= 0.6:
                break
    return "".join(line + "\n" for line in lines)


def test_bets_are_fair() -> None:
    """The mean of what each bet pays is one, over a fine grid of ranks; so the capital is a martingale."""
    p = (np.arange(20_000) + 0.5) / 20_000
    before = start_capital()
    after = bet(np.broadcast_to(before, (20_000, *before.shape)), p)
    np.testing.assert_allclose(after.mean(axis=0), before, rtol=1e-6)
    assert after.min() > 0
    assert max(abs(TILTS)) < 2
    assert -0.5 < SPREADS.min() < SPREADS.max() < 1


@pytest.mark.parametrize("levels", [0, 2, 5])
def test_ranks_are_uniform_and_independent(levels: int) -> None:
    """Of tables of 30 values, discrete ones too, the first ranks are uniform, each whatever those before."""
    rng, found = np.random.default_rng(1), []
    for _ in range(1500):
        draw = rng.normal(size=36) if not levels else rng.integers(0, levels, 36).astype(float)
        values, ties, gaps = edges_of(draw[:30], rng.random(30))
        assert gaps.sum() == 31
        counts, ranks = gaps.astype(float), []
        for value in draw[30:]:
            place = bin_of(values, ties, value, rng.random())
            ranks.append(float(rank(counts, np.asarray(place), np.asarray(rng.random()))))
            counts[place] += 1
        found.append(ranks)
    p = np.array(found)
    assert min(stats.kstest(column, "uniform").pvalue for column in p.T) > 1e-3
    assert np.abs(np.corrcoef(p.T)[np.triu_indices(6, 1)]).max() < 4 / np.sqrt(1500)


def test_streams_are_those_of_queries_that_get_there() -> None:
    streams = make_streams(TABLE, POLICY)
    assert set(streams) == {
        (model, figure) for model in "ab" for figure in ("confidence", "cost", "accuracy")
    } | {("a", "deferral")}
    deferred = TABLE.confidence[:, 0] < 0.6
    assert streams["a", "deferral"].table_mean == deferred.mean()
    assert streams["b", "accuracy"].table_mean == TABLE.correct[deferred, 1].mean()


def test_an_unchanged_world_raises_no_alarm(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(lines_of(make_table(2, 1500, seed=7)))
    found = cb.watch(posterior_of(TABLE), POLICY, path)
    assert not found.changed
    assert found.num_queries == 1500
    assert found.sentence().startswith("Nothing is seen to have changed since the fit, in 1500 queries")


def changed(how: str, num_queries: int = 1000) -> str:
    data = make_table(2, num_queries, seed=8)
    if how == "cost":
        return lines_of(data, start=500, cost=3.0)
    if how == "accuracy":
        return lines_of(data, start=500, correct=False)
    return lines_of(data, start=500, confidence=0.97)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cost", r"The mean cost of a call of a is (2\.[89]\d*|3), 1 when fitted, since about query"),
        ("accuracy", r"a is right on \S+ % of its labelled answers, 62.3 % when fitted"),
        ("confidence", "The confidences of a are higher than in the fitted table"),
    ],
)
def test_changes_are_named_with_their_time(how: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(lines_of(make_table(2, 500, seed=9)) + changed(how))
    found = cb.watch(posterior_of(TABLE), POLICY, path)
    assert found.changed
    assert re.search(said, found.sentence())
    first = next(stream for stream in found.alarms if stream.figure == how)
    assert abs(first.since_query[first.best] - 500) < 60


def test_a_growing_log_is_read_once_and_says_the_same(tmp_path: Path) -> None:
    path, state = tmp_path / "log.jsonl", tmp_path / "state.json"
    text = lines_of(make_table(2, 400, seed=10)) + changed("cost", 200)
    whole = tmp_path / "whole.jsonl"
    whole.write_text(text)
    expected = cb.watch(posterior_of(TABLE), POLICY, whole)
    for part in (1000, 10_001, 30_000, len(text)):  # in the middle of lines
        path.write_text(text[:part])
        found = cb.watch(posterior_of(TABLE), POLICY, path, state=state)
    assert found.to_dict() == expected.to_dict()
    assert found.history == expected.history
    assert state.stat().st_size < 200_000
    path.write_text("x" * (len(text) - 1) + "\n")  # what was read is not read again
    assert cb.watch(posterior_of(TABLE), POLICY, path, state=state).to_dict() == expected.to_dict()
    with pytest.raises(InputError, match="state of another fit, policy or level"):
        cb.watch(posterior_of(TABLE), POLICY, path, state=state, level=0.05)
    good = json.loads(state.read_text())
    for place, name in (("progress", "offset"), ("streams", "a\ncost")):
        bad = json.loads(state.read_text())
        del bad[place][name]
        state.write_text(json.dumps(bad))
        with pytest.raises(InputError, match="was changed after it was written"):
            cb.watch(posterior_of(TABLE), POLICY, path, state=state)
        state.write_text(json.dumps(good))
    good["streams"]["a\ncost"]["capital"] = [[1.0]]
    state.write_text(json.dumps(good))
    with pytest.raises(InputError, match="was changed after it was written"):
        cb.watch(posterior_of(TABLE), POLICY, path, state=state)
    state.unlink()
    path.write_text(text)
    cb.watch(posterior_of(TABLE), POLICY, path, state=state)
    path.write_text("")
    with pytest.raises(InputError, match="is shorter than what was read"):
        cb.watch(posterior_of(TABLE), POLICY, path, state=state)


def test_logs_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for text, message in (("{\n", "must be a JSON object"), ('{"query": 1, "model": "z"}\n', "does not ask")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            cb.watch(posterior_of(TABLE), POLICY, path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        cb.watch(posterior_of(TABLE), POLICY, tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="level must lie between"):
        cb.watch(posterior_of(TABLE), POLICY, path, level=1.0)


def test_costs_that_nobody_measured_and_faults_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [
        {"query": "q1", "model": "a", "confidence": 0.9, "cost": 2.0},
        {"query": "q2", "model": "a", "confidence": None, "cost": 0.0, "decision": "fault"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {(s.model, s.figure): s.num_new for s in cb.watch(posterior_of(TABLE), POLICY, path).streams}
    assert found["a", "cost"] == 0
    assert found["a", "confidence"] == 1


def test_the_evidence_is_drawn(tmp_path: Path) -> None:
    mpl.use("agg")
    path = tmp_path / "log.jsonl"
    path.write_text(lines_of(make_table(2, 50, seed=9)) + changed("cost", 60))
    ax = cb.plot.watch(cb.watch(posterior_of(TABLE), POLICY, path))
    assert "a: cost" in ax.get_legend_handles_labels()[1]
    assert ax.get_xlabel() == "queries of the log"
    mpl.pyplot.close(ax.figure)


def test_the_command_says_so_by_its_exit_code(tmp_path: Path) -> None:
    """Twelve fitted queries, and a log in which calls of the first model are a hundred times as dear."""
    posterior, path = make_posterior(), tmp_path / "log.jsonl"
    posterior.save(tmp_path / "posterior.nc")
    models = posterior.data.models
    replace(
        POLICY,
        models=models,
        thresholds=np.array([0.5, 0.5]),
        draw_thresholds=np.zeros((0, 2)),
        call_cost=posterior.data.call_cost,
        prediction=POLICY.prediction._replace(reach_prob=(1.0, 0.5, 0.2)),
        fit_digest=posterior.digest(),
    ).save(tmp_path / "policy.json")
    rng = np.random.default_rng(0)

    def log(count: int, cost: float) -> str:
        rows = [
            {"query": f"{cost}-{i}", "model": models[0], "confidence": rng.uniform(0.6, 0.9), "cost": cost}
            for i in range(count)
        ]
        return "".join(json.dumps(row) + "\n" for row in rows)

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        files = [str(tmp_path / "posterior.nc"), str(tmp_path / "policy.json"), str(path)]
        command = [sys.executable, "-m", "cascade_bayes.cli", "watch", *files, *options]
        return subprocess.run(command, capture_output=True, text=True)

    path.write_text(log(3, 1.5e-4))
    quiet = run()
    assert quiet.returncode == 0, quiet.stderr
    assert "Nothing is seen to have changed since the fit, in 3 queries" in quiet.stdout
    with path.open("a") as file:
        file.write(log(400, 0.015))
    alarm = run("--json", "--picture", str(tmp_path / "watch.png"))
    assert alarm.returncode == 3, alarm.stderr
    record = json.loads(alarm.stdout)
    assert record["num_queries"] == 403
    assert f"The mean cost of a call of {models[0]} is 0.01" in record["sentence"]
    assert (tmp_path / "watch.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "log.jsonl.watch.json").exists()
