"""The examples in docstrings."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import cascade_bayes

ROOT = Path(cascade_bayes.__file__).parent


def modules_with_examples() -> list[str]:
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


SLOW = {"cascade_bayes.inference.prior", "cascade_bayes.model.simulate"}
"""Modules whose examples compile programs that no other test by default needs."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in modules_with_examples()
    ],
)
def test_examples_show_what_they_say(name: str) -> None:
    assert not doctest.testmod(import_module(name)).failed
