"""Long tables to typed columns, with every complaint naming its place.

Nothing here knows about cascades; `reader` assembles what this module parses, and `cells` says what one cell
may hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading import cells
from cascade_bayes.reading.cells import show

_T = TypeVar("_T")


@dataclass(frozen=True)
class Table:
    """A long table whose `query` and `model` are coded, and whose other columns parse on request.

    Parameters
    ----------
    columns : mapping of str to ndarray, each of shape (num_rows,)
        The known columns, of numbers or of objects.
    row_numbers : ndarray of int, shape (num_rows,)
        1-based data rows of the source, for messages.
    query_codes, model_codes : ndarray of int, shape (num_rows,)
        Positions in the names below.
    query_names, model_names : tuple of str
        Names in order of first appearance, unless `restrict` was given another order.
    """

    columns: Mapping[str, NDArray[Any]]
    row_numbers: NDArray[np.int64]
    query_codes: NDArray[np.int64]
    query_names: tuple[str, ...]
    model_codes: NDArray[np.int64]
    model_names: tuple[str, ...]

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, NDArray[Any]], row_numbers: NDArray[np.int64] | None = None
    ) -> Table:
        """Code the names, and keep one of rows that are the same in every column.

        Parameters
        ----------
        columns
            Columns by the names of this library, each of shape ``(num_rows,)``.
        row_numbers
            Which row of the source each entry is of, counted from 1; 1, 2, 3, ... by default.

        Raises
        ------
        InputError
            If a name is missing or ambiguous, or rows of one query and model differ.

        Warns
        -----
        DataWarning
            If rows are repeated.
        """
        count = len(columns["query"])
        rows = np.arange(1, count + 1) if row_numbers is None else row_numbers
        query_codes, query_names = _code_names(columns["query"], "query", rows)
        model_codes, model_names = _code_names(columns["model"], "model", rows)
        table = cls(columns, rows, query_codes, query_names, model_codes, model_names)
        pair = query_codes * len(model_names) + model_codes
        order = np.argsort(pair, kind="stable")
        repeats = np.flatnonzero(np.diff(pair[order]) == 0)
        return table._without(order, repeats) if repeats.size else table

    def _without(self, order: NDArray[np.int64], repeats: NDArray[np.int64]) -> Table:
        """Drop rows that say again what the row before them in an order says."""
        later = np.argsort(order[repeats + 1], kind="stable")  # so that the first in the table is named
        for at in repeats[later]:
            first, second = int(order[at]), int(order[at + 1])
            differ = [
                name for name, values in self.columns.items() if not _same(values[first], values[second])
            ]
            if differ:
                raise InputError(
                    f"each pair of query and model may occur once; query {show(self.query(second))} with "
                    f"model {show(self.model(second))} is in row {self.row_numbers[first]} and again in row "
                    f"{self.row_numbers[second]}, with another {differ[0]}. Keep one of the rows."
                )
        keep = np.ones(len(order), dtype=bool)
        keep[order[repeats + 1]] = False
        second = int(order[repeats + 1].min())
        are = "row is" if repeats.size == 1 else "rows are"
        warnings.warn(
            f"{repeats.size} {are} left out, because an earlier row says the same of the same query and "
            f"model; the first is row {self.row_numbers[second]} (query {show(self.query(second))}, model "
            f"{show(self.model(second))}).",
            DataWarning,
            stacklevel=2,
        )
        return replace(
            self,
            columns={name: values[keep] for name, values in self.columns.items()},
            row_numbers=self.row_numbers[keep],
            query_codes=self.query_codes[keep],
            model_codes=self.model_codes[keep],
        )

    def query(self, i: int) -> str:
        """Name of the query at row position `i`."""
        return self.query_names[self.query_codes[i]]

    def model(self, i: int) -> str:
        """Name of the model at row position `i`."""
        return self.model_names[self.model_codes[i]]

    def fail(self, i: int, column: str, rule: str, got: str, remedy: str) -> NoReturn:
        """Raise the `InputError` for the value of `column` at row position `i`."""
        raise InputError(
            f"{column} of model {show(self.model(i))} must be {rule}; {got} in row {self.row_numbers[i]} "
            f"(query {show(self.query(i))}). {remedy}"
        )

    def has(self, column: str) -> bool:
        """Whether the source has this column."""
        return column in self.columns

    def restrict(self, models: Sequence[str]) -> Table:
        """Keep the rows of some models, in this order; queries without a row are dropped."""
        code = {name: position for position, name in enumerate(models)}
        recode = np.array([code.get(name, -1) for name in self.model_names])
        keep = np.flatnonzero(recode[self.model_codes] >= 0)
        kept, query_codes = np.unique(self.query_codes[keep], return_inverse=True)
        return Table(
            {name: values[keep] for name, values in self.columns.items()},
            self.row_numbers[keep],
            query_codes,
            tuple(self.query_names[i] for i in kept),
            recode[self.model_codes[keep]],
            tuple(models),
        )

    def numbers(self, column: str, percent: Callable[[Any], float] | None = None) -> NDArray[np.float64]:
        """Parse a column of numbers, nan where missing; text such as '-Infinity' is understood.

        Parameters
        ----------
        column
            Its name.
        percent
            Reads a cell such as ``83.5%``, and any other as `cells.number` does; without it these are
            refused.
        """
        values = self.columns[column]
        if values.dtype != object:
            with np.errstate(over="ignore"):
                parsed = np.asarray(values, dtype=np.float64)
            if (np.isinf(parsed) == np.isinf(values)).all():  # not if numbers of 128 bits overflow
                return parsed
            values = values.astype(object)
        try:
            return np.array(self._parse(column, values, cells.number, "a number"), dtype=np.float64)
        except InputError:
            if percent is None or not any(isinstance(value, str) and "%" in value for value in values):
                raise
        return np.array(self._parse(column, values, percent, "a number"), dtype=np.float64)

    def _parse(self, column: str, values: NDArray[Any], parse: Callable[[Any], _T], rule: str) -> list[_T]:
        try:
            return [parse(value) for value in values]
        except ValueError:
            for i, value in enumerate(values):
                try:
                    parse(value)
                except ValueError as error:
                    self.fail(i, column, rule, f"got {show(value)}", str(error))
            raise

    def amounts(self, column: str, what: str, *, required: bool = True) -> NDArray[np.float64]:
        """Parse a column of finite numbers >= 0, and none missing if `required`."""
        values = self.numbers(column)
        bad = (values < 0.0) | np.isinf(values)
        if required:
            bad |= np.isnan(values)
        if bad.any():
            i = int(np.argmax(bad))
            missing = np.isnan(values[i])
            got = "it is missing" if missing else f"got {float(values[i])!r}"
            remedy = "Correct it or remove the row." if required else "Correct it or leave it empty."
            self.fail(i, column, f"a finite number >= 0 ({what})", got, remedy)
        return values

    def scored_labels(self, column: str, above: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Take answers with a score above a number for right, as `labels` returns them."""
        scores = self.numbers(column, cells.share)
        return scores > above, ~np.isnan(scores)

    def labels(self, column: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Parse right and wrong: ``(correct, labelled)``, with `correct` False where unlabelled."""
        values = self.columns[column]
        if values.dtype != object:  # a table may have many rows: no call for each
            missing, right = np.isnan(values), values == 1
            if (missing | right | (values == 0)).all():
                return right, ~missing
        parsed = self._parse(column, values, cells.label, cells.LABEL_RULE)
        return (
            np.array([value is True for value in parsed], dtype=np.bool_),
            np.array([value is not None for value in parsed], dtype=np.bool_),
        )


def _same(one: Any, other: Any) -> bool:
    """Whether two cells hold the same: both nothing, or equal values of one type."""
    if cells.is_missing(one) and cells.is_missing(other):
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except (ValueError, TypeError, ArithmeticError, RecursionError):  # arrays, numbers that cannot compare
        return False


def _code_names(
    values: NDArray[Any], column: str, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Code the names of a column by first appearance; `InputError` for one missing or ambiguous."""
    position: dict[str, int] = {}
    known: dict[Any, int] = {}  # codes of cells seen before, by type: True and 1 are equal to Python
    codes = np.empty(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        key = value if type(value) is str else _key(value)
        code = known.get(key, -1) if key is not None else -1
        if code < 0:
            text = _name(value, column, rows, i)
            code = position.setdefault(text, len(position))
            if key is not None:
                known[key] = code
        codes[i] = code
    names = tuple(position)
    looks: dict[str, int] = {}
    for code, text in enumerate(names):
        other = looks.setdefault(cells.look(text), code)
        if other != code:
            places = [int(rows[np.argmax(codes == each)]) for each in (other, code)]
            raise InputError(
                f"names in column {column!r} must differ by more than spaces around them; "
                f"{show(names[other])} in row {places[0]} and {show(text)} in row {places[1]} do not. Write "
                "them alike."
            )
    return codes, names


def _key(value: Any) -> Any:
    return (type(value), value) if isinstance(value, int | np.integer | np.floating) else None


def _name(value: Any, column: str, rows: NDArray[np.int64], i: int) -> str:
    try:
        text = cells.name(value)
    except ValueError as error:
        raise InputError(
            f"{column} must be a plain value, text or a number; got {show(value)} in row {rows[i]}. {error}"
        ) from error
    if not text.strip():
        raise InputError(
            f"{column} must be given in every row; it is missing in row {rows[i]}. Fill it in or remove the "
            "row."
        )
    return text
