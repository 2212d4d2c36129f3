"""Exceptions and warnings that users meet.

All derive from built-in classes, so ``except ValueError`` keeps working for people who do not know
this module. The command line turns each exception into one sentence and the exit code named below.
"""


class InputError(ValueError):
    """Bad input from a user: a table, a price list, an option (exit code 2)."""


class OutputError(InputError, OSError):
    """An output that the system does not take: a full disk, a folder without permission (exit code 2)."""


class InfeasibleError(ValueError):
    """A request no policy can meet; the message names the best reachable value (exit code 4)."""


class DataWarning(UserWarning):
    """Data that can be used, but from which less can be learnt than it seems."""


class ConvergenceWarning(UserWarning):
    """A fit so far from the posterior that nothing should be read off it."""
