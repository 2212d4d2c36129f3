"""Callables for a `cascade_bayes.Router` from any client that has the interface of OpenAI's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.serving.routed import Reply
from cascade_bayes.serving.router import Ask

Measure = Literal["answer_logprob", "mean_logprob", "first_logprob"]

MEASURES = ("answer_logprob", "mean_logprob", "first_logprob")
"""Confidences that can be had of a completion's tokens."""

ROUNDING = 1e-6
"""Log-probabilities that providers round may exceed 0 by so much."""


def ask_openai(
    client: Any,
    model: str,
    *,
    confidence: Measure = "answer_logprob",
    prices: Mapping[str, float] | None = None,
    system: str | None = None,
    is_async: bool | None = None,
    **options: Any,
) -> Ask:
    """Return a callable that asks a model through an OpenAI-compatible client.

    Parameters
    ----------
    client
        A client with ``chat.completions.create``, such as ``openai.OpenAI()`` or one that is told the
        ``base_url`` of another server; its own limits of time and numbers of retries apply.
    model
        What the provider calls the model.
    confidence
        What the confidence is, a natural logarithm of a probability, of kind ``logprob``:
        ``"answer_logprob"`` of the whole answer (the sum over its tokens), ``"mean_logprob"`` the mean of a
        token's, ``"first_logprob"`` that of the first token. It must be what the fitted table had.
    prices
        ``{"in": ..., "out": ...}`` in US dollars per million tokens; the call then costs what it used. By
        default it costs the policy's mean.
    system
        What is said to the model before the query.
    is_async
        Whether the client is asynchronous; by default whether the name of its class begins with ``Async``.
    **options
        What else ``create`` is given, such as ``temperature=0`` or ``max_tokens=20``.

    Returns
    -------
    callable
        From a query, which is text or a list of messages, to a `Reply`: the text of the first choice, its
        confidence, and its cost. An ``async def`` if the client is asynchronous. A completion without
        log-probabilities has the confidence None.

    Raises
    ------
    InputError
        If there is no such confidence, or prices lack ``in`` or ``out``.
    """
    if confidence not in MEASURES:
        raise InputError(f"confidence must be one of {names_of(MEASURES)}; got {confidence!r}. Choose one.")
    if prices is not None and not {"in", "out"} <= set(prices):
        raise InputError(
            f"prices must have 'in' and 'out', US dollars per million tokens; got {dict(prices)!r}. Write "
            f'for example {{"in": 0.15, "out": 0.6}}.'
        )

    def request(query: str | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        messages = [{"role": "user", "content": query}] if isinstance(query, str) else list(query)
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        return {"model": model, "messages": messages, "logprobs": True, **options}

    def reply(completion: Any) -> Reply:
        choice = completion.choices[0]
        return Reply(choice.message.content, _confidence(choice, confidence), _cost(completion, prices))

    if is_async if is_async is not None else type(client).__name__.startswith("Async"):

        async def ask_async(query: Any) -> Reply:
            return reply(await client.chat.completions.create(**request(query)))

        return ask_async

    def ask(query: Any) -> Reply:
        return reply(client.chat.completions.create(**request(query)))

    return ask


def _confidence(choice: Any, measure: Measure) -> float | None:
    """Return a choice's confidence, a log-probability; None if the provider gave none."""
    tokens = getattr(getattr(choice, "logprobs", None), "content", None)
    if not tokens:
        return None
    values = [float(token.logprob) for token in tokens]
    if measure == "first_logprob":
        value = values[0]
    else:
        value = sum(values) / (len(values) if measure == "mean_logprob" else 1)
    return 0.0 if 0.0 < value <= ROUNDING else value


def _cost(completion: Any, prices: Mapping[str, float] | None) -> float | None:
    """Return US dollars of a completion; None if no prices are given or the provider did not count tokens."""
    usage = getattr(completion, "usage", None)
    if prices is None or usage is None:
        return None
    return (usage.prompt_tokens * prices["in"] + usage.completion_tokens * prices["out"]) / 1e6
