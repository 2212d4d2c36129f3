"""How sure a model is of its answer: one solver of Inspect for each way to ask.

Every confidence is kept as the natural logarithm of a probability, -inf to 0, so that all tables are read
alike: the share of votes and a stated percentage too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, ResponseSchema
from inspect_ai.solver import Solver, solver
from inspect_ai.util import JSONSchema

from cascade_bayes.collecting import tokens
from cascade_bayes.collecting.desk import SCHEMA_TOKENS, WORD_TOKENS, Desk, positions_of
from cascade_bayes.collecting.prompts import (
    CHOICES,
    INSISTENT,
    STATED,
    TRUE_OR_NOT,
    question_text,
)
from cascade_bayes.collecting.questions import LETTERS

TOP = 20
"""Most probable tokens that are asked for at each place: the most that OpenAI tells."""

NO_LOGPROBS = (
    "the provider told no log-probabilities; take another provider, or confidence='votes' or 'verbal' "
    "(--confidence votes), which need none"
)


@solver  # type: ignore[untyped-decorator]
def ask(desk: Desk, config: GenerateConfig, system: str | None) -> Solver:
    """Return the solver that asks the question itself, and reads the letter of an option from the answer.

    Parameters
    ----------
    desk
        The model that is asked.
    config
        Temperature of the answer, and whether its log-probabilities are asked for.
    system
        What the model is told before every question; None for nothing.
    """

    async def solve(state: Any, generate: Any) -> Any:
        query = str(state.sample_id)
        options = [choice.value for choice in state.choices]
        prompt = question_text(state.input_text, options)
        if options:
            prompt = CHOICES.format(question=prompt, letters=", ".join(LETTERS[: len(options)]))
        state.messages = [ChatMessageSystem(content=system)] if system else []
        state.messages.append(ChatMessageUser(content=prompt))
        limit = GenerateConfig(max_tokens=desk.answer_tokens(bool(options)))
        state.output = await desk.call(query, "answer", state.messages, config.merge(limit))
        state.messages.append(state.output.message)
        if options:
            letter = tokens.letter_of(state.output.completion, LETTERS[: len(options)])
            if letter is None:
                raise desk.fail(query, "unparsable", "the answer names none of the options")
            for i in range(len(options)):
                state.choices.mark_choice(i, LETTERS[i] == letter)
            state.store.set("letter", letter)
        elif not state.output.completion.strip():
            raise desk.fail(query, "unparsable", "the answer is empty")
        return state

    return solve


def _keep(desk: Desk, state: Any, confidence: float | None, otherwise: str) -> Any:
    """Enter a confidence, or that there is none."""
    query = str(state.sample_id)
    if confidence is None or math.isnan(confidence):
        raise desk.fail(query, "unparsable", otherwise)
    desk.rows[query]["confidence"] = confidence
    state.store.set("confidence", str(confidence))  # text: JSON has no infinity
    return state


@solver  # type: ignore[untyped-decorator]
def answer_logprob(desk: Desk, samples: int) -> Solver:
    """Return the solver that takes the log-probability of the answered letter (`tokens.answer_logprob`)."""

    async def solve(state: Any, generate: Any) -> Any:
        positions = positions_of(state.output.choices[0].logprobs)
        letter = state.store.get("letter")
        found = tokens.answer_logprob(positions, letter) if positions else None
        return _keep(desk, state, found, "no token is the letter" if positions else NO_LOGPROBS)

    return solve


@solver  # type: ignore[untyped-decorator]
def mean_logprob(desk: Desk, samples: int) -> Solver:
    """Return the solver that takes the mean log-probability of an answer's tokens (`tokens.mean_logprob`)."""

    async def solve(state: Any, generate: Any) -> Any:
        return _keep(
            desk, state, tokens.mean_logprob(positions_of(state.output.choices[0].logprobs)), NO_LOGPROBS
        )

    return solve


@solver  # type: ignore[untyped-decorator]
def p_true(desk: Desk, samples: int) -> Solver:
    """Return the solver that shows a model its own answer and asks whether it is true; see `tokens.p_true`.

    Where neither yes nor no is among the most probable tokens it asks once more, insistently; where neither
    is among those either, the confidence is -inf.
    """

    async def solve(state: Any, generate: Any) -> Any:
        query = str(state.sample_id)
        options = [choice.value for choice in state.choices]
        answer = state.store.get("letter") or state.output.completion.strip()
        prompt = TRUE_OR_NOT.format(question=question_text(state.input_text, options), answer=answer)
        config = GenerateConfig(temperature=0.0, logprobs=True, top_logprobs=TOP, max_tokens=WORD_TOKENS)
        for step, text in (("p_true", prompt), ("p_true again", prompt + INSISTENT)):
            output = await desk.call(query, step, [ChatMessageUser(content=text)], config)
            positions = positions_of(output.choices[0].logprobs)
            if not positions:
                return _keep(desk, state, None, NO_LOGPROBS)
            found = tokens.p_true(positions)
            if found is not None:
                return _keep(desk, state, found, "")
        return _keep(desk, state, -math.inf, "")

    return solve


@solver  # type: ignore[untyped-decorator]
def votes(desk: Desk, samples: int) -> Solver:
    """Return the solver that samples further answers and takes the share that agrees with the one given.

    It asks for all of them in one call; a provider that gives fewer is asked again for the rest. Answers
    agree if they name the same option, or are the same text but for capital letters, blanks and punctuation
    at their ends. The confidence is the logarithm of the share.
    """

    async def solve(state: Any, generate: Any) -> Any:
        query = str(state.sample_id)
        letters = LETTERS[: len(state.choices)]
        given = _same(state.output.completion, letters)
        prompt = [message for message in state.messages if message.role != "assistant"]
        replies: list[str] = []
        while len(replies) < samples:
            config = GenerateConfig(
                temperature=1.0,
                num_choices=samples - len(replies),
                max_tokens=desk.answer_tokens(bool(letters)),
            )
            output = await desk.call(query, f"votes from {len(replies)}", prompt, config)
            replies += [choice.message.text for choice in output.choices]
        share = sum(_same(reply, letters) == given for reply in replies) / len(replies)
        return _keep(desk, state, math.log(share) if share else -math.inf, "")

    return solve


def _same(reply: str, letters: str) -> str | None:
    """Return what of an answer has to agree with that of another."""
    if letters:
        return tokens.letter_of(reply, letters)
    return re.sub(r"\s+", " ", reply).strip().strip(".,;:!?\"'*").casefold()


@solver  # type: ignore[untyped-decorator]
def verbal(desk: Desk, samples: int) -> Solver:
    """Return the solver that asks a model for a number from 0 to 100: how sure it is of its answer.

    The number is asked for by a response schema; a provider that knows none may answer with the bare number.
    The confidence is the logarithm of the number over 100.
    """
    number = JSONSchema(type="integer", description="How sure you are, from 0 to 100.")
    schema = JSONSchema(
        type="object", properties={"confidence": number}, required=["confidence"], additionalProperties=False
    )

    async def solve(state: Any, generate: Any) -> Any:
        options = [choice.value for choice in state.choices]
        answer = state.store.get("letter") or state.output.completion.strip()
        prompt = STATED.format(question=question_text(state.input_text, options), answer=answer)
        config = GenerateConfig(
            temperature=0.0,
            max_tokens=SCHEMA_TOKENS,
            response_schema=ResponseSchema(name="confidence", json_schema=schema, strict=True),
        )
        output = await desk.call(str(state.sample_id), "verbal", [ChatMessageUser(content=prompt)], config)
        stated = stated_percent(output.completion)
        if stated is None:
            return _keep(desk, state, None, "the reply states no number from 0 to 100")
        return _keep(desk, state, math.log(stated / 100) if stated else -math.inf, "")

    return solve


def stated_percent(reply: str) -> float | None:
    """Return the number from 0 to 100 that a reply states, None if it states none."""
    text = reply.strip().rstrip("%").strip()
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("confidence")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return float(value)


class Way(NamedTuple):
    """One way to ask how sure a model is.

    Attributes
    ----------
    solver
        Makes its solver, given a desk and the number of samples.
    of_answer
        Whether the log-probabilities of the answer itself are used.
    """

    solver: Callable[[Desk, int], Solver]
    of_answer: bool


WAYS = {
    "answer_logprob": Way(answer_logprob, True),
    "mean_logprob": Way(mean_logprob, True),
    "p_true": Way(p_true, False),
    "votes": Way(votes, False),
    "verbal": Way(verbal, False),
}
"""Ways by the names that users give."""


def answer_config(way: str) -> GenerateConfig:
    """Return how the question itself is asked: at temperature 0, with log-probabilities if they are used."""
    if WAYS[way].of_answer:
        return GenerateConfig(temperature=0.0, logprobs=True, top_logprobs=TOP)
    return GenerateConfig(temperature=0.0)
