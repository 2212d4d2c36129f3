"""What all readers of logs share: lists of paths, lines of JSON, and rows that become one table."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_bayes.collecting.tables import Row, counted, table_of
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.files import one_line, parse_json

if TYPE_CHECKING:
    import pandas

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One path or several."""


class BrokenLogError(InputError):
    """A log that cannot be read: the message names the file and the place."""


def listed_paths(paths: Paths, endings: Sequence[str] = ()) -> list[Path]:
    """Return the files that paths name; of a folder, those in it and below with one of these endings.

    Raises
    ------
    InputError
        If there are none, or one does not exist.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: list[Path] = []
    for path in map(Path, given):
        if path.is_dir() and endings:
            found = sorted(file for ending in endings for file in path.rglob(f"*{ending}"))
            if not found:
                raise InputError(
                    f"the folder {str(path)!r} holds no file that ends in {' or '.join(endings)}; name the "
                    "folder of the logs."
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            what = "is a folder; name its files" if path.is_dir() else "does not exist; check the path"
            raise InputError(f"the log {str(path)!r} {what}.")
    if not files:
        raise InputError("there are no logs to read: name at least one.")
    return files


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON Lines file with the numbers of their lines.

    Raises
    ------
    BrokenLogError
        If the file is empty, or a line is no JSON object, as the last one of a file that was cut short.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenLogError(f"the log {str(path)!r} cannot be read: {one_line(error)}. Check it.") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise BrokenLogError(f"the log {str(path)!r} is empty; write it again.")
    for number, line in lines:
        try:
            record = parse_json(line)
        except (ValueError, RecursionError) as error:
            last = " It is the last one: the file may have been cut short." if number == lines[-1][0] else ""
            raise BrokenLogError(
                f"line {number} of {str(path)!r} is no JSON: {one_line(error)}.{last} Write the log again, "
                "or remove the line."
            ) from error
        if not isinstance(record, dict):
            raise BrokenLogError(
                f"line {number} of {str(path)!r} must be a JSON object; got {show(record)}. Remove the line."
            )
        yield number, record


def logs_to_table(rows: Iterable[Row | str]) -> pandas.DataFrame:
    """Return rows as a table, and warn of what failed, by kind.

    Parameters
    ----------
    rows
        A row, or the kind of a failure, for each sample.

    Raises
    ------
    InputError
        If two rows are of the same question and model, or there is none.

    Warns
    -----
    DataWarning
        If samples failed.
    """
    kept: dict[tuple[str, str], Row] = {}
    failed: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, str):
            failed[row] += 1
            continue
        key = (row.query, row.model)
        if key in kept:
            raise InputError(
                f"the logs hold two answers of model {show(row.model)} to {show(row.query)}. Give the logs "
                "of one run of each model, or name the models of the files apart."
            )
        kept[key] = row
    if not kept:
        what = f": {counted(failed)}" if failed else ""
        raise InputError(f"the logs hold no answer that can be used{what}. Give logs with finished samples.")
    if failed:
        warnings.warn(
            f"{sum(failed.values())} samples of the logs have no row: {counted(failed)}.",
            DataWarning,
            stacklevel=3,
        )
    return table_of(list(kept.values()))
