"""What all pictures share: colours, new axes, files."""

from __future__ import annotations

from typing import Any

# Okabe & Ito's palette, told apart by readers with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7f7f7f"

MARKS = (
    ("#004B76", "D"),
    ("#E69F00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "v"),
    ("#56B4E9", "P"),
    ("#000000", "h"),
)
"""Colours of that palette, a darker blue first, and a marker for each: of several cascades in a picture.

Markers differ too, so that they are told apart in print without colours.
"""


def literal(text: str) -> str:
    """Return a text for matplotlib to show as it is.

    A dollar sign in a model's name begins no formula, and an underscore does not keep it out of a legend.

    Examples
    --------
    >>> literal("_b")
    ' _b'
    """
    shown = text.replace("$", "\\$")
    return f" {shown}" if shown.startswith("_") else shown


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
