"""What a router is given by a callable, and what it gives back: replies, calls and queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Outcome = Literal["answered", "deferred", "abstained", "unusable", "fault"]
"""What became of a call: ``"unusable"`` is a confidence by which nothing could be decided."""


class Reply(NamedTuple):
    """What a callable returns; a plain tuple of two or three values will do.

    Attributes
    ----------
    answer
        The answer, of any type.
    confidence
        How sure the model is, on the scale of the table that the policy was tuned on; None if it gave none.
    cost
        What the call cost, in the unit of the policy's costs; None for the policy's mean cost of such a call.
    """

    answer: Any
    confidence: Any
    cost: float | None = None


class Call(NamedTuple):
    """One call of a model, and what was decided after it.

    Attributes
    ----------
    model
        The model's name.
    answer
        Its answer; None if the call failed.
    confidence
        Its confidence as the log has it; None if the call failed or the confidence was unusable.
    cost
        What it cost, in the unit of the policy's costs; 0 if it failed.
    latency_ms
        Milliseconds that it took.
    outcome
        What became of the query at this model.
    problem
        What went wrong, in words; None if nothing did.
    """

    model: str
    answer: Any
    confidence: Any
    cost: float
    latency_ms: float
    outcome: Outcome
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """What became of one query.

    Attributes
    ----------
    query
        The query's name in the log.
    answer
        The answer; None where there is none.
    model
        The model that gave it; None where there is no answer.
    outcome
        ``"answered"``; ``"abstained"``; ``"fault"`` if the last call failed, or ``"unusable"`` if the last
        model may abstain and gave no confidence to decide by: then there is no answer, and those of models
        that deferred are in ``calls``.
    calls
        Every call in order.
    """

    query: str
    answer: Any
    model: str | None
    outcome: Outcome
    calls: tuple[Call, ...]

    @property
    def cost(self) -> float:
        """What all calls cost, in the unit of the policy's costs."""
        return sum(call.cost for call in self.calls)

    @property
    def faults(self) -> tuple[str, ...]:
        """What went wrong on the way, a sentence a call that failed or gave no usable confidence."""
        return tuple(f"{call.model}: {call.problem}" for call in self.calls if call.problem is not None)
