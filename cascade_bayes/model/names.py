"""Names by which parts of the generative model are chosen, and those that are chosen by default."""

from __future__ import annotations

from typing import Literal

Structure = Literal["chain", "modular"]
"""How a model's parameters are conditioned on the data; `cascade_bayes.model.spec.ModelSpec` says what each
does."""

STRUCTURES: tuple[Structure, ...] = ("modular", "chain")

DEFAULT_MARGIN = "logit_normal"
"""Family of the margins' continuous parts that scores best on held-out confidences; see the table in the
README."""
