"""From questions to a table: what a user gives is checked, and the collection is run."""

from __future__ import annotations

import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade_bayes._names import names_of, suggest
from cascade_bayes._numbers import check_whole
from cascade_bayes.collecting import needs
from cascade_bayes.collecting.job import Collected, Job, Progress
from cascade_bayes.collecting.questions import Question, read_questions
from cascade_bayes.collecting.tables import check_output, write_table
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.costs import read_prices

CONFIDENCES = ("answer_logprob", "mean_logprob", "p_true", "votes", "verbal")
"""Ways to ask how sure a model is, described in `cascade_bayes.collecting.confidences`."""


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
        Where `collect` would raise it.
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
