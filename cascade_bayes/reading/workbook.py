"""Workbooks of Excel, read by openpyxl, which is not needed for anything else and may be absent."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.reading.compressed import check_zip


def read_workbook(path: Path, place: str) -> list[tuple[str, list[Any]]]:
    """Return the columns of the one sheet of a workbook, as pairs of a name and its cells.

    Formulas count as what they were when the workbook was saved. Empty rows are passed over.

    Parameters
    ----------
    path
        A file that ends in .xlsx.
    place
        How messages name it.

    Raises
    ------
    InputError
        If openpyxl is not installed, the file is no workbook, or several of its sheets hold something.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"the {place} is a workbook, which takes the package openpyxl to read: pip install openpyxl, or "
            "save the sheet as CSV."
        ) from error
    check_zip(path, place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and the like, which say nothing of the cells
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
            finally:
                book.close()
    except Exception as error:  # openpyxl raises whatever its parsers do
        raise ValueError(f"openpyxl says {type(error).__name__}: {error}") from error
    filled = {title: rows for title, rows in sheets.items() if rows}
    if len(filled) != 1:
        found = f"it has {names_of(filled)}" if filled else "it has none"
        raise InputError(
            f"the {place} must have one sheet with something on it; {found}. Save the sheet of results as a "
            "workbook of its own, or as CSV."
        )
    head, *rows = next(iter(filled.values()))
    return [
        ("" if name is None else str(name), [row[i] if i < len(row) else None for row in rows])
        for i, name in enumerate(head)
        if name is not None or any(i < len(row) and row[i] is not None for row in rows)
    ]


def _rows(sheet: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a sheet that are not empty."""
    return [tuple(row) for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
