"""Collecting a table through Inspect: from its mock model and from a server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("inspect_ai", reason="needs the extra: pip install '.[collect]'")

from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer
from local_server import FaultError, Server, plainly, reply

import cascade_bayes as cb
from cascade_bayes.collecting import collect
from cascade_bayes.collecting.run import prepare
from cascade_bayes.errors import DataWarning, InputError

pytestmark = [
    # of streams inside Inspect, which it leaves to the collector of garbage
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUESTIONS = [
    {"id": "fr", "input": "Capital of France?", "target": "Paris"},
    {"id": "pe", "input": "Capital of Peru?", "target": "Lima"},
    {"id": "no", "input": "Capital of Norway?", "target": "Oslo"},
]
CHOICES = [{**row, "choices": ["Oslo", "Lima", "Paris", "Rome"]} for row in QUESTIONS]
ANSWERS = {"France": "Paris", "Peru": "Lima", "Norway": "Bergen"}
PRICES = {"small": {"in": 1.0, "out": 2.0}, "large": {"in": 10.0, "out": 20.0}}
TRUE = {"Paris": 0.75, "Lima": 0.5, "Bergen": 0.2}
"""How much of its probability the server puts on yes, by the answer that is shown to it."""


def text_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def answer(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer as a model that knows two of three capitals would."""
    text = text_of(body)
    said = next(name for country, name in ANSWERS.items() if country in text)
    if "Reply in JSON" in text:
        return [reply(json.dumps({"confidence": round(100 * TRUE[said])}))]
    if "Proposed answer" in text:
        yes = TRUE[said]
        places = [
            [("Y", math.log(0.6 * yes)), (" Yes", math.log(0.3 * yes)), ("N", math.log(0.9 * (1 - yes)))]
        ]
        return [reply("Y", places)]
    if "multiple-choice" in text:
        letter = {"Paris": "C", "Lima": "B", "Bergen": "D"}[said]
        return [
            reply(letter, [[(letter, math.log(0.5)), (f" {letter}", math.log(0.25)), ("Z", math.log(0.1))]])
        ]
    places = [[(said[:2], -0.2), ("x", -3.0)], [(said[2:], -0.4), ("y", -3.0)]]
    votes = [said, said.upper() + ".", "Rome", said] * 3
    return [reply(votes[i], places) for i in range(body.get("n") or 1)]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Any:
    with Server(answer) as server:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", "none")
        yield server


MODELS = {"small": "openai-api/local/small", "large": "openai-api/local/large"}


def test_p_true_of_a_server_becomes_a_table(served: Server, tmp_path: Path) -> None:
    output = tmp_path / "results.parquet"
    found = collect(QUESTIONS, MODELS, prices=PRICES, output=output, progress=False)
    table = found.table
    assert list(table.columns) == [
        *("query", "model", "confidence", "correct", "answer"),
        *("cost", "tokens_in", "tokens_out", "latency_ms"),
    ]
    assert table["answer"].tolist() == ["Paris", "Lima", "Bergen"] * 2
    assert table["correct"].tolist() == [1, 1, 0] * 2
    by_hand = [math.log(0.9 * p / (0.9 * p + 0.9 * (1 - p))) for p in TRUE.values()]
    np.testing.assert_allclose(table["confidence"], by_hand * 2, rtol=1e-12)
    assert table["tokens_in"].tolist() == [40] * 6  # two calls of 20 tokens
    assert table["tokens_out"].tolist() == [4] * 6
    np.testing.assert_allclose(table["cost"], [48e-6] * 3 + [480e-6] * 3)
    assert (table["latency_ms"] > 0).all()
    assert found.dollars == pytest.approx(table["cost"].sum())
    assert served.calls == 12
    assert served.bodies[0]["temperature"] == 0.0
    data = cb.read_table(output)  # as it stands
    assert data.models == ("small", "large")
    assert data.summary()["accuracy"] == pytest.approx({"small": 2 / 3, "large": 2 / 3})


@pytest.mark.parametrize(
    ("way", "questions", "scorer", "expected"),
    [
        ("answer_logprob", CHOICES, "choice", [math.log(0.75)] * 3),
        ("mean_logprob", QUESTIONS, "includes", [-0.3] * 3),
        ("votes", QUESTIONS, "match", [math.log(0.75)] * 3),
        ("verbal", QUESTIONS, "match", [math.log(p) for p in TRUE.values()]),
    ],
)
def test_every_confidence_against_the_server(
    served: Server, way: str, questions: list[dict[str, Any]], scorer: str, expected: list[float]
) -> None:
    found = collect(
        questions, {"m": MODELS["small"]}, confidence=way, scorer=scorer, samples=4, progress=False
    )
    np.testing.assert_allclose(found.table["confidence"], expected, rtol=1e-12)
    assert found.table["correct"].tolist() == [1, 1, 0]
    assert "cost" not in found.table
    if way == "votes":
        assert served.bodies[-1]["n"] == 4
        assert served.bodies[-1]["temperature"] == 1.0
    if way == "verbal":
        assert any("response_format" in body for body in served.bodies)


def test_votes_are_asked_for_again_where_a_provider_gives_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(lambda body: answer({**body, "n": 1})) as server:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", "none")
        found = collect(QUESTIONS[:1], {"m": MODELS["small"]}, confidence="votes", samples=3, progress=False)
        assert server.calls == 4
    assert found.table["confidence"].tolist() == [0.0]


def test_p_true_asks_again_and_gives_up_at_minus_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    def vaguely(body: dict[str, Any]) -> list[dict[str, Any]]:
        text = text_of(body)
        if "Proposed answer" not in text:
            return answer(body)
        insists = "nothing but" in text
        return [plainly("Y", 0.8) if insists and "France" in text else plainly("Perhaps")]

    with Server(vaguely) as server:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", "none")
        found = collect(QUESTIONS, {"m": MODELS["small"]}, progress=False)
        assert server.calls == 9
    assert found.table["confidence"].tolist() == [0.0, -math.inf, -math.inf]


def test_what_fails_is_absent_and_counted_by_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limited: list[int] = []

    def badly(body: dict[str, Any]) -> list[dict[str, Any]]:
        text = text_of(body)
        if body["model"] == "large":
            if not limited:
                limited.append(1)
                raise FaultError(429, Retry_After="0.01")
            return answer(body)
        if "France" in text:
            raise FaultError(400)
        if "Peru" in text:
            return [reply("", finish="content_filter", refusal="I cannot help with that.")]
        return [reply("")]

    with Server(badly) as server:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", "none")
        with pytest.warns(
            DataWarning, match=r"small: 1 provider fault, 1 refused, 1 unparsable; the first: "
        ):
            found = collect(QUESTIONS, MODELS, folder=tmp_path / "calls", progress=False)
        assert found.table["model"].tolist() == ["large"] * 3
        assert found.failed == {"small": {"provider": 1, "refused": 1, "unparsable": 1}, "large": {}}
        before = server.calls
        with pytest.warns(DataWarning):
            again = collect(QUESTIONS, MODELS, folder=tmp_path / "calls", progress=False)
        assert server.calls == before + 1, "the fault alone is asked again"
    assert again.failed == found.failed
    assert again.table.equals(found.table)


def test_a_provider_without_logprobs_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(lambda body: [reply("Paris")]) as server:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", "none")
        with pytest.raises(
            InputError, match=r"no model gave .* told no log-probabilities; .*--confidence votes"
        ):
            collect(QUESTIONS, {"m": MODELS["small"]}, progress=False)


def test_the_limit_of_costs_is_kept_and_can_be_raised(served: Server, tmp_path: Path) -> None:
    give = {"models": {"small": MODELS["small"]}, "prices": PRICES, "folder": tmp_path, "progress": False}
    job = prepare(QUESTIONS, give["models"], prices=PRICES, max_tokens=4)
    assert job.estimate().calls == 9
    dollars = job.estimate().dollars
    assert dollars is not None
    whole = collect(QUESTIONS, **{**give, "folder": tmp_path / "whole"}, max_tokens=4)
    assert 0 < whole.dollars < dollars
    served.asked.clear()
    with pytest.warns(DataWarning, match="small: .* left out for the limit"):
        part = collect(QUESTIONS, **give, max_tokens=4, connections=1, max_cost=2.4e-4)
    assert part.dollars <= 2.4e-4
    assert 0 < len(part.table) < 3
    collected = collect(QUESTIONS, **give, max_tokens=4, max_cost=2 * dollars)
    assert collected.table["confidence"].equals(whole.table["confidence"])
    assert set(served.asked.values()) == {1}, "nothing is asked twice"


def test_a_grader_is_paid_for_and_kept(
    served: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def graded(body: dict[str, Any]) -> list[dict[str, Any]]:
        if body["model"] != "judge":
            return answer(body)
        return [reply("GRADE: C" if "Paris" in text_of(body) else "GRADE: I")]

    with Server(graded) as server:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        prices = {**PRICES, "openai-api/local/judge": {"in": 100.0, "out": 100.0}}
        for calls in (9, 9):
            found = collect(
                QUESTIONS,
                {"small": MODELS["small"]},
                scorer="model_graded_qa",
                grader="openai-api/local/judge",
                prices=prices,
                folder=tmp_path,
                progress=False,
            )
            assert server.calls == calls
            assert found.table["correct"].tolist() == [1, 0, 0]
            assert found.dollars == pytest.approx(found.table["cost"].sum() + 3 * 22 * 100e-6)


def test_models_and_scorers_of_inspect_are_taken() -> None:
    def out(messages: Any, *_: Any) -> ModelOutput:
        said = ModelOutput.from_content("mock", "42" if "Proposed" not in messages[-1].text else "85 %")
        said.usage = ModelUsage(input_tokens=7, output_tokens=1, total_tokens=8, input_tokens_cache_read=3)
        return said

    @scorer(metrics=[accuracy()])
    def long_enough() -> Any:
        async def score(state: Any, target: Any) -> Score:
            return Score(value=CORRECT if len(state.output.completion) > 1 else INCORRECT)

        return score

    found = collect(
        QUESTIONS,
        [get_model("mockllm/model", custom_outputs=out, memoize=False)],
        confidence="verbal",
        scorer=long_enough(),
        progress=False,
    )
    assert found.table["model"].tolist() == ["mockllm/model"] * 3
    np.testing.assert_allclose(found.table["confidence"], math.log(0.85))
    assert found.table["correct"].tolist() == [1, 1, 1]
    assert found.table["tokens_in"].tolist() == [20] * 3  # those that the provider had cached too


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"confidence": "sure"}, "there is no confidence 'sure'"),
        ({"confidence": "answer_logprob"}, "question 'fr' has no choices. Add a column 'choices'"),
        ({"scorer": "choice"}, "question 'fr' has no choices"),
        ({"scorer": "mtch"}, "there is no scorer 'mtch'. Did you mean 'match'"),
        ({"scorer": "no_module:made"}, "cannot be made: No module named 'no_module'"),
        ({"scorer": "model_graded_qa"}, "needs a model that grades"),
        ({"grader": "openai/x"}, "is for the scorer 'model_graded_qa' alone"),
        ({"max_cost": 1.0}, r"max_cost \(--max-cost\) needs prices"),
        ({"max_cost": -1.0, "prices": PRICES}, "must be US dollars above 0; got -1.0"),
        ({"prices": {"smal": {"in": 1, "out": 1}}}, "no entry for model 'small'. Did you mean 'smal'"),
        ({"models": []}, "at least one model"),
        ({"models": ["a", "a"]}, "'a' is listed twice"),
        ({"models": {"x": "no/such"}}, "Inspect cannot start: .*Check the names of the models"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"output": "table.xlsx"}, "must end in one of .parquet, .csv, .jsonl"),
        ({"questions": CHOICES}, "take scorer='choice'"),
    ],
)
def test_what_cannot_be_collected_is_said_in_a_sentence(given: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"questions": QUESTIONS, "models": {"small": "mockllm/model"}, "progress": False}
    with pytest.raises(InputError, match=message) as raised:
        collect(**{**usual, **given})
    assert "\n" not in str(raised.value)


def test_a_running_loop_does_not_matter(served: Server) -> None:
    import asyncio

    async def inside() -> Any:
        return collect(QUESTIONS[:1], {"small": MODELS["small"]}, progress=False)

    assert asyncio.run(inside()).table["answer"].tolist() == ["Paris"]


def test_progress_is_told_with_dollars(served: Server) -> None:
    told: list[tuple[int, int, float]] = []
    collect(
        QUESTIONS,
        {"small": MODELS["small"]},
        prices=PRICES,
        progress=lambda *now: told.append(now),
        connections=1,
    )
    assert [(done, total) for done, total, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[-1][2] == pytest.approx(3 * 48e-6)
    assert re.fullmatch(
        r"At most 9 calls; no prices given\.", prepare(QUESTIONS, ["a"]).estimate().sentence()
    )
