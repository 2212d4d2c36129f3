"""Questions to ask: a file or frame with `input`, `target`, optional `choices` and `id`."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.files import Column, read_file
from cascade_bayes.reading.frames import columns_of
from cascade_bayes.reading.headings import fold

COLUMNS = ("input", "target", "choices", "id")
LETTERS = string.ascii_uppercase
"""Letters of the options of a multiple-choice question, of which there are 26 at most."""


class Question(NamedTuple):
    """One question, and what a right answer to it is.

    Attributes
    ----------
    id
        Name of the query in the table.
    input
        What the model is asked.
    target
        The right answer; of a multiple-choice question its letter.
    choices
        The options of a multiple-choice question; empty for other questions.
    """

    id: str
    input: str
    target: str
    choices: tuple[str, ...] = ()

    @property
    def letters(self) -> str:
        """Letters of the options, one after the other."""
        return LETTERS[: len(self.choices)]


def read_questions(source: Any) -> list[Question]:
    """Read questions from a CSV, JSON Lines or Parquet file, a frame, or a list of mappings.

    Parameters
    ----------
    source
        Columns `input` and `target`, optionally `choices` (a list; in CSV one in JSON, or with ``|`` between
        the options) and `id` (the number of the row if there is none). The target of a question with options
        is a letter, or one of the options.

    Raises
    ------
    InputError
        If a question cannot be used; the message names its row.
    TypeError
        If the source is none of these.
    """
    if isinstance(source, str | os.PathLike):
        place = f"file of questions {os.fsdecode(source)!r}"
        columns = read_file(Path(os.fsdecode(source)), place, _choose).columns
    elif isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        place = "list of questions"
        names = list(dict.fromkeys(str(name) for row in source for name in row))
        columns = [Column(name, [row.get(name) for row in source]) for name in names]
    else:
        place = "table of questions"
        columns = columns_of(source, _choose)
    roles = _choose([column.name for column in columns])
    given = {roles[column.name]: _listed(column.values) for column in columns if column.name in roles}
    for name in ("input", "target"):
        if name not in given:
            raise InputError(
                f"the {place} has no column {name!r}; it has {names_of(c.name for c in columns)}. Give "
                "every question an input and a target."
            )
    count = len(given["input"])
    if not count:
        raise InputError(f"the {place} has no rows; it needs one row per question.")
    empty: list[Any] = [None] * count
    questions = [
        _question(place, row, *values)
        for row, values in enumerate(zip(*(given.get(name, empty) for name in COLUMNS), strict=True), start=1)
    ]
    _check_ids(questions, place)
    return questions


def _choose(names: Sequence[str]) -> dict[str, str]:
    return {name: fold(name) for name in names if fold(name) in COLUMNS}


def _listed(values: Any) -> list[Any]:
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, name):
            return list(getattr(values, name)())
    return list(values)


def _text(value: Any) -> str:
    """Return a cell as text, empty if there is nothing in it."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps
    return str(value).strip()


def _question(place: str, row: int, asked: Any, target: Any, choices: Any, name: Any) -> Question:
    where = f"in row {row} of the {place}"
    text = "" if asked is None or asked != asked else str(asked)
    if not text.strip():
        raise InputError(f"the input {where} is empty: write the question there, or leave the row out.")
    options = _options(choices, where)
    right = _text(target)
    if not right:
        raise InputError(f"the target {where} is empty: write the right answer there, or leave the row out.")
    if options:
        right = _letter(right, options, where)
    return Question(_text(name) or str(row), text, right, options)


def _options(choices: Any, where: str) -> tuple[str, ...]:
    if hasattr(choices, "tolist"):
        choices = choices.tolist()
    if isinstance(choices, str):
        text = choices.strip()
        if text.startswith("["):
            try:
                choices = json.loads(text)
            except ValueError as error:
                raise InputError(
                    f'the choices {where} are no list in JSON: {show(text)}. Write ["first", "second"], or '
                    "first|second."
                ) from error
        else:
            choices = [part.strip() for part in text.split("|")] if text else []
    if choices is None or (isinstance(choices, float) and choices != choices):
        return ()
    if not isinstance(choices, list | tuple):
        raise InputError(f"the choices {where} must be a list; got {show(choices)}.")
    options = tuple(_text(choice) for choice in choices)
    if len(options) == 1 or len(options) > len(LETTERS) or not all(options):
        raise InputError(
            f"the choices {where} must be 2 to {len(LETTERS)} options with something in each; got "
            f"{show(list(options))}. Write all of them, or none for an open question."
        )
    return options


def _letter(target: str, options: tuple[str, ...], where: str) -> str:
    """Return the letter of the right option."""
    letters = LETTERS[: len(options)]
    if target in options:
        if options.count(target) > 1 or (target in letters and options[letters.index(target)] != target):
            raise InputError(
                f"the target {where}, {show(target)}, may be more than one of the choices. Write the letter "
                "of the right one, and choices that are not letters themselves."
            )
        return letters[options.index(target)]
    if len(target) == 1 and target.upper() in letters:
        return target.upper()
    raise InputError(
        f"the target {where} must be a letter from A to {letters[-1]} or one of the choices; got "
        f"{show(target)}. Write the letter of the right choice."
    )


def _check_ids(questions: Sequence[Question], place: str) -> None:
    first: dict[str, int] = {}
    for row, question in enumerate(questions, start=1):
        if question.id in first:
            raise InputError(
                f"rows {first[question.id]} and {row} of the {place} have the same id {show(question.id)}. "
                "Give each question an id of its own, or leave the column out."
            )
        first[question.id] = row
