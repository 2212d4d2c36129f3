"""What all pictures share: colours, new axes, files."""

from __future__ import annotations

from typing import Any

# Okabe & Ito's palette, told apart by readers with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7f7f7f"


def axes_of(ax: Any, size: tuple[float, float]) -> Any:
    """Return the axes, new ones of a size in inches if None."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def save_figure(figure: Any, path: Any) -> None:
    """Write a figure as PNG, whole or not at all, and close it."""
    from pathlib import Path

    import matplotlib.pyplot as plt

    from cascade_bayes._files import replacing

    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)
