r"""How often a model is right, given its confidence and that of the model before it.

.. math::

    p_i(z_i, z_{i-1}) = \sigma\{a_i + b_i\, x(z_i) + c_i\, x(z_{i-1}) + e_i(z_i)\},

with :math:`x` the standardised logit clipped to `MAX_REGRESSOR` and :math:`e_i` an effect of its own at each
atom, 0 elsewhere; the first model has no :math:`c_i`. Without :math:`c_i` this is the calibration of
Zellinger & Thomson (arXiv 2501.09345), section 3, in standardised logits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.model.params import Calibration, CascadeParams

MAX_REGRESSOR = 6.0
"""Bound of the calibration regressor, in standardised logits.

Nine in ten confidences lie within log 19 = 2.9 of the median. Beyond twice that a log-probability
says how the numbers were rounded, not how sure the model is, and one such query would steer the
whole curve. It is also the finite stand-in for exact certainty, whose own rate is shrunk towards
the curve there.
"""


def regressor(z: jax.Array) -> jax.Array:
    """Return the calibration regressor of standardised logits: ``z`` clipped to `MAX_REGRESSOR`."""
    return jnp.clip(z, -MAX_REGRESSOR, MAX_REGRESSOR)


def own_logit(z: jax.Array, calibration: Calibration) -> jax.Array:
    """Return the log odds of being right without the previous model's part.

    Parameters
    ----------
    z
        Standardised logits, ``(num_models, ...)``.
    calibration
        One draw.
    """

    def per_model(field: jax.Array) -> jax.Array:
        return field.reshape(field.shape[:1] + (1,) * (z.ndim - 1) + field.shape[1:])

    logit = per_model(calibration.intercept) + per_model(calibration.slope) * regressor(z)
    if calibration.atom_locs.shape[-1]:
        here = z[..., None] == per_model(calibration.atom_locs)
        logit = logit + jnp.sum(jnp.where(here, per_model(calibration.atom_effect), 0.0), axis=-1)
    return logit


def correctness_logit(z: jax.Array, params: CascadeParams) -> jax.Array:
    """Return the log odds of being right, ``(num_models, num_queries)`` like ``z``."""
    x = regressor(z)
    before = jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])
    return own_logit(z, params.calibration) + params.upstream[:, None] * before


def log_bernoulli(logit: jax.Array, correct: jax.Array) -> jax.Array:
    """Return ``log p`` where ``correct``, else ``log(1 - p)``, from the log odds of ``p``."""
    return -jax.nn.softplus(jnp.where(correct, -logit, logit))
