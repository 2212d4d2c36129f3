"""Imports run downward: from a part of the package to those below it, and never in a circle of files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cascade_bayes

PACKAGE = Path(cascade_bayes.__file__).parent
NAME = PACKAGE.name

PARTS = (
    *("errors", "_entry", "_numbers", "_names", "_kinds", "_temporary", "_trees", "_devices", "_kept"),
    *("_units", "_shown", "markers", "verdict", "transforms", "rule", "_output", "_files", "data"),
    *("special", "distributions", "copulas"),
    *("reading", "collecting", "evaluation", "policy", "serving"),
    *("model", "engine", "inference", "decision", "watching"),
    *("sbc", "plots", "plot", "reporting", "example", "demo", "cli"),
)
"""Parts of the package from the ground up: each may import those that stand before it."""


def module_files() -> dict[str, Path]:
    """Return the file of every module of the package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def imported(tree: ast.Module, modules: set[str]) -> set[str]:
    """Return the modules among these that a file imports when it runs: not for type checkers alone."""
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole package"
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= deeper if deeper <= modules else {str(node.module), *(deeper & modules)}
    return found & modules


MODULES = module_files()
IMPORTS = {
    name: imported(ast.parse(path.read_text()), set(MODULES)) - {name} for name, path in MODULES.items()
}


def part_of(module: str) -> str:
    """Return which part of the package a module belongs to."""
    return module.split(".")[1]


def test_every_part_stands_in_the_table() -> None:
    assert {part_of(name) for name in MODULES if name != NAME} == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_what_is_below_it(part: str) -> None:
    below = PARTS[: PARTS.index(part) + 1]
    upward = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in sorted(others)
        if name != NAME and part_of(name) == part and (other == NAME or part_of(other) not in below)
    ]
    assert not upward


def test_no_files_import_each_other_in_a_circle() -> None:
    left = {name: set(others) for name, others in IMPORTS.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"among these there is a circle: {', '.join(sorted(left))}"


def test_imports_are_found() -> None:
    """The reader of imports sees those inside functions, and leaves those for type checkers out."""
    code = """
from typing import TYPE_CHECKING
import a.b
from a import c, name
if TYPE_CHECKING:
    import a.types
def late():
    from a.d import something
"""
    modules = {"a", "a.b", "a.c", "a.d", "a.types"}
    assert imported(ast.parse(code), modules) == {"a", "a.b", "a.c", "a.d"}


def test_policies_decide_without_jax() -> None:
    code = (
        "import sys; from cascade_bayes import Policy, Terms, load_policies; Policy.load; Policy.decide; "
        "print(sorted({'jax', 'numpyro', 'pandas', 'scipy', 'arviz'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


MANY_OPTIONS = {"collect", "fit", "error_cost_frontier", "report"}
"""Functions that users give more than nine options to, each a word with a meaning of its own."""


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(f"{NAME}.cli.")])
def test_functions_are_short(module: str) -> None:
    """Eighty lines of code and nine arguments at most; commands have as many options as they have."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        lines = node.end_lineno - body[0].lineno + 1 if body and node.end_lineno else 0
        given = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        own = [name for name in given if name not in ("self", "cls")]
        assert lines <= 80, f"{node.name} has {lines} lines of code"
        assert len(own) <= 9 or node.name in MANY_OPTIONS, f"{node.name} takes {len(own)} arguments"
