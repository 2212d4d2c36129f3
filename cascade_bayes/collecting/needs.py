"""The extra `collect`: what it installs is imported here, or named in a sentence."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cascade_bayes.errors import InputError


def inspect_ai() -> Any:
    """Return the package `inspect_ai`.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module("inspect_ai")
    except ModuleNotFoundError as error:
        raise InputError(
            f"asking models and reading logs of Inspect needs the package {error.name!r}, which is not "
            "installed: pip install 'cascade-bayes[collect]'."
        ) from error
