"""Logs of Inspect to a table: several models of one task, ``.eval`` and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_bayes._names import names_of, suggest
from cascade_bayes.collecting import needs
from cascade_bayes.collecting.logs import BrokenLogError, Paths, listed_paths, logs_to_table
from cascade_bayes.collecting.tables import Row, dollars_of
from cascade_bayes.collecting.tokens import answer_logprob, letter_of, mean_logprob
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.costs import read_prices
from cascade_bayes.reading.files import one_line

if TYPE_CHECKING:
    import pandas

METADATA = "metadata:"


def read_inspect(
    logs: Paths,
    *,
    confidence: str = "mean_logprob",
    score: str | None = None,
    prices: Any = None,
    correct_above: float = 0.5,
) -> pandas.DataFrame:
    """Read logs of Inspect into a table that `read_table` takes.

    Needs ``pip install 'cascade-bayes[collect]'``.

    Parameters
    ----------
    logs : path or list of paths
        Files ending in .eval or .json, or folders of them: of one task, each model once.
    confidence : str
        ``mean_logprob`` (mean over the tokens of the answer), ``answer_logprob`` (of the letter of a
        multiple-choice question), both of samples with log-probabilities; or ``metadata:NAME``, a number in
        the metadata of the score, or else in those or the store of the sample, which is taken as it stands.
        Logs that `collect` has written hold ``metadata:confidence``.
    score : str, optional
        Name of the scorer whose score counts, where there are several.
    prices : mapping or path of a JSON file, optional
        ``{model: {"in": ..., "out": ...}}`` in US dollars per million tokens.
    correct_above : float
        An answer is right if its score is above this; C is 1, P 0.5, I and N are 0.

    Returns
    -------
    pandas.DataFrame
        One row per question and model.

    Raises
    ------
    InputError
        If a log is broken, half-written or of another task, or a sample lacks the confidence or the score;
        the message names the file and the sample.

    Warns
    -----
    DataWarning
        If samples ended with an error: they have no row.
    """
    needs.inspect_ai()
    if confidence not in ("mean_logprob", "answer_logprob") and not confidence.startswith(METADATA):
        raise InputError(
            f"confidence must be 'mean_logprob', 'answer_logprob' or 'metadata:NAME'; got {confidence!r}."
        )
    known = None if prices is None else read_prices(prices)
    files = listed_paths(logs, (".eval", ".json"))

    def rows() -> Iterator[Row | str]:
        first: tuple[str, Path] | None = None
        for path in files:
            log = _read(path)
            if first is None:
                first = (log.eval.task, path)
            if log.eval.task != first[0]:
                raise InputError(
                    f"the log {str(path)!r} is of task {show(log.eval.task)}, and {str(first[1])!r} of "
                    f"{show(first[0])}: give the logs of one task."
                )
            if known is not None and log.eval.model not in known:
                raise InputError(
                    f"the prices have no entry for model {log.eval.model!r}. "
                    f"{suggest(log.eval.model, list(known))}"
                )
            for sample in log.samples or []:
                yield _row(sample, log.eval.model, path, (confidence, score, correct_above), known)

    return logs_to_table(rows())


def _read(path: Path) -> Any:
    from inspect_ai.log import read_eval_log

    try:
        log = read_eval_log(str(path))
    except Exception as error:  # whatever a broken archive or its JSON makes Inspect raise
        raise BrokenLogError(
            f"the log {str(path)!r} cannot be read: {one_line(error)}. It may be half-written, or no log of "
            "Inspect: finish it by `inspect eval-retry`, or leave it out."
        ) from error
    if log.status != "success":
        raise BrokenLogError(
            f"the log {str(path)!r} is of a run that did not end well (status {log.status!r}): finish it by "
            f"`inspect eval-retry {path}`, or leave it out."
        )
    if not log.samples:
        raise BrokenLogError(f"the log {str(path)!r} holds no samples: run the task with its samples logged.")
    return log


def _row(
    sample: Any,
    model: str,
    path: Path,
    options: tuple[str, str | None, float],
    prices: Mapping[str, tuple[float, float]] | None,
) -> Row | str:
    """Return the row of a sample, or the kind of the failure that it ended with."""
    from cascade_bayes.collecting.desk import is_refusal, tokens_of
    from cascade_bayes.collecting.judging import is_right

    confidence, name, above = options
    place = f"sample {show(sample.id)} of {str(path)!r}"
    if sample.error is not None:
        return "provider"
    if is_refusal(sample.output):
        return "refused"
    scores = sample.scores or {}
    if not scores or (name is None and len(scores) > 1) or (name is not None and name not in scores):
        raise BrokenLogError(
            f"{place} has {f'the scores {names_of(scores)}' if scores else 'no score'}: "
            + (
                f"pass score={next(iter(scores))!r} (--score)."
                if scores
                else "score the log by `inspect score`."
            )
        )
    judged = scores[name or next(iter(scores))]
    correct = is_right(judged.value, above)
    if correct is None:
        raise BrokenLogError(
            f"the score {show(judged.value)} of {place} is no number and none of C, I, P, N: pass another "
            "score=NAME (--score)."
        )
    found = _confidence(sample, judged, confidence, place)
    usage = sample.model_usage.get(model) or sample.output.usage
    into, outof = (None, None) if usage is None else tokens_of(usage)
    return Row(
        str(sample.id),
        model,
        found,
        correct,
        str(judged.answer or sample.output.completion.strip()),
        dollars_of(into, outof, None if prices is None else prices[model]),
        into,
        outof,
        None if sample.output.time is None else round(1000 * sample.output.time, 3),
    )


def _confidence(sample: Any, judged: Any, confidence: str, place: str) -> float:
    from cascade_bayes.collecting.desk import positions_of

    if confidence.startswith(METADATA):
        name = confidence.removeprefix(METADATA)
        for holder in (judged.metadata or {}, sample.metadata, sample.store):
            if name in holder:
                try:
                    return float(holder[name])
                except (TypeError, ValueError) as error:
                    raise BrokenLogError(
                        f"{name!r} of {place} must be a number; got {show(holder[name])}."
                    ) from error
        raise BrokenLogError(f"{place} has no {name!r} in the metadata of its score: name another key.")
    positions = positions_of(sample.output.choices[0].logprobs)
    if not positions:
        raise BrokenLogError(
            f"{place} has no log-probabilities: run the task with `inspect eval --logprobs`, or take a "
            "number of its score's metadata, confidence='metadata:NAME' (--confidence metadata:NAME)."
        )
    if confidence == "mean_logprob":
        found = mean_logprob(positions)
    else:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(sample.choices or [])]
        letter = letter_of(sample.output.completion, letters) if letters else None
        found = None if letter is None else answer_logprob(positions, letter)
    if found is None:
        raise BrokenLogError(
            f"the answer of {place} names no option, so that it has no 'answer_logprob': take 'mean_logprob' "
            "(--confidence mean_logprob)."
        )
    return found
