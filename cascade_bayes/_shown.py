"""How objects print: a few lines at a prompt, and a small table in a notebook, instead of all their numbers.

An object says what there is to see as a `Card`; the class decorator `shown` makes ``__repr__`` and
``_repr_html_`` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple, TypeVar

MAX_ROWS = 8
"""Rows of a table that are printed, at most; the others are counted."""

MAX_CELL = 48
"""Characters of a cell that are printed, at most."""

C = TypeVar("C", bound=type)


class Card(NamedTuple):
    """What is printed of an object: a title, a table and some sentences.

    Attributes
    ----------
    title
        What the object is, in a few words.
    columns
        Names of the table's columns, with their units.
    rows
        Cells of the table, a tuple a row, as text.
    notes
        Sentences below the table.
    """

    title: str
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the card as lines of text, columns aligned.

        Examples
        --------
        >>> print(Card("Two models", ("model", "right"), [("small", "70 %"), ("large", "85 %")]).text())
        Two models
          model  right
          small  70 %
          large  85 %
        """
        lines = [self.title]
        if self.rows:
            table = [self.columns, *(tuple(map(_brief, row)) for row in self.rows[:MAX_ROWS])]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            for row in table:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                lines.append(f"  {'  '.join(cells)}".rstrip())
            lines += [f"  {more}" for more in self._more()]
        return "\n".join([*lines, *self.notes])

    def html(self) -> str:
        """Return the card as HTML in which every text is escaped."""
        parts = [f"<div><p><strong>{escape(self.title)}</strong></p>"]
        if self.rows:
            head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
            body = "".join(
                f"<tr>{''.join(f'<td>{escape(_brief(cell))}</td>' for cell in row)}</tr>"
                for row in self.rows[:MAX_ROWS]
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts += [f"<p>{escape(note)}</p>" for note in (*self._more(), *self.notes)]
        return "".join([*parts, "</div>"])

    def _more(self) -> list[str]:
        left = len(self.rows) - MAX_ROWS
        return [f"... and {left} more"] if left > 0 else []


def _brief(cell: str) -> str:
    """Return a cell on one line, and not too long: names of models may be anything."""
    line = "".join(letter if letter.isprintable() else " " for letter in cell)
    return line if len(line) <= MAX_CELL else f"{line[: MAX_CELL - 3]}..."


def shown(card: Callable[[Any], Card]) -> Callable[[C], C]:
    """Return a class decorator that has objects print as the card which a function makes of them.

    Parameters
    ----------
    card
        Takes the object, and returns what there is to see.

    Examples
    --------
    >>> @shown(lambda point: Card(f"a point at {point.x}"))
    ... class Point:
    ...     x = 3
    >>> Point()
    a point at 3
    """

    def decorate(cls: C) -> C:
        def __repr__(self: Any) -> str:  # noqa: N807
            return card(self).text()

        def _repr_html_(self: Any) -> str:
            return card(self).html()

        # Set on the class itself: a dataclass and a named tuple have written a __repr__ of their own there.
        for method in (__repr__, _repr_html_):
            setattr(cls, method.__name__, method)
        return cls

    return decorate


def spread(count: int, most: int = MAX_ROWS) -> list[int]:
    """Return which of many rows are printed, evenly spaced, the first and the last among them.

    Examples
    --------
    >>> spread(41, 5)
    [0, 10, 20, 30, 40]
    """
    kept = min(count, most)
    return [round(i * (count - 1) / max(kept - 1, 1)) for i in range(kept)]


def number(value: float) -> str:
    """Return a number to four digits.

    Examples
    --------
    >>> number(0.123456)
    '0.1235'
    """
    return f"{value:.4g}"


def band(ends: Sequence[float], factor: float = 1.0) -> str:
    """Return a mean with its interval, in a unit that is ``factor`` times smaller.

    Parameters
    ----------
    ends
        The mean, the lower and the upper end, three numbers.
    factor
        What they are multiplied by: 100 for percent.

    Examples
    --------
    >>> band((0.123456, 0.1, 0.15), factor=100)
    '12.3 (10 to 15)'
    >>> band((0.02, 0.02, 0.02))  # nothing is open
    '0.02'
    """
    middle, start, end = (f"{factor * value:.3g}" for value in ends)
    return middle if middle == start == end else f"{middle} ({start} to {end})"
