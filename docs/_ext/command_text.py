"""The reference of the command line as Markdown, written from the parser of the command itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

PROGRAM = "cascade-bayes"

WORDS = {Path: "FILE", int: "N", float: "NUMBER", str: "TEXT", bool: ""}
"""What stands for a value of each type where a command names nothing itself."""


def commands() -> dict[str, Any]:
    """Return the commands of the program as click objects, by name, in the order of ``--help``."""
    from typer.main import get_command

    from cascade_bayes.cli.app import app

    found: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    return found


def markdown() -> Iterator[str]:
    """Yield the lines of the reference."""
    for name, command in commands().items():
        yield from (f"## {name}", "", _escaped(inspect.cleandoc(command.help or "")), "")
        yield from ("```text", *_usage(name, command), "```", "")
        for parameter in command.params:
            if getattr(parameter, "hidden", False) or "--help" in parameter.opts:
                continue
            yield from _entry(command, parameter)
            yield ""


def _usage(name: str, command: Any) -> list[str]:
    arguments = [_metavar(command, p) for p in command.params if p.param_type_name == "argument"]
    needed = [
        f"{max(p.opts, key=len)} {_metavar(command, p)}"
        for p in command.params
        if p.param_type_name == "option" and p.required
    ]
    return [" ".join([PROGRAM, name, *arguments, *needed, "[OPTIONS]"])]


def _entry(command: Any, parameter: Any) -> Iterator[str]:
    """Yield one parameter as a term and its definition."""
    if parameter.param_type_name == "argument":
        yield f"`{_metavar(command, parameter)}`"
    else:
        names = [*parameter.opts, *parameter.secondary_opts]
        value = _metavar(command, parameter)
        yield ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in names)
    text = _escaped(" ".join((getattr(parameter, "help", None) or "").split()))
    yield f": {text}{_default(parameter)}"


def _metavar(command: Any, parameter: Any) -> str:
    """Return what stands for the value of a parameter; empty for a switch."""
    if parameter.metavar:
        return str(parameter.metavar)
    # Of the function itself: the parser's own record of types differs from version to version of typer.
    kind = inspect.signature(command.callback, eval_str=True).parameters[parameter.name].annotation
    kind = getattr(kind, "__origin__", kind)  # without what Annotated adds
    kinds = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return WORDS[kinds[0]]


def _default(parameter: Any) -> str:
    """Return what is used if an option is left out, where that can be said."""
    if parameter.required:
        return " Required."
    shown = getattr(parameter, "show_default", None)
    value = shown if isinstance(shown, str) else parameter.default
    if value is None or value is False or callable(value) or str(value).startswith("Sentinel"):
        return ""
    if value is True:
        value = parameter.opts[0]
    return f" Default: `{value}`."


def _escaped(text: str) -> str:
    """Return text whose brackets, stars and pipes Markdown shows as they are."""
    return "".join(f"\\{c}" if c in "[]*_<>{}$|" else c for c in text)
