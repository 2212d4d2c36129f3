"""ArviZ's two interfaces behind one: ``InferenceData`` (0.x) and ``DataTree`` (1.x).

Imported only by functions that need ArviZ, so that fitting and deciding run without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray


def _arviz() -> Any:
    import warnings

    with warnings.catch_warnings():
        # Version 0.23 announces version 1 at every import.
        warnings.simplefilter("ignore")
        import arviz

    return arviz


def _is_tree_interface(az: Any) -> bool:
    return int(az.__version__.split(".")[0]) >= 1


def make_tree(groups: Mapping[str, xarray.Dataset], attrs: Mapping[str, Any]) -> Any:
    """Return ``groups`` as ArviZ's container, with ``attrs`` on the posterior group.

    Parameters
    ----------
    groups
        Groups by ArviZ's names.
    attrs
        JSON-able attributes.
    """
    import xarray

    az = _arviz()
    trees = _is_tree_interface(az)
    tree = xarray.DataTree.from_dict(dict(groups)) if trees else az.InferenceData(**groups)
    tree["posterior"].attrs.update(attrs)
    return tree


def netcdf_bytes(groups: Mapping[str, xarray.Dataset], attrs: Mapping[str, Any]) -> bytes:
    """Return the NetCDF file of the container of `make_tree`, made in memory.

    The HDF5 library ends the whole process when a disk fills up under it, so it is not given the disk.
    ArviZ's own ``from_netcdf`` reads the file.
    """
    import xarray

    tree = xarray.DataTree.from_dict(dict(groups))
    tree["posterior"].attrs.update(attrs)
    return bytes(tree.to_netcdf(None, engine="h5netcdf"))


def read_netcdf(path: Path) -> Any:
    """Read a container back into memory, so that the file is closed."""
    az = _arviz()
    if _is_tree_interface(az):
        with az.from_netcdf(str(path), engine="h5netcdf") as tree:
            return tree.load()
    tree = az.from_netcdf(str(path), engine="h5netcdf")
    tree.load()
    tree.close()
    return tree


def variables(tree: Any, group: str) -> dict[str, np.ndarray]:
    """Return the variables of one group as plain arrays; none where there is no such group."""
    groups = [str(name).strip("/") for name in (tree.groups() if callable(tree.groups) else tree.groups)]
    if group not in groups:
        return {}
    node = tree[group]
    return {str(name): np.asarray(node[name].values) for name in node.data_vars}


def rhat_and_ess(samples: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return rank-normalised split R-hat, bulk and tail ESS of arrays ``(chain, draw, ...)``.

    Source: Vehtari et al., "Rank-normalization, folding, and localization", Bayesian Analysis 16 (2021).
    """
    az = _arviz()
    draws = az.convert_to_dataset(dict(samples))
    results = {
        "r_hat": az.rhat(draws),
        "ess_bulk": az.ess(draws, method="bulk"),
        "ess_tail": az.ess(draws, method="tail"),
    }
    return {
        statistic: {name: np.asarray(result[name].values) for name in samples}
        for statistic, result in results.items()
    }


def smooth_weights(log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Pareto-smoothed log weights, and k-hat, of log importance ratios.

    Source: Vehtari, Simpson, Gelman, Yao & Gabry, "Pareto smoothed importance sampling", Journal of Machine
    Learning Research 25(72), 2024.

    Parameters
    ----------
    log_ratio
        Log of target over proposal at each draw, ``(..., num_draws)``.

    Returns
    -------
    tuple of np.ndarray
        Logs of weights that add to one over the last axis, of the same shape, and k-hat ``(...)``: 0 where
        the largest ratios are all equal, a tail that has an end and needs no smoothing; NaN where a ratio is.
    """
    az = _arviz()
    rows = np.array(log_ratio, dtype=float).reshape((-1, np.shape(log_ratio)[-1]))
    k_hat = np.where(np.isnan(rows).any(axis=1), np.nan, 0.0)
    # As many as the source counts to the tail. A Pareto distribution of equal values is not defined.
    num_tail = min(math.ceil(0.2 * rows.shape[1]), math.ceil(3 * math.sqrt(rows.shape[1])))
    for row in np.flatnonzero(np.partition(rows, -num_tail)[:, -num_tail] < rows.max(axis=1)):
        if _is_tree_interface(az):
            from arviz_stats.base import array_stats

            # It reads the log likelihood that is left out: the ratio with its sign changed.
            rows[row], k_hat[row] = array_stats.psislw(-rows[row], axis=-1)
        else:
            with np.errstate(over="ignore"):  # in its sum over candidates whose weight is then 0
                rows[row], k_hat[row] = az.psislw(rows[row].copy())
    top = rows.max(axis=-1, keepdims=True)
    total = top + np.log(np.exp(rows - top).sum(axis=-1, keepdims=True))
    return (rows - total).reshape(np.shape(log_ratio)), k_hat.reshape(np.shape(log_ratio)[:-1])


def summary(tree: Any) -> Any:
    """Return ``az.summary`` of the posterior group, a pandas frame."""
    return _arviz().summary(tree)


def plot_chains(draws: xarray.Dataset, var_names: list[str]) -> Any:
    """Return a figure of ``az.plot_rank``: ranks of every chain's draws among those of all chains.

    Source: Vehtari et al., Bayesian Analysis 16 (2021), section 4.
    """
    az = _arviz()
    if _is_tree_interface(az):
        tree = make_tree({"posterior": draws}, {})
        return az.plot_rank(tree, var_names=var_names, backend="matplotlib").get_viz("figure")
    figure = az.plot_rank(draws, var_names=var_names).ravel()[0].figure
    figure.set_layout_engine("constrained")  # else titles lie on one another
    return figure
