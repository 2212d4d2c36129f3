"""One model at work: every call that is made for it goes through here, and is priced and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from inspect_ai.model import CachePolicy, ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model

from cascade_bayes.collecting.ledger import Call, Key, Ledger, LimitReachedError
from cascade_bayes.collecting.tables import Row, dollars_of
from cascade_bayes.collecting.tokens import Position


class FailedCallError(Exception):
    """A question that a model gave no usable answer to; its first word is the kind of the failure."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind, self.reason = kind, what


class Desk:
    """What is asked of one model, and what came of it.

    Parameters
    ----------
    name
        Name of the model in the table.
    ledger
        Where its calls are entered.
    max_tokens
        Most tokens of an answer; None for 16 for a letter and 256 for other answers.

    Attributes
    ----------
    rows
        What is known of each question that has been answered, by its name.
    failed
        Kind of failure of each that has not, by its name.
    reasons
        What each of these failures is, in words.
    """

    def __init__(self, name: str, ledger: Ledger, max_tokens: int | None) -> None:
        self.name, self.ledger, self.max_tokens = name, ledger, max_tokens
        self.rows: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def answer_tokens(self, is_choice: bool) -> int:
        """Return the most tokens of an answer."""
        return self.max_tokens or (CHOICE_TOKENS if is_choice else ANSWER_TOKENS)

    async def call(
        self, query: str, step: str, messages: Sequence[Any], config: GenerateConfig
    ) -> ModelOutput:
        """Ask the model, or return what it answered in an earlier run.

        Parameters
        ----------
        query
            Name of the question.
        step
            What the call is for, such as ``answer``; with the question the call's place in the cache.
        messages
            What is sent.
        config
            How it is to be answered.

        Raises
        ------
        FailedCallError
            If the model refused, or the limit of costs does not allow the call.
        """
        try:
            key = (self.name, query, step)
            output = await paid_call(get_model().generate, key, self.ledger, list(messages), config)
        except FailedCallError as error:
            self.failed[query], self.reasons[query] = error.kind, error.reason
            raise
        call = self.ledger.calls[(self.name, query, step)]
        kept = self.rows.setdefault(query, {"tokens_in": 0, "tokens_out": 0, "seconds": 0.0})
        kept["tokens_in"] += call.tokens_in
        kept["tokens_out"] += call.tokens_out
        kept["seconds"] += call.seconds
        return output

    def fail(self, query: str, kind: str, what: str) -> FailedCallError:
        """Note that a question has no usable answer, and return what is to be raised."""
        self.failed[query], self.reasons[query] = kind, what
        return FailedCallError(kind, what)

    def row(self, query: str, correct: int, answer: str) -> Row:
        """Return the row of a question that has been answered and judged."""
        kept = self.rows[query]
        tokens_in, tokens_out = kept["tokens_in"], kept["tokens_out"]
        price = None if self.ledger.prices is None else self.ledger.prices[self.name]
        return Row(
            query,
            self.name,
            kept["confidence"],
            correct,
            answer,
            dollars_of(tokens_in, tokens_out, price),
            tokens_in,
            tokens_out,
            round(1000 * kept["seconds"], 3),
        )


CHOICE_TOKENS, ANSWER_TOKENS, WORD_TOKENS, SCHEMA_TOKENS, GRADE_TOKENS = 16, 256, 8, 64, 1024
"""Most tokens of a letter, of another answer, of a Y or N, of a number in a schema, and of a grade."""


async def paid_call(
    generate: Callable[..., Any], key: Key, ledger: Ledger, messages: list[Any], config: GenerateConfig
) -> ModelOutput:
    """Make one call that is set aside for, cached and entered.

    Parameters
    ----------
    generate
        The method of a model of Inspect that calls it.
    key
        Model, question and step of the call.
    ledger
        Where it is entered.
    messages
        What is sent.
    config
        How it is to be answered.

    Raises
    ------
    FailedCallError
        If the model refused, or the limit of costs does not allow the call.
    """
    before = ledger.calls.get(key)
    if before is not None and before.refused:
        raise FailedCallError("refused", "the model declined to answer in an earlier run")
    name, query, step = key
    text_bytes = sum(len(message.text.encode()) for message in messages)
    tokens_out = (config.max_tokens or GRADE_TOKENS) * (config.num_choices or 1)
    most = ledger.bound(name, text_bytes, len(messages), tokens_out)
    try:
        reserved = await ledger.reserve(key, most)
    except LimitReachedError as error:
        raise FailedCallError("budget", "the limit of costs was reached") from error
    finished: Call | None = None
    try:
        scopes = {"model": name, "query": query, "step": step}
        policy = CachePolicy(expiry=None, per_epoch=False, scopes=scopes)
        output: ModelOutput = await generate(messages, config=config, cache=policy)
        refused = is_refusal(output)
        finished = before or Call(*tokens_of(output.usage), float(output.time or 0.0), refused)
    finally:
        ledger.settle(key, reserved, finished)
    if refused:
        raise FailedCallError("refused", "the model or its provider declined to answer")
    return output


def is_refusal(output: ModelOutput) -> bool:
    """Whether a model, or a filter of its provider, declined to answer."""
    if not output.choices or output.stop_reason == "content_filter":
        return True
    content = output.message.content
    return not isinstance(content, str) and any(getattr(part, "refusal", None) for part in content)


def tokens_of(usage: Any) -> tuple[int, int]:
    """Return tokens in and out of a call, those that the provider's own cache took or gave among them."""
    if usage is None:
        return 0, 0
    cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    return usage.input_tokens + cached, usage.output_tokens


def positions_of(logprobs: Any) -> list[Position]:
    """Return the tokens of a choice of Inspect's output; none if its provider tells no log-probabilities."""
    if logprobs is None:
        return []
    return [
        Position(
            token.token,
            token.logprob,
            tuple((other.token, other.logprob) for other in token.top_logprobs or ()),
        )
        for token in logprobs.content
    ]


GRADED: ContextVar[tuple[str, str]] = ContextVar("graded")
"""Model and question whose answer a grader is looking at."""


def paid_grader(model: Model, name: str, ledger: Ledger) -> Model:
    """Return a model that grades, with every call set aside for, cached and entered."""
    plain: Callable[..., Any] = model.generate
    steps: dict[tuple[str, str], int] = {}

    async def generate(input: Any, *_: Any, config: GenerateConfig | None = None, **__: Any) -> ModelOutput:
        graded = GRADED.get()
        steps[graded] = number = steps.get(graded, -1) + 1
        of_model, query = graded
        key = (name, query, f"grade {number} of {of_model}")
        messages = [ChatMessageUser(content=input)] if isinstance(input, str) else list(input)
        given = config or GenerateConfig()
        given = given.merge(GenerateConfig(max_tokens=given.max_tokens or GRADE_TOKENS))
        return await paid_call(plain, key, ledger, messages, given)

    model.generate = generate  # type: ignore[method-assign]
    return model
