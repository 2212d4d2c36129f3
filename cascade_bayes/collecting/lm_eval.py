"""Samples of lm-evaluation-harness (``samples_TASK_TIME.jsonl``) to a table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_bayes._names import names_of
from cascade_bayes.collecting.logs import BrokenLogError, Paths, json_lines, listed_paths, logs_to_table
from cascade_bayes.collecting.questions import LETTERS
from cascade_bayes.collecting.tables import Row
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import show

if TYPE_CHECKING:
    import pandas

METRICS = ("acc", "exact_match", "em", "acc_norm", "f1", "mcc")
"""Metrics in the order in which one is taken where nobody names it."""


def read_lm_eval(
    paths: Paths,
    *,
    models: Mapping[str, str] | None = None,
    metric: str | None = None,
    filter_name: str | None = None,
) -> pandas.DataFrame:
    """Read samples of lm-evaluation-harness (``lm_eval --log_samples``) into a table.

    Parameters
    ----------
    paths : path or list of paths
        ``samples_*.jsonl`` files, or folders of them.
    models : mapping, optional
        Name of the model by path; by default the name of the folder of the file, which the harness makes of
        the model's.
    metric : str, optional
        Which metric says whether an answer is right, above 0.5; by default ``acc`` or ``exact_match``.
    filter_name : str, optional
        Which filter's answers are read, where there are several.

    Returns
    -------
    pandas.DataFrame
        One row per document and model. The confidence of multiple choice is the log-likelihood of the
        option of the highest, normalised over the options; generations have none, their cells are empty.

    Raises
    ------
    InputError
        If a line cannot be used; the message names the file and the line.
    """
    files = listed_paths(paths, (".jsonl",))

    def rows() -> Iterator[Row | str]:
        hashes: dict[str, tuple[Any, str]] = {}
        for path in files:
            task = _task(path)
            model = (models or {}).get(str(path), path.resolve().parent.name)
            for number, record in json_lines(path):
                place = f"line {number} of {str(path)!r}"
                if "doc_id" not in record or "resps" not in record:
                    raise BrokenLogError(
                        f"{place} is no sample of lm-evaluation-harness: it has {names_of(record)}. Give "
                        "files that `lm_eval --log_samples` wrote."
                    )
                if filter_name is not None and record.get("filter", filter_name) != filter_name:
                    continue
                query = f"{task}/{record['doc_id']}"
                before = hashes.setdefault(query, (record.get("doc_hash"), place))
                if before[0] != record.get("doc_hash"):
                    raise BrokenLogError(
                        f"{place} and {before[1]} are of different documents with one doc_id: give samples "
                        "of one version of the task."
                    )
                yield _row(record, query, model, place, metric)

    try:
        return logs_to_table(rows())
    except BrokenLogError:
        raise
    except InputError as error:
        if filter_name is None and "two answers" in str(error):
            raise InputError(
                f"{error} If the harness applied several filters, pass filter_name='strict-match' (--filter "
                "strict-match)."
            ) from error
        raise


def _task(path: Path) -> str:
    """Return the task that a file's name tells."""
    found = re.fullmatch(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d\-.]+)?", path.stem)
    return found[1] if found else path.stem


def _row(record: Mapping[str, Any], query: str, model: str, place: str, metric: str | None) -> Row:
    names = [metric] if metric else [name for name in METRICS if name in record]
    if not names or names[0] not in record:
        raise BrokenLogError(
            f"{place} has no {f'metric {metric!r}' if metric else 'metric that is known'}; it has "
            f"{names_of(record)}. Name one: metric=NAME (--metric NAME)."
        )
    try:
        correct = int(float(record[names[0]]) > 0.5)
    except (TypeError, ValueError) as error:
        raise BrokenLogError(
            f"metric {names[0]!r} of {place} must be a number; got {show(record[names[0]])}."
        ) from error
    replies = record.get("filtered_resps") or record["resps"]
    scored = [_likelihood(reply) for reply in replies] if isinstance(replies, list) else []
    if len(scored) > 1 and all(log is not None for log in scored):
        logs = [log for log in scored if log is not None]
        if any(log != log or log > 1e-3 for log in logs) or max(logs) == -math.inf:
            raise BrokenLogError(
                f"the log-likelihoods of {place} must be at most 0, one above -inf; got {logs}."
            )
        best = max(range(len(logs)), key=logs.__getitem__)
        found = -math.log(math.fsum(math.exp(log - logs[best]) for log in logs))
        return Row(query, model, found, correct, LETTERS[best] if best < len(LETTERS) else str(best))
    answer = replies
    while isinstance(answer, list) and answer:
        answer = answer[0]
    return Row(query, model, None, correct, str(answer).strip())


def _likelihood(reply: Any) -> float | None:
    """Return the log-likelihood of an option, as the harness writes it; None for a text."""
    while isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    if not isinstance(reply, list) or len(reply) != 2 or str(reply[1]) not in ("True", "False"):
        return None
    try:
        return float(reply[0])
    except (TypeError, ValueError):
        return None
