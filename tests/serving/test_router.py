"""The router: what it decides, what it logs, and what it does when a provider fails."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gap_tables import make_table

import cascade_bayes as cb
from cascade_bayes import InputError, Policy, Router
from cascade_bayes._units import Units
from cascade_bayes.data import CascadeData
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.rule import LOWEST
from cascade_bayes.serving.routed import Reply

MODELS = ("a", "b", "c")
NAN, INF = np.nan, np.inf


def policy_of(**changes: Any) -> Policy:
    """A policy of three models; probabilities."""
    entries: dict[str, Any] = {
        "models": MODELS,
        "thresholds": np.array([0.6, 0.7]),
        "draw_thresholds": np.zeros((0, 2)),
        "error_price": 1.0,
        "question": {"error_price": 1.0},
        "prediction": Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.6, 0.3), 2.0, 1.5, 2.5),
        "kind": "probability",
        "call_cost": np.array([1.0, 10.0, 100.0]),
        "fit_digest": "0" * 64,
    }
    return Policy(**entries | changes)


def asks(table: CascadeData) -> dict[str, Callable[[int], Reply]]:
    """Callables that answer the query of an index as a table has it."""

    def ask_of(model: int) -> Callable[[int], Reply]:
        def ask(query: int) -> Reply:
            right = bool(table.correct[query, model])
            return Reply(right, float(table.confidence[query, model]), float(table.cost[query, model]))

        return ask

    return {name: ask_of(i) for i, name in enumerate(table.models)}


@pytest.mark.parametrize("abstain", [None, np.array([0.2, 0.25, -INF]), np.array([-INF, 0.1, 0.4])])
def test_ten_thousand_queries_realise_what_evaluate_says(tmp_path: Path, abstain: Any) -> None:
    table = make_table(3, 10_000, seed=1)
    low = (
        {}
        if abstain is None
        else {
            "abstain_thresholds": abstain,
            "draw_abstain_thresholds": np.zeros((0, 3)),
            "terms": cb.Terms(abstain_price=0.1),
        }
    )
    policy = policy_of(**low)
    with Router(policy, asks(table), log=tmp_path / "log.jsonl") as router:
        results = [router.ask(i, f"q{i}") for i in range(table.num_queries)]
    expected = policy.evaluate(table).realised
    wrong = sum(r.outcome == "answered" and not r.answer for r in results)
    assert wrong / len(results) == expected.error
    assert sum(r.cost for r in results) / len(results) == pytest.approx(expected.cost, rel=1e-12)
    assert sum(r.outcome == "abstained" for r in results) / len(results) == expected.abstain
    log = cb.read_table(tmp_path / "log.jsonl", confidence="probability", logged_policy=policy)
    asked = ~np.isnan(log.cost)
    assert np.array_equal(asked.mean(axis=0), expected.reach_prob)
    np.testing.assert_array_equal(log.confidence[asked], table.confidence[asked])
    assert log.latency_ms is not None


def test_the_log_says_which_lines_a_query_has(tmp_path: Path) -> None:
    """Fault, unusable confidence and low confidence are told apart, and the log is still the policy's."""

    def ask(query: str) -> tuple[str, Any]:
        if query == "fault":
            raise TimeoutError("no answer in 5 s")
        return "small", {"unusable": 7.0, "none": None, "text": "high", "low": 0.1, "sure": 0.9}[query]

    models = {
        "a": ask,
        "b": lambda query: ("middle", 0.1 if query == "low" else 0.8),
        "c": lambda query: ("large", 0.0),
    }
    policy, path = policy_of(), tmp_path / "log.jsonl"
    with Router(policy, models, log=path) as router:
        found = {
            query: router.ask(query, query) for query in ("fault", "unusable", "none", "text", "low", "sure")
        }
        counts = router.counts
    assert [r.calls[0].outcome for r in found.values()] == [
        "fault",
        *["unusable"] * 3,
        "deferred",
        "answered",
    ]
    assert [r.answer for r in found.values()] == [*["middle"] * 4, "large", "small"]
    assert found["fault"].faults == ("a: the call failed (TimeoutError: no answer in 5 s)",)
    assert found["unusable"].faults == ("a: the confidence must be in [0, 1]; got 7.0",)
    assert not found["low"].faults
    assert counts["faulty calls"] == 1
    assert counts["unusable confidences"] == 3
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["decision"] for row in rows if row["query"] == "fault"] == ["fault", "answered"]
    read = cb.read_table(path, confidence="probability", logged_policy=policy)
    assert np.isnan(read.confidence[:4, 0]).all()
    assert read.cost[0].tolist()[:2] == [0.0, 10.0]


def test_a_fault_of_the_last_model_leaves_no_answer() -> None:
    def fail(query: str) -> tuple[str, float]:
        raise ConnectionError("refused")

    models = {"a": lambda query: ("small", 0.1), "b": fail, "c": fail}
    result = Router(policy_of(), models).ask("?")
    assert (result.outcome, result.answer, result.model) == ("fault", None, None)
    assert [call.answer for call in result.calls] == ["small", None, None]


def test_a_fault_goes_on_where_the_policy_would_have_answered() -> None:
    def fail(query: str) -> tuple[str, float]:
        raise ConnectionError("refused")

    models = {"a": fail, "b": lambda query: ("middle", None), "c": lambda query: ("large", None)}
    policy = policy_of(thresholds=np.array([-INF, -INF]))
    assert Router(policy, models).ask("?").model == "b"  # which answers without looking at its confidence


def test_faults_can_be_raised_and_are_logged(tmp_path: Path) -> None:
    def fail(query: str) -> tuple[str, float]:
        raise ConnectionError("refused")

    models = {"a": fail, "b": fail, "c": fail}
    router = Router(policy_of(), models, log=tmp_path / "log.jsonl", on_fault="raise")
    with pytest.raises(ConnectionError, match="refused"):
        router.ask("?")
    assert json.loads((tmp_path / "log.jsonl").read_text())["decision"] == "fault"
    with pytest.raises(ConnectionError):
        Router(policy_of(), models, faults=(TimeoutError,)).ask("?")


def test_a_last_model_that_may_abstain_needs_a_confidence() -> None:
    low = {
        "abstain_thresholds": np.array([-INF, -INF, 0.5]),
        "draw_abstain_thresholds": np.zeros((0, 3)),
        "terms": cb.Terms(abstain_price=0.1),
    }
    models: dict[str, Any] = dict.fromkeys(MODELS, lambda query: ("x", None))
    result = Router(policy_of(**low), models).ask("?")
    assert (result.outcome, result.answer) == ("unusable", None)


def test_the_router_decides_as_the_policy_does() -> None:
    """On confidences at, beside and far from thresholds, of 64 and 32 bits, missing ones too."""
    policy = policy_of(
        kind="logprob",
        thresholds=np.array([-0.1, LOWEST]),
        abstain_thresholds=np.array([-2.0, -INF, -INF]),
        draw_abstain_thresholds=np.zeros((0, 3)),
        terms=cb.Terms(abstain_price=0.1),
    )
    values = [-0.1, np.nextafter(-0.1, -1), np.float32(-0.1), -2.0, -3, -INF, NAN, 0]
    for first in values:
        for second in values:
            models: dict[str, Any] = {
                "a": lambda q, c=first: ("", c),
                "b": lambda q, c=second: ("", c),
                "c": lambda q: ("", NAN),
            }
            said = policy.decide([first, second, NAN])
            result = Router(policy, models).ask("?")
            assert (result.model or cb.ABSTAIN) == said


def test_confidences_are_those_of_the_fitted_table(tmp_path: Path) -> None:
    """Negative log-probabilities and grades are decided and logged as the table had them."""
    path = tmp_path / "nll.jsonl"
    policy = policy_of(kind="logprob", thresholds=np.array([-0.5, -1.0]), units=Units(given_as="nll"))
    models: dict[str, Any] = dict.fromkeys(MODELS, lambda query: ("", query))
    router = Router(policy, models, log=path)
    assert [router.ask(nll).model for nll in (0.4, 0.7, 1.2)] == ["a", "b", "c"]
    assert policy.read(path).confidence[1, :2].tolist() == [-0.7, -0.7]
    graded = policy_of(
        kind="score", thresholds=np.array([2.0, 3.0]), units=Units(grades=("low", "medium", "high"))
    )
    router = Router(graded, models, log=tmp_path / "grades.jsonl")
    assert [router.ask(word).model for word in ("Low", "medium", "high", "none")] == ["c", "a", "a", "c"]
    read = graded.read(tmp_path / "grades.jsonl")
    assert read.confidence[:, 0].tolist()[:3] == [1.0, 2.0, 3.0]


def test_infinite_confidences_are_logged(tmp_path: Path) -> None:
    policy = policy_of(kind="logprob", thresholds=np.array([-0.5, -1.0]))
    models: dict[str, Any] = dict.fromkeys(MODELS, lambda query: ("", -INF))
    Router(policy, models, log=tmp_path / "log.jsonl").ask("?")
    read = cb.read_table(tmp_path / "log.jsonl", logged_policy=policy)
    assert read.confidence.tolist() == [[-INF] * 3]


def test_a_hundred_threads_lose_no_line(tmp_path: Path) -> None:
    table, policy, path = make_table(3, 2000, seed=2), policy_of(), tmp_path / "log.jsonl"
    barrier = threading.Barrier(100)

    def work(start: int) -> None:
        barrier.wait()
        for i in range(start, table.num_queries, 100):
            router.ask(i)

    with Router(policy, asks(table), log=path) as router, ThreadPoolExecutor(100) as pool:
        list(pool.map(work, range(100)))
        counts = router.counts
    assert counts["answered"] == table.num_queries
    read = cb.read_table(path, confidence="probability", logged_policy=policy)
    assert np.sum(~np.isnan(read.cost)) == round(sum(policy.evaluate(table).realised.reach_prob) * 2000)
    assert read.num_queries == table.num_queries


def test_a_hundred_tasks_lose_no_line(tmp_path: Path) -> None:
    table, policy, path = make_table(3, 500, seed=3), policy_of(), tmp_path / "log.jsonl"
    plain = asks(table)
    running, most = 0, 0

    async def ask_first(query: int) -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return plain["a"](query)

    async def main() -> list[Any]:
        gate = asyncio.Semaphore(100)

        async def one(query: int) -> Any:
            async with gate:
                return await router.ask_async(query, f"q{query}")

        return await asyncio.gather(*map(one, range(table.num_queries)))

    with Router(policy, plain | {"a": ask_first}, log=path) as router:  # the others run in threads
        results = asyncio.run(main())
    assert most == 100
    wrong = np.mean([not r.answer for r in results])
    assert wrong == policy.evaluate(table).realised.error
    read = cb.read_table(path, confidence="probability", logged_policy=policy)
    assert np.sum(~np.isnan(read.cost)) == sum(len(r.calls) for r in results)


def test_misuse_is_refused_in_a_sentence(tmp_path: Path) -> None:
    ok: dict[str, Any] = dict.fromkeys(MODELS, lambda query: ("", 0.9))
    with pytest.raises(InputError, match="no callable for 'b'"):
        Router(policy_of(), {"a": ok["a"], "c": ok["c"]})
    with pytest.raises(TypeError, match="policy must be a Policy"):
        Router({"models": []}, ok)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"must end in \.jsonl"):
        Router(policy_of(), ok, log=tmp_path / "log.csv")
    (tmp_path / "cut.jsonl").write_text('{"query": "q1", "mod')
    with pytest.raises(InputError, match="was cut short"):
        Router(policy_of(), ok, log=tmp_path / "cut.jsonl")
    with pytest.raises(TypeError, match="must return an answer and a confidence"):
        Router(policy_of(), ok | {"a": lambda query: "answer"}).ask("?")
    with pytest.raises(InputError, match="the cost of a call of model 'a'"):
        Router(policy_of(), ok | {"a": lambda query: ("", 0.9, -1.0)}).ask("?")

    async def later(query: str) -> tuple[str, float]:
        return "", 0.9

    with pytest.raises(TypeError, match=r"await router\.ask_async"):
        Router(policy_of(), ok | {"a": later}).ask("?")


def test_a_full_disk_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ok: dict[str, Any] = dict.fromkeys(MODELS, lambda query: ("", 0.9))
    router = Router(policy_of(), ok, log=tmp_path / "log.jsonl")
    router._log._file, file = -2, router._log._file  # type: ignore[union-attr]  # no such file is open
    with caplog.at_level(logging.ERROR):
        assert router.ask("?").model == "a"
    router._log._file = file  # type: ignore[union-attr]
    assert "did not take query" in caplog.text
    assert router.counts["unlogged"] == 1


def test_what_a_service_needs_is_light() -> None:
    code = (
        "import sys; from cascade_bayes import Router, ask_openai; "
        "heavy = {'jax', 'numpyro', 'pandas', 'pyarrow', 'scipy', 'arviz', 'matplotlib', 'asyncio', 'typer', "
        "'cascade_bayes.reading'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def completion(*logprobs: float) -> Any:
    """What a client of OpenAI's interface returns."""
    tokens = [SimpleNamespace(token="x", logprob=value) for value in logprobs]
    choice = SimpleNamespace(
        message=SimpleNamespace(content="Lima"), logprobs=SimpleNamespace(content=tokens)
    )
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
    return SimpleNamespace(choices=[choice], usage=usage)


def client_of(create: Any, name: str = "OpenAI") -> Any:
    """A client whose completions one function makes."""
    return type(name, (), {"chat": SimpleNamespace(completions=SimpleNamespace(create=create))})()


@pytest.mark.parametrize(
    ("measure", "value"), [("answer_logprob", -0.6), ("mean_logprob", -0.2), ("first_logprob", -0.3)]
)
def test_openai_clients_are_asked(measure: Any, value: float) -> None:
    seen: dict[str, Any] = {}

    def create(**given: Any) -> Any:
        seen.update(given)
        return completion(-0.3, -0.2, -0.1)

    ask = cb.ask_openai(
        client_of(create),
        "m",
        confidence=measure,
        prices={"in": 1.0, "out": 4.0},
        system="Be brief.",
        temperature=0,
    )
    reply = ask("Capital of Peru?")
    assert reply.answer == "Lima"
    assert reply.confidence == pytest.approx(value)
    assert reply.cost == pytest.approx(140e-6)
    assert [message["role"] for message in seen["messages"]] == ["system", "user"]
    assert seen["logprobs"] is True
    assert seen["temperature"] == 0


def test_openai_clients_without_log_probabilities() -> None:
    bare = completion()
    bare.choices[0].logprobs, bare.usage = None, None
    reply = cb.ask_openai(client_of(lambda **_: bare), "m", prices={"in": 1.0, "out": 4.0})("?")
    assert reply == ("Lima", None, None)
    with pytest.raises(InputError, match="confidence must be one of"):
        cb.ask_openai(client_of(None), "m", confidence="verbal")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prices must have 'in' and 'out'"):
        cb.ask_openai(client_of(None), "m", prices={"in": 1.0})


def test_asynchronous_openai_clients_are_awaited() -> None:
    async def create(**given: Any) -> Any:
        return completion(1e-9)

    policy = policy_of(kind="logprob", thresholds=np.array([-0.5, -1.0]))
    ask = cb.ask_openai(client_of(create, "AsyncOpenAI"), "m")
    result = asyncio.run(Router(policy, dict.fromkeys(MODELS, ask)).ask_async("?"))
    assert (result.model, result.calls[0].confidence) == ("a", 0.0)


@pytest.mark.long
def test_a_log_fitted_back_covers_the_parameters(tmp_path: Path) -> None:
    """A fit of the log has the accuracy of each model as a fit of the complete table has it."""
    table = make_table(2, 800, seed=4)
    policy = policy_of(
        models=("a", "b"),
        thresholds=np.array([0.6]),
        draw_thresholds=np.zeros((0, 1)),
        call_cost=np.array([1.0, 10.0]),
        prediction=Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.6), 2.0, 1.5, 2.5),
    )
    path = tmp_path / "log.jsonl"
    with Router(policy, asks(table), log=path) as router:
        for i in range(table.num_queries):
            router.ask(i, f"q{i}")
    log = cb.read_table(
        path, confidence="probability", logged_policy=policy, confidence_map=table.confidence_map
    )
    asked = ~np.isnan(log.cost)
    labelled = replace(log, labelled=asked, correct=table.correct & asked)
    options: dict[str, Any] = {"seed": 0, "num_chains": 2, "progress": False}
    whole, part = cb.fit(table, structure="chain", **options), cb.fit(labelled, **options)
    for name in ("intercept", "slope", "tau"):
        target = whole.samples[name].reshape(-1, *whole.samples[name].shape[2:]).mean(axis=0)
        draws = part.samples[name].reshape(-1, *part.samples[name].shape[2:])
        low, high = np.quantile(draws, [0.005, 0.995], axis=0)
        assert ((low <= target) & (target <= high)).all(), name
