"""A router: asks the models of a policy in order, decides after each call, and logs what it did.

Three things that look alike are kept apart. A *low confidence* defers the query, as the policy says. An
*unusable confidence* (missing, no number, or one that its kind cannot have) says nothing for the answer: the
query goes on as `cascade_bayes.Policy.decide` has it. A *fault* is a call that raised: there is no answer,
and the query goes on to the next model even where the policy would have returned this one's answer.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from time import perf_counter, time
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.policy.policy import Policy
from cascade_bayes.serving.confidences import reader_of
from cascade_bayes.serving.log import DecisionLog, line_of
from cascade_bayes.serving.routed import Call, Outcome, Routed

logger = logging.getLogger("cascade_bayes.serving")

Ask = Callable[[Any], Any]
"""Takes a query; returns an answer and a confidence, and perhaps US dollars, or an awaitable of them."""


UNUSABLE = "unusable confidences"


class _Called(NamedTuple):
    """What came back from a callable: what it returned or the exception it raised, and milliseconds."""

    value: Any
    fault: BaseException | None
    latency_ms: float


class Router:
    """Calls the models of a policy in order until one answers or the query is left without an answer.

    It may be used from many threads, and from many tasks of an event loop, at once.

    Parameters
    ----------
    policy
        The policy, or the path of its file.
    models
        What asks each model: a callable by name. It takes the query and returns an answer and a confidence,
        as a tuple; a third value is what the call cost. The confidence is on the scale of the table that the
        policy was tuned on: a negative log-probability where that held those, a word where it held grades.
        Callables may be ``async def``; then queries are asked by `ask_async`. `cascade_bayes.ask_openai`
        makes one of an OpenAI-compatible client.
    log
        File of JSON lines to append to; None for no log. Each call is one row of a table that
        ``cascade_bayes.read_table(log, logged_policy=policy)`` reads; the rows of a query are written at
        once, when it has ended, so that a reader never sees half a query.
    on_fault
        ``"next"``: a call that raises is noted, and the next model is asked. ``"raise"``: the exception is
        raised, after the query was logged.
    faults
        Exceptions that count as faults of a provider; others are raised, and the query is not logged.

    Attributes
    ----------
    policy
        The policy.

    Raises
    ------
    InputError
        If a model of the policy has no callable, or the log cannot be used.
    TypeError
        If an argument has another type.

    Notes
    -----
    A model whose threshold is infinite is called all the same, as `cascade_bayes.Policy.evaluate` counts it;
    policies of a frontier have no such models. Of a 32-bit number the shortest decimal that means it is
    decided on and logged.

    Examples
    --------
    ``Router(policy, {"small": ask_small, "large": ask_large}, log="decisions.jsonl").ask("Why is it so?")``
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str],
        models: Mapping[str, Ask],
        *,
        log: str | os.PathLike[str] | None = None,
        on_fault: Literal["next", "raise"] = "next",
        faults: tuple[type[Exception], ...] = (Exception,),
    ) -> None:
        if isinstance(policy, str | os.PathLike):
            policy = Policy.load(policy)
        if not isinstance(policy, Policy):
            raise TypeError(
                f"policy must be a Policy or the path of its file; got a {type(policy).__name__}. Load one: "
                'cb.Policy.load("policy.json").'
            )
        if not isinstance(models, Mapping):
            raise TypeError(
                f"models must map each name to a callable; got a {type(models).__name__}. Write for example "
                f"{{{policy.models[0]!r}: ask}}."
            )
        if on_fault not in ("next", "raise"):
            raise InputError(f"on_fault must be 'next' or 'raise'; got {on_fault!r}. Choose one of them.")
        for name in policy.models:
            if not callable(models.get(name)):
                raise InputError(
                    f"models has no callable for {name!r}; the policy asks {names_of(policy.models)}. Add "
                    f"{name!r}: a function that takes a query and returns an answer and a confidence."
                )
        self.policy = policy
        self._asks = [models[name] for name in policy.models]
        self._on_fault, self._faults = on_fault, faults
        self._high = (*policy.thresholds.tolist(), -math.inf)
        none = (-math.inf,) * len(policy.models)
        low = policy.abstain_thresholds
        self._low = none if low is None else tuple(low.tolist())
        self._cost = policy.call_cost.tolist()
        self._read = reader_of(policy)
        self._log = None if log is None else DecisionLog(log)
        self._prefix, self._number = os.urandom(4).hex(), itertools.count()
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many queries ended how, how many calls failed or gave no usable confidence, and more.

        Keys: ``"answered"``, ``"abstained"``, ``"fault"``, ``"unusable"`` count queries by how they ended;
        ``"faulty calls"`` and ``"unusable confidences"`` count calls; ``"unlogged"`` counts queries that the
        log could not take. Those that are 0 may be absent.
        """
        with self._counting:
            return dict(self._counts)

    def ask(self, query: Any, name: str | None = None) -> Routed:
        """Ask models until the query is decided.

        Parameters
        ----------
        query
            What callables take.
        name
            The query's name in the log, another for every query; a new one by default.

        Raises
        ------
        TypeError
            If a callable is asynchronous, or returns something other than a tuple of two or three.
        InputError
            If a callable says that a call cost something other than a finite number of at least 0.
        """
        steps = self._steps(name)
        at = next(steps)
        try:
            while True:
                at = steps.send(self._call(at, query))
        except StopIteration as ended:
            return ended.value

    async def ask_async(self, query: Any, name: str | None = None) -> Routed:
        """Do what `ask` does, and let other tasks run while models answer.

        A callable that is no ``async def`` runs in a thread.

        Parameters
        ----------
        query, name
            The same parameters as for `ask`.
        """
        steps = self._steps(name)
        at = next(steps)
        try:
            while True:
                at = steps.send(await self._call_async(at, query))
        except StopIteration as ended:
            return ended.value

    def _call(self, at: int, query: Any) -> _Called:
        ask, began = self._asks[at], perf_counter()
        try:
            value = ask(query)
        except self._faults as fault:
            return _Called(None, fault, 1e3 * (perf_counter() - began))
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError(
                f"the callable of model {self.policy.models[at]!r} is asynchronous: await "
                "router.ask_async(query) instead of router.ask(query)."
            )
        return _Called(value, None, 1e3 * (perf_counter() - began))

    async def _call_async(self, at: int, query: Any) -> _Called:
        import asyncio  # a fifth of what importing this module would take; who awaits has it already

        ask, began = self._asks[at], perf_counter()
        try:
            if inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(type(ask).__call__):
                value = await ask(query)
            else:
                value = await asyncio.to_thread(ask, query)
                if inspect.isawaitable(value):
                    value = await value
        except self._faults as fault:
            return _Called(None, fault, 1e3 * (perf_counter() - began))
        return _Called(value, None, 1e3 * (perf_counter() - began))

    def _steps(self, name: str | None) -> Generator[int, _Called, Routed]:
        """Give the index of each model to be called, take what came back, and return what became of it."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be text; got {name!r}. Write str(...) around it.")
        calls: list[Call] = []
        fault: BaseException | None = None
        for at in range(len(self._asks)):
            called = yield at
            call = self._decided(at, called)
            calls.append(call)
            if (fault := called.fault) is not None and self._on_fault == "raise":
                break
            if call.outcome in ("answered", "abstained"):
                break
        end = calls[-1]
        answered = end.outcome == "answered"
        query = name if name is not None else f"{self._prefix}-{next(self._number)}"
        model = end.model if answered else None
        result = Routed(query, end.answer if answered else None, model, end.outcome, tuple(calls))
        self._note(result)
        if fault is not None and self._on_fault == "raise":
            raise fault
        return result

    def _decided(self, at: int, called: _Called) -> Call:
        """Return a call with what is decided after it."""
        model = self.policy.models[at]
        if called.fault is not None:
            failed = f"the call failed ({type(called.fault).__name__}: {called.fault})"
            return Call(model, None, None, 0.0, called.latency_ms, "fault", failed)
        value = called.value
        if not isinstance(value, tuple) or len(value) not in (2, 3):
            raise TypeError(
                f"the callable of model {model!r} must return an answer and a confidence, as a tuple; got a "
                f"{type(value).__name__}. Let it end with for example: return answer, confidence."
            )
        cost = value[2] if len(value) == 3 else None
        if cost is None:
            cost = self._cost[at]
        elif (
            isinstance(cost, bool)
            or not isinstance(cost, int | float | np.number)
            or not 0 <= cost < math.inf
        ):
            raise InputError(
                f"the cost of a call of model {model!r} must be a finite number of at least 0; got {cost!r}. "
                "Return None for the policy's mean cost of a call."
            )
        number, shown, problem = self._read(value[1])
        low, high = self._low[at], self._high[at]
        last = at == len(self._asks) - 1
        outcome: Outcome
        if number is None:
            # Infinite thresholds decide without looking; the last model answers unless it may abstain by it.
            outcome = "abstained" if low == math.inf else "unusable"
            if low == -math.inf and high == -math.inf:
                outcome = "answered"
        elif number < low:
            outcome = "abstained"
        else:
            outcome = "answered" if last or number >= high else "deferred"
        return Call(model, value[0], shown, float(cost), called.latency_ms, outcome, problem)

    def _note(self, result: Routed) -> None:
        """Count a query and write its rows to the log."""
        faulty = sum(call.outcome == "fault" for call in result.calls)
        unusable = sum(call.problem is not None for call in result.calls) - faulty
        with self._counting:
            counts = self._counts
            counts[result.outcome] += 1
            new_fault, new_unusable = faulty and not counts["faulty calls"], unusable and not counts[UNUSABLE]
            counts["faulty calls"] += faulty
            counts[UNUSABLE] += unusable
        if new_fault or new_unusable:
            logger.warning("%s (later ones are counted in Router.counts)", "; ".join(result.faults))
        if self._log is None:
            return
        now = round(time(), 3)
        lines = [line_of(result.query, call, now) for call in result.calls]
        try:
            self._log.append("".join(lines))
        except OSError as error:  # the user has been waiting for an answer, and there is one
            with self._counting:
                self._counts["unlogged"] += 1
            logger.error("the log %s did not take query %s: %s", self._log.path, result.query, error)

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
