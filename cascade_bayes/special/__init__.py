"""Special functions JAX lacks, or lacks the derivatives of, in log space and safe in both tails."""

from cascade_bayes.special._betainc import betainc, betaincc, logit_betainc
from cascade_bayes.special._elementary import betaln, log1mexp

__all__ = ["betainc", "betaincc", "betaln", "log1mexp", "logit_betainc"]
