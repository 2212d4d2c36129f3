"""The command line: ``cascade-bayes demo | inspect | fit | check | tune | worth | evaluate | report``.

`cascade_bayes.cli.app` holds the program. It takes a while to import, and a signal may arrive meanwhile:
here is only what has to stand before. Exit codes: 0 done; 2 bad usage or input, or an output that cannot be
written; 3 the fit did not converge or failed a check, or the command goes by such a fit; 4 no policy meets
the request; 130 interrupted by Ctrl-C; 143 terminated.
"""

from __future__ import annotations

from cascade_bayes.cli.interrupts import ending_at_signals
from cascade_bayes.cli.streams import guarded_streams


def main() -> None:
    """Run the command line, and leave with an exit code."""
    with ending_at_signals(), guarded_streams():
        from cascade_bayes.cli.app import run

        run()
