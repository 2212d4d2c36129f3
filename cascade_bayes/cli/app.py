"""The program ``cascade-bayes``: its commands, and what becomes of errors.

Each command has a module, and imports what computes when it runs. With ``--json`` standard output holds one
JSON object and nothing else; all talk goes to standard error.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from cascade_bayes._output import close_outputs
from cascade_bayes.cli.cache import cache
from cascade_bayes.cli.check import check
from cascade_bayes.cli.collect import collect
from cascade_bayes.cli.common import EXIT_INFEASIBLE, EXIT_INPUT, print_marked, say
from cascade_bayes.cli.convert import convert
from cascade_bayes.cli.demo import demo
from cascade_bayes.cli.evaluate import evaluate
from cascade_bayes.cli.fit import fit
from cascade_bayes.cli.guarantee import guarantee
from cascade_bayes.cli.inspect import inspect
from cascade_bayes.cli.programs import Damage
from cascade_bayes.cli.report import report
from cascade_bayes.cli.tune import tune
from cascade_bayes.cli.watch import watch
from cascade_bayes.cli.worth import worth
from cascade_bayes.errors import InfeasibleError, InputError

app = typer.Typer(
    name="cascade-bayes",
    help="Tune cascades of language models: deferral thresholds of least expected cost, with their "
    "uncertainty.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 2 bad usage or input, 3 the fit did not converge, failed a check or is out "
    "of date, or the command goes by such a fit (--accept-rejected-fit), 4 infeasible request, "
    "130 interrupted, 143 terminated.",
)
_COMMANDS = (
    *(collect, convert, inspect, fit, check, tune, worth, evaluate, guarantee, report),
    *(watch, demo, cache),
)
_FORMER = {"draws": "num-draws", "chains": "num-chains", "target-accept": "target-accept-prob"}
"""Options that had other names than in Python; they are still understood, and no help shows them."""

for command in _COMMANDS:
    app.command(context_settings={"token_normalize_func": lambda name: _FORMER.get(name, name)})(command)


_damage = Damage()


def run() -> None:
    """Run the command line; turn errors of input into one sentence and an exit code."""
    warnings.showwarning = _show_warning
    try:
        app(standalone_mode=True)
    except InfeasibleError as error:
        print_marked("Infeasible:", "bold red", error)
        sys.exit(EXIT_INFEASIBLE)
    except InputError as error:
        print_marked("Error:", "bold red", error)
        sys.exit(EXIT_INPUT)
    except (MemoryError, RuntimeError) as error:
        # JAX's own error is a RuntimeError that begins so.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print_marked(
            "Error:", "bold red", "there is not enough memory. Ask for fewer draws, models or queries."
        )
        sys.exit(EXIT_INPUT)
    finally:
        close_outputs()
        if done := _damage.mend():
            say.print(done)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the source line that means nothing to a user."""
    if _damage.notice(str(message)):
        return
    print_marked("Warning:", "bold yellow", message)
