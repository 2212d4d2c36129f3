"""OpenAI chat completions with log-probabilities, as JSON Lines: responses, and the output of batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade_bayes._names import suggest
from cascade_bayes.collecting.logs import BrokenLogError, Paths, json_lines, listed_paths, logs_to_table
from cascade_bayes.collecting.questions import Question, read_questions
from cascade_bayes.collecting.tables import Row, dollars_of
from cascade_bayes.collecting.tokens import Position, answer_logprob, letter_of, mean_logprob
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.costs import read_prices

if TYPE_CHECKING:
    import pandas

CONFIDENCES = ("answer_logprob", "mean_logprob")


def read_openai(
    paths: Paths,
    *,
    questions: Any = None,
    confidence: str = "mean_logprob",
    prices: Any = None,
) -> pandas.DataFrame:
    """Read chat completions that were asked for with ``logprobs`` into a table.

    Parameters
    ----------
    paths : path or list of paths
        JSON Lines. A line is a response (``"object": "chat.completion"``) with the key `custom_id` or
        `query` added, which names the question, or a line of the output of a batch.
    questions : path, frame or list of mappings, optional
        The questions with their targets, as `collect` takes them, by the same names. Without them the table
        has no column `correct`. An answer is right if it is the letter, or the same text but for capital
        letters, blanks and punctuation at its ends.
    confidence : {'mean_logprob', 'answer_logprob'}
        Mean over the tokens of the answer, or that of the letter of a multiple-choice question.
    prices : mapping or path of a JSON file, optional
        ``{model: {"in": ..., "out": ...}}`` in US dollars per million tokens, by the names in the responses.

    Returns
    -------
    pandas.DataFrame
        One row per question and model, for `read_table`.

    Raises
    ------
    InputError
        If a line cannot be used; the message names the file and the line.

    Warns
    -----
    DataWarning
        If lines are of calls that failed or were refused: they have no row.
    """
    if confidence not in CONFIDENCES:
        raise InputError(f"there is no confidence {confidence!r}. {suggest(str(confidence), CONFIDENCES)}")
    asked = None if questions is None else {q.id: q for q in read_questions(questions)}
    if confidence == "answer_logprob" and asked is None:
        raise InputError(
            "confidence 'answer_logprob' needs the choices of the questions: pass questions=... (--questions "
            "FILE), or take confidence='mean_logprob' (--confidence mean_logprob)."
        )
    known = None if prices is None else read_prices(prices)

    def rows() -> Iterator[Row | str]:
        for path in listed_paths(paths):
            for number, record in json_lines(path):
                place = f"line {number} of {str(path)!r}"
                yield _row(record, place, asked, confidence, known)

    return logs_to_table(rows())


def _row(
    record: Mapping[str, Any],
    place: str,
    asked: Mapping[str, Question] | None,
    confidence: str,
    prices: Mapping[str, tuple[float, float]] | None,
) -> Row | str:
    """Return the row of a line, or the kind of the failure that it tells of."""
    body: Any = record
    if "response" in record or "error" in record:
        response = record.get("response") or {}
        if record.get("error") or response.get("status_code") != 200:
            return "provider"
        body = response.get("body")
    query = record.get("custom_id", record.get("query"))
    if not isinstance(query, str | int) or isinstance(query, bool):
        raise BrokenLogError(
            f'{place} does not say which question it is of: add the key "custom_id" to it, the same for all '
            "models."
        )
    try:
        choice, model = body["choices"][0], str(body["model"])
        message = choice["message"]
        text = message.get("content") or ""
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BrokenLogError(
            f"{place} is no chat completion: it lacks {show(str(error))}. Give lines of responses, or the "
            "output file of a batch."
        ) from error
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        return "refused"
    question = None if asked is None else asked.get(str(query))
    if asked is not None and question is None:
        raise BrokenLogError(
            f"{place} is of question {show(query)}, which is not among the questions. "
            f"{suggest(str(query), list(asked))}"
        )
    letter = letter_of(text, question.letters) if question and question.choices else None
    positions = _positions(choice, place)
    found = mean_logprob(positions)
    if confidence == "answer_logprob":
        if not question or not question.choices:
            raise BrokenLogError(f"question {show(query)} of {place} has no choices: take 'mean_logprob'.")
        if letter is None or (found := answer_logprob(positions, letter)) is None:
            return "unparsable"
    correct = None
    if question is not None:
        right = letter == question.target if question.choices else _same(text) == _same(question.target)
        correct = int(right)
    usage = body.get("usage") or {}
    tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if prices is not None and model not in prices:
        raise InputError(f"the prices have no entry for model {model!r}. {suggest(model, list(prices))}")
    dollars = dollars_of(*tokens, None if prices is None else prices[model])
    return Row(str(query), model, found, correct, letter or text.strip(), dollars, *tokens)


def _positions(choice: Mapping[str, Any], place: str) -> Sequence[Position]:
    try:
        content = choice["logprobs"]["content"]
        return [
            Position(
                str(token["token"]),
                _log(token["logprob"]),
                tuple((str(t["token"]), _log(t["logprob"])) for t in token.get("top_logprobs") or ()),
            )
            for token in content
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenLogError(
            f'{place} has no log-probabilities, or broken ones: ask with "logprobs": true, and leave the '
            "answers as they come."
        ) from error


def _log(value: Any) -> float:
    """Return a log-probability (`ValueError` if it is none; rounding above 0 is forgiven)."""
    number = float(value)
    if isinstance(value, bool) or not number <= 1e-3:
        raise ValueError("no log-probability")
    return number


def _same(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().strip(".,;:!?\"'*").casefold()
