"""From questions to a table: what a collection is, what it may cost, and its run."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade_bayes._names import names_of, suggest
from cascade_bayes._numbers import check_whole
from cascade_bayes.collecting import needs
from cascade_bayes.collecting.ledger import BYTES_PER_TOKEN, TOKENS_PER_MESSAGE, Ledger
from cascade_bayes.collecting.prompts import Most, most_calls
from cascade_bayes.collecting.questions import Question, read_questions
from cascade_bayes.collecting.tables import check_output, counted, table_of, write_table
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.costs import read_prices

if TYPE_CHECKING:
    import pandas

CONFIDENCES = ("answer_logprob", "mean_logprob", "p_true", "votes", "verbal")
"""Ways to ask how sure a model is, described in `cascade_bayes.collecting.confidences`."""

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


JOURNAL = "calls.jsonl"
"""Name of the journal in the folder of a collection."""


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


def prepare(
    questions: Any,
    models: Any,
    *,
    confidence: str = "p_true",
    scorer: Any = "match",
    prices: Any = None,
    max_cost: float | None = None,
    grader: str | None = None,
    **limits: Any,
) -> Job:
    """Check what `collect` is given, and return the collection that it makes; nothing is asked.

    Raises
    ------
    InputError, TypeError
        As `collect` does.
    """
    asked = read_questions(questions)
    named = _named(models)
    _check_way(confidence, scorer, asked)
    needs.inspect_ai()
    if scorer == "model_graded_qa" and grader is None:
        raise InputError(
            "the scorer 'model_graded_qa' needs a model that grades: pass grader='openai/gpt-4o' (--grader "
            "openai/gpt-4o)."
        )
    if scorer != "model_graded_qa" and grader is not None:
        raise InputError(
            f"a grader (--grader) is for the scorer 'model_graded_qa' alone; got the scorer {scorer!r}. "
            "Leave one of them out."
        )
    known = None if prices is None else read_prices(prices)
    for name in [*named, *([grader] if grader else [])]:
        if known is not None and name not in known:
            raise InputError(f"the prices have no entry for model {name!r}. {suggest(name, list(known))}")
    if max_cost is not None:
        if known is None:
            raise InputError(
                "max_cost (--max-cost) needs prices: pass prices=..., US dollars per million tokens "
                "(--prices FILE)."
            )
        if not (isinstance(max_cost, int | float) and 0 < max_cost < math.inf):
            raise InputError(f"max_cost (--max-cost) must be US dollars above 0; got {max_cost!r}.")
    return Job(asked, named, confidence, scorer, grader, known, max_cost, **_limits(limits))


def _named(models: Any) -> dict[str, Any]:
    """Return models by their names in the table."""
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in models.items()}
    elif isinstance(models, str) or not isinstance(models, Sequence):
        raise TypeError(
            f"models must be a list of Inspect's names of models, or a mapping; got {type(models).__name__}."
        )
    else:
        named = {}
        for model in models:
            if str(model) in named:
                raise InputError(
                    f"models must name each model once; {names_of([str(model)])} is listed twice. Leave one "
                    "out, or give them names: models={'a': ..., 'b': ...}."
                )
            named[str(model)] = model
    if not named:
        raise InputError("models must name at least one model, such as models=['openai/gpt-4o-mini'].")
    return named


def _check_way(confidence: str, scorer: Any, questions: Sequence[Question]) -> None:
    if confidence not in CONFIDENCES:
        raise InputError(f"there is no confidence {confidence!r}. {suggest(str(confidence), CONFIDENCES)}")
    open_ones = [question.id for question in questions if not question.choices]
    for name, option in (("confidence", confidence), ("scorer", scorer)):
        if option in ("answer_logprob", "choice") and open_ones:
            raise InputError(
                f"{name} {option!r} is for multiple choice, and question {names_of(open_ones[:1])} has no "
                "choices. Add a column 'choices', or take confidence='p_true', scorer='match' (--confidence "
                "p_true --scorer match)."
            )
    if len(open_ones) < len(questions) and scorer in ("match", "exact", "includes"):
        raise InputError(
            f"the scorer {scorer!r} compares text, and the target of a question with choices is a letter: "
            "take scorer='choice' (--scorer choice)."
        )


def _limits(given: dict[str, Any]) -> dict[str, Any]:
    """Return the limits of a collection, each checked."""
    usual: dict[str, Any] = {"samples": 10, "max_tokens": None, "system": None}
    usual |= {"connections": None, "retries": None, "timeout": None}
    unknown = set(given) - set(usual)
    if unknown:
        raise TypeError(f"collect has no option {sorted(unknown)[0]!r}; it has {names_of(usual)}.")
    values = usual | given
    for name, low in (("samples", 2), ("max_tokens", 1), ("connections", 1), ("retries", 0), ("timeout", 1)):
        if values[name] is not None:
            check_whole(name, values[name], low=low)
    return values


def folder_beside(output: str | Path) -> Path:
    """Return the folder in which the calls of a table are kept: beside it, ``.calls`` behind its name."""
    path = Path(output)
    return path.with_name(f"{path.name}.calls")


def collect(
    questions: Any,
    models: Any,
    *,
    confidence: str = "p_true",
    scorer: Any = "match",
    prices: Any = None,
    max_cost: float | None = None,
    grader: str | None = None,
    output: str | Path | None = None,
    folder: str | Path | None = None,
    progress: Progress | bool = True,
    **limits: Any,
) -> Collected:
    """Ask models questions through Inspect, and return the table that `read_table` reads.

    Needs ``pip install 'cascade-bayes[collect]'``. Killed and started again with the same folder, it asks for
    nothing twice that has been answered.

    Parameters
    ----------
    questions : path, frame or list of mappings
        Columns `input`, `target`, optionally `choices` and `id`; CSV, JSON Lines or Parquet. The target of a
        question with choices is the letter of the right one, or its text.
    models : sequence of str, or mapping
        Inspect's names, such as ``openai/gpt-4o-mini`` or ``openai-api/local/llama``, or its `Model` objects;
        a mapping gives them other names in the table.
    confidence : {'p_true', 'answer_logprob', 'mean_logprob', 'votes', 'verbal'}
        How sure a model is. All are kept as natural logarithms of probabilities.
    scorer : str or Scorer
        ``match``, ``includes``, ``exact``, ``choice`` or ``model_graded_qa`` of Inspect, ``module:function``,
        or a scorer of your own. An answer is right if its score is above 0.5.
    prices : mapping or path of a JSON file, optional
        ``{model: {"in": ..., "out": ...}}`` in US dollars per million tokens, as `read_table` takes it.
    max_cost : float, optional
        Most US dollars of all calls together, those of earlier runs too; a call that might exceed it is not
        made. Needs prices.
    grader : str, optional
        Inspect's name of the model that grades, for ``model_graded_qa``.
    output : path, optional
        Where to write the table: .parquet, .csv or .jsonl.
    folder : path, optional
        Where calls are kept; ``OUTPUT.calls`` by default. Without it and an output they are not kept.
    progress : callable or bool
        What is told after every question: how many are done, of how many, US dollars so far. True shows a
        bar on standard error.
    **limits
        ``samples`` (answers that vote, 10), ``max_tokens`` (of an answer; 16 for a letter and 256
        otherwise), ``system`` (what models are told first), ``connections`` (calls of a model at a time),
        ``retries`` and ``timeout`` (seconds) of a call.

    Returns
    -------
    Collected
        The table, what failed by kind, and what it cost.

    Raises
    ------
    InputError
        If something given cannot be used, the extra is not installed, or no model gave a usable answer.

    Warns
    -----
    DataWarning
        If questions have no row, with their number by kind.

    Examples
    --------
    >>> import cascade_bayes as cb
    >>> cb.collect([{"input": "2 + 2?", "target": "4"}], ["openai/gpt-4o-mini"], confidence="sure")
    Traceback (most recent call last):
    cascade_bayes.errors.InputError: there is no confidence 'sure'. Known: 'answer_logprob', 'mean_logprob', \
'p_true', 'votes', 'verbal'.
    """
    if output is not None:
        check_output(output)
    job = prepare(
        questions,
        models,
        confidence=confidence,
        scorer=scorer,
        prices=prices,
        max_cost=max_cost,
        grader=grader,
        **limits,
    )
    kept = Path(folder) if folder is not None else folder_beside(output) if output is not None else None
    place = Path(tempfile.mkdtemp(prefix="cascade-bayes-collect-")) if kept is None else kept
    try:
        with showing(progress) as told:
            found = job.run(place, told)
    finally:
        if kept is None:
            shutil.rmtree(place, ignore_errors=True)
    if output is not None:
        write_table(found.table, output)
    if any(found.failed.values()):
        warnings.warn(f"some questions have no row. {found.sentence()}", DataWarning, stacklevel=2)
    return found


@contextmanager
def showing(progress: Progress | bool) -> Iterator[Progress | None]:
    """Give what is told of progress: a bar on standard error for True, nothing for False."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit="answer") as bar:

        def told(done: int, total: int, dollars: float) -> None:
            bar.total = total
            bar.set_postfix_str(f"{dollars:.4f} US dollars", refresh=False)
            bar.update(done - bar.n)

        yield told


__all__ = ["Collected", "Estimate", "Job", "collect", "folder_beside", "prepare", "showing"]
