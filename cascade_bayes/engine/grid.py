r"""A grid of cells per model, on which one draw of the model becomes a finite Markov chain.

Each model's confidence scale is cut at *edges* :math:`e_0 \le e_1 \le \dots \le e_N` of the standardised
logit, the same for all draws. An atom has a cell of its own, with equal edges. The edges of the
continuous cells are quantiles of the posterior mean of the margin, closer together towards both ends.

A threshold is a *position* :math:`r \in [0, N]`: it stands in cell :math:`\lfloor r \rfloor`, at the
fraction :math:`r - \lfloor r \rfloor` of its score. Position :math:`l` of an atom's cell is "at the atom",
which is then not deferred; :math:`l + 1` is "just above" it. Position 0 never defers, :math:`N` always.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from cascade_bayes._kept import kept
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.transforms import ConfidenceMap

DEFAULT_CELLS = 64
"""Cells per model. The test suite measures what refining them changes."""

SUBCELLS = 4
"""Parts of a cell over which the probability of being right is averaged."""


class Grid(NamedTuple):
    """Cells of every model; NumPy arrays, shared by all draws.

    Attributes
    ----------
    edges
        Standardised logits, ``(num_models, num_cells, SUBCELLS + 1)``: the edges of the parts of each
        cell, from -inf to inf. All equal for an atom.
    is_atom
        Which cells are atoms, ``(num_models, num_cells)``.
    atom_raw
        Raw confidence of an atom's cell, NaN elsewhere, ``(num_models, num_cells)``.
    """

    edges: np.ndarray
    is_atom: np.ndarray
    atom_raw: np.ndarray

    @property
    def num_cells(self) -> int:
        """Cells of each model, atoms included."""
        return int(self.edges.shape[1])

    def positions(self, thresholds: np.ndarray, confidence_map: ConfidenceMap) -> np.ndarray:
        """Return the positions of raw thresholds ``(..., num_models - 1)``; -inf never defers, inf always."""
        thresholds = np.asarray(thresholds, dtype=float)
        out = np.empty(thresholds.shape)
        for i in range(thresholds.shape[-1]):
            raw = thresholds[..., i]
            z = _threshold_logit(raw, confidence_map, i)
            parts = self.edges[i][~self.is_atom[i]]
            low, high = parts[:, 0], parts[:, -1]
            whole = np.searchsorted(high, z, side="right")
            at = np.minimum(whole, len(high) - 1)
            inside = np.where(whole < len(high), _fraction(z, low[at], high[at]), 0.0)
            atoms = np.searchsorted(np.sort(self.atom_raw[i][self.is_atom[i]]), raw, side="left")
            # What is next to the upper edge of a cell is not yet beyond it.
            before = np.nextafter(whole + atoms + 1.0, 0.0)
            out[..., i] = np.minimum(whole + atoms + inside, before)
        return out

    def places(self, raw: np.ndarray, cell: np.ndarray, confidence_map: ConfidenceMap) -> np.ndarray:
        """Return the positions of raw confidences in their cells, ``(num_queries, num_models)`` all.

        Of two confidences, or of a confidence and a threshold, the smaller has the smaller position, and
        equal ones have the same. That of an atom is the middle of its cell.
        """
        is_atom = self.is_atom[np.arange(raw.shape[1]), cell]
        return np.where(is_atom, cell + 0.5, np.maximum(self.positions(raw, confidence_map), cell))

    def cells(self, z: np.ndarray, model: int) -> np.ndarray:
        """Return the cells in which standardised logits ``(num_queries,)`` lie, of the same shape."""
        low, high, z = self.edges[model, :, 0], self.edges[model, :, -1], np.asarray(z)[:, None]
        at_atom = self.is_atom[model] & (z == low)
        # Continuous cells cover the whole line; -inf and inf are atoms or in the outermost cells.
        last = np.max(np.flatnonzero(~self.is_atom[model]), initial=0)
        inside = ~self.is_atom[model] & ((z >= low) & (z < high))
        inside[:, last] |= z[:, 0] == np.inf
        return np.where(at_atom.any(axis=1), at_atom.argmax(axis=1), inside.argmax(axis=1))

    def thresholds(self, positions: np.ndarray, confidence_map: ConfidenceMap) -> np.ndarray:
        """Return raw thresholds at positions ``(..., num_models - 1)``.

        "Just above" an atom is the next floating-point number after its raw value. Where every query is
        deferred the threshold is inf, where none is, -inf.
        """
        positions = np.asarray(positions, dtype=float)
        out = np.empty(positions.shape)
        last = self.num_cells - 1
        for i in range(positions.shape[-1]):
            r = positions[..., i]
            cell = np.clip(np.floor(r).astype(int), 0, last)
            fraction = r - cell
            low, high = self.edges[i, cell, 0], self.edges[i, cell, -1]
            # Mix on the side where the score is small, so that neither end loses digits.
            flip = low + high > 0
            start, end = np.where(flip, -high, low), np.where(flip, -low, high)
            weight = np.where(flip, 1 - fraction, fraction)
            score = (1 - weight) * expit(start) + weight * expit(end)
            with np.errstate(divide="ignore"):
                z = (np.log(score) - np.log1p(-score)) * np.where(flip, -1.0, 1.0)
            raw = confidence_map.from_logit(z, model=i)
            above = np.maximum(cell - 1, 0)
            after_atom = (fraction <= 0) & (cell > 0) & self.is_atom[i, above]
            raw = np.where(after_atom, np.nextafter(self.atom_raw[i, above], np.inf), raw)
            at_atom = self.is_atom[i, cell]
            raw = np.where(at_atom & (fraction <= 0.5), self.atom_raw[i, cell], raw)
            raw = np.where(at_atom & (fraction > 0.5), np.nextafter(self.atom_raw[i, cell], np.inf), raw)
            raw = np.where(r <= 0, -np.inf, raw)
            out[..., i] = np.where(r >= self.num_cells, np.inf, raw)
        return out


def _fraction(z: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which fraction of the score between two edges lies below logits, all three of the same shape.

    It is taken on the side where the score is small, so that neither end of the scale loses digits.
    """
    flip = low + high > 0
    start, end = expit(np.where(flip, -high, low)), expit(np.where(flip, -low, high))
    below = np.where(flip, end - expit(-z), expit(z) - start)
    width = end - start
    return np.clip(below / np.where(width > 0, width, 1.0), 0.0, 1.0)


def cells_for(layout: AtomLayout) -> int:
    """Return how many cells serve margins with these atoms: `DEFAULT_CELLS`, more if atoms take over half."""
    interior = int(np.isfinite(layout.locs).sum(axis=1).max(initial=0))
    return max(DEFAULT_CELLS, DEFAULT_CELLS // 2 + 2 * interior)


def make_grid(
    params: CascadeParams,
    layout: AtomLayout,
    num_cells: int = DEFAULT_CELLS,
) -> Grid:
    """Lay the grid for posterior draws.

    Parameters
    ----------
    params
        Draws, every field with a leading axis of draws.
    layout
        Where the atoms lie.
    num_cells
        Cells per model, atoms included; at least 4 more than twice the atoms of any model.
    """
    # Candidate logits: fine where scores are standardised to lie, out to where nothing is left.
    half = np.concatenate([np.linspace(0, 8, 321), np.geomspace(8.05, 700.0, 120)])
    fine = np.concatenate([-half[:0:-1], half])
    cdf = np.asarray(_mean_continuous_cdf(jnp.asarray(fine), params))  # (num_models, num_fine)
    edges, is_atom, atom_raw = [], [], []
    for i in range(layout.locs.shape[0]):
        used = ~np.isnan(layout.locs[i])
        atoms, raws = layout.locs[i, used], layout.raw[i, used]
        interior = np.isfinite(atoms)
        count = num_cells - int((~interior).sum()) - 2 * int(interior.sum())
        if count < 2:
            raise ValueError(
                f"num_cells must exceed twice the number of atoms of a model by 2; got {num_cells}."
            )
        count = count if layout.continuous[i] else 1  # nothing lies between the atoms: no cuts there
        # Levels by the cosine rule: a cell at either end holds some 1e-3 of the mass, in the middle 2 %.
        levels = 0.5 * (1 - np.cos(np.pi * np.arange(1, count) / count))
        cuts = np.interp(levels, *_increasing(cdf[i], fine))
        bounds = np.unique(np.concatenate([[-np.inf], cuts, atoms[interior], [np.inf]]))
        cells: list[tuple[float, float, float]] = [(a, b, np.nan) for a, b in itertools.pairwise(bounds)]
        cells += [(a, a, raw) for a, raw in zip(atoms, raws, strict=True)]
        cells.sort(key=lambda cell: (cell[0], cell[1]))
        while len(cells) < num_cells:  # a cut fell on an atom, or two on each other: split the widest
            cells = _split_widest(cells)
        edges.append([_parts(a, b) for a, b, _ in cells])
        is_atom.append([a == b for a, b, _ in cells])
        atom_raw.append([raw for _, _, raw in cells])
    return Grid(np.asarray(edges), np.asarray(is_atom), np.asarray(atom_raw))


@kept()
def _mean_continuous_cdf(z: jax.Array, params: CascadeParams) -> jax.Array:
    def one(draw: CascadeParams) -> jax.Array:
        part = jax.tree.map(lambda field: field[:, None], draw.margins.continuous)
        return part.cdf(jnp.broadcast_to(z, (draw.num_models, z.size))).value

    return jnp.mean(jax.lax.map(one, params), axis=0)


def _increasing(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = np.concatenate([[True], np.diff(x) > 0])
    return x[keep], y[keep]


def _split_widest(cells: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    widths = [expit(np.asarray(b)) - expit(np.asarray(a)) for a, b, _ in cells]
    at = int(np.argmax(widths))
    a, b, raw = cells[at]
    middle = float(_parts(a, b)[SUBCELLS // 2])
    return [*cells[:at], (a, middle, raw), (middle, b, raw), *cells[at + 1 :]]


def _parts(a: float, b: float) -> np.ndarray:
    """Edges of the parts of a cell: evenly spaced in the score, at infinite ends in log score."""
    if a == b:
        return np.full(SUBCELLS + 1, a)
    x = np.linspace(0, 1, SUBCELLS + 1)
    if np.isinf(a) and np.isinf(b):
        inner = np.log(x[1:-1]) - np.log1p(-x[1:-1])
    elif np.isinf(a):
        inner = b + 2 * np.log(x[1:-1])
    elif np.isinf(b):
        inner = a - 2 * np.log1p(-x[1:-1])
    else:
        inner = a + (b - a) * x[1:-1]
    return np.concatenate([[a], inner, [b]])


def _threshold_logit(raw: np.ndarray, confidence_map: ConfidenceMap, model: int) -> np.ndarray:
    """Standardised logit of a raw threshold; beyond the scale's ends it is infinite."""
    low, high = {"logprob": (-np.inf, 0.0), "probability": (0.0, 1.0)}.get(
        confidence_map.kind, (-np.inf, np.inf)
    )
    clipped = np.clip(raw, low, high)
    inside = np.isfinite(clipped) | (confidence_map.kind != "score")
    z = confidence_map.to_logit(np.where(inside, clipped, 0.0), model=model)
    return np.where(inside, z, clipped)
