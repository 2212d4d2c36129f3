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
    """Write a figure as PNG, whole or not at all, and close it.

    Parameters
    ----------
    figure
        A figure of matplotlib.
    path
        A path, or an `Output` that is open already.
    """
    from io import BytesIO

    import matplotlib.pyplot as plt

    from cascade_bayes._kinds import PICTURE
    from cascade_bayes._output import write_output

    image = BytesIO()
    figure.savefig(image, dpi=150, format="png")
    write_output(path, PICTURE, image.getvalue())
    plt.close(figure)
