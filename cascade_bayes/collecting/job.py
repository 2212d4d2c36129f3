"""A collection that can run: what it asks, what that costs at most, and the table that it becomes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade_bayes.collecting.ledger import BYTES_PER_TOKEN, TOKENS_PER_MESSAGE, Ledger
from cascade_bayes.collecting.prompts import Most, most_calls
from cascade_bayes.collecting.questions import Question
from cascade_bayes.collecting.tables import counted, table_of
from cascade_bayes.errors import InputError

if TYPE_CHECKING:
    import pandas

JOURNAL = "calls.jsonl"
"""Name of the journal in the folder of a collection."""

Progress = Callable[[int, int, float], None]
"""Told after every question: how many are done, of how many, and US dollars so far."""


class Estimate(NamedTuple):
    """What a collection takes at most.

    Attributes
    ----------
    calls
        Calls of models, those that are paid already among them.
    paid
        Calls of an earlier run that are not made again.
    dollars
        US dollars that all calls cost at most; None without prices.
    spent
        US dollars of the calls that are paid.
    """

    calls: int
    paid: int
    dollars: float | None
    spent: float

    def sentence(self) -> str:
        """Return the estimate in words."""
        before = f", of which {self.paid} are paid already ({self.spent:.4g} US dollars)" if self.paid else ""
        money = "no prices given" if self.dollars is None else f"at most {self.dollars:.4g} US dollars"
        return f"At most {self.calls} calls{before}; {money}."


@dataclass(frozen=True)
class Collected:
    """A table of answers, and what did not come into it.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per question and model that was answered and judged: `query`, `model`, `confidence` (natural
        logarithm of a probability), `correct`, `answer`, `cost` (US dollars; with prices alone),
        `tokens_in`, `tokens_out`, `latency_ms`.
    failed : dict
        By model, how many questions have no row, by kind: ``provider`` (a fault of the provider or the
        connection), ``refused``, ``unparsable``, ``scorer`` (a fault of the scorer), ``budget`` (not asked,
        for the limit of costs).
    errors : dict
        By model, what the first of its failures said.
    dollars : float or None
        US dollars of all calls, those of a grader and of failures too; None without prices.
    """

    table: pandas.DataFrame
    failed: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    dollars: float | None = None

    def sentence(self) -> str:
        """Return in words how many rows there are, what failed, and what it cost."""
        money = "" if self.dollars is None else f" for {self.dollars:.4g} US dollars"
        said = [f"{len(self.table)} rows{money}."]
        for name, kinds in self.failed.items():
            if kinds:
                said.append(f"{name}: {counted(kinds)}; the first: {self.errors[name]}.")
        return " ".join(said)


@dataclass(frozen=True)
class Job:
    """A collection that has been checked and can run.

    Attributes
    ----------
    questions
        What is asked.
    models
        Names of the models in the table, and each model of Inspect or its name there.
    confidence, scorer, grader
        How sure a model is, whether it is right, and the model that grades.
    prices
        US dollars of a million tokens in and out, by model; None without prices.
    max_cost
        Most US dollars of all calls; None for no limit.
    samples
        How many answers vote.
    max_tokens
        Most tokens of an answer; None for the usual.
    system
        What models are told before every question; None for nothing.
    connections, retries, timeout
        Calls of one model at the same time, attempts after a failed one, and seconds of a call with all of
        its attempts; None for Inspect's own.
    """

    questions: Sequence[Question]
    models: Mapping[str, Any]
    confidence: str
    scorer: Any
    grader: str | None
    prices: Mapping[str, tuple[float, float]] | None
    max_cost: float | None
    samples: int
    max_tokens: int | None
    system: str | None
    connections: int | None
    retries: int | None
    timeout: int | None

    def estimate(self, folder: Path | None = None) -> Estimate:
        """Return how many calls there are and what they cost at most.

        Parameters
        ----------
        folder
            Where an earlier run kept its calls; None if there was none.
        """
        calls, dollars = 0, 0.0
        for question in self.questions:
            asked = self._most(question)
            graded = [Most(4000 + len(question.input.encode()) + 2048, 1, 1024)] if self.grader else []
            for name in self.models:
                calls += len(asked) + len(graded)
                dollars += sum(self._price(name, most) for most in asked)
                dollars += sum(self._price(str(self.grader), most) for most in graded)
        paid, spent = 0, 0.0
        if folder is not None and (folder / JOURNAL).exists():
            ledger = Ledger(folder / JOURNAL, self.prices, None)
            paid, spent = len(ledger.calls), ledger.spent
            ledger.close()
        return Estimate(calls, paid, None if self.prices is None else dollars, spent)

    def _most(self, question: Question) -> list[Most]:
        tokens = self.max_tokens or (16 if question.choices else 256)
        return most_calls(question, self.confidence, tokens, self.samples, self.system)

    def _price(self, name: str, most: Most) -> float:
        if self.prices is None:
            return 0.0
        tokens_in = -(-most.text_bytes // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * most.messages
        into, out = self.prices[name]
        return (tokens_in * into + most.tokens_out * out) / 1e6

    def run(self, folder: Path, progress: Progress | None = None) -> Collected:
        """Ask what has not been asked yet, and return the table.

        Parameters
        ----------
        folder
            Where calls are kept: answers in the cache of Inspect, what they cost in a journal, and its logs.
            It is made if it does not exist.
        progress
            What is told after every question.
        """
        from cascade_bayes.collecting.evaluating import evaluate

        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / JOURNAL, self.prices, self.max_cost)
        try:
            with _cache_in(folder):
                rows, failed, errors = _outside_of_loops(lambda: evaluate(self, ledger, folder, progress))
        finally:
            ledger.close()
        kinds = {name: dict(Counter(kinds)) for name, kinds in failed.items()}
        dollars = None if self.prices is None else ledger.spent
        found = Collected(table_of(rows), kinds, errors, dollars)
        if not rows:
            raise InputError(
                f"no model gave an answer that can be used. {found.sentence()} Mend that and start again: "
                "what has been paid for is kept."
            )
        return found


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Have Inspect keep its cache in a folder, for as long as a collection runs."""
    name = "INSPECT_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder.resolve() / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _outside_of_loops(work: Callable[[], Any]) -> Any:
    """Do work that starts an event loop: in a thread of its own where one runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    done: list[Any] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if wrong:
        raise wrong[0]
    return done[0]
