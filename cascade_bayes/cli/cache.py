"""``cascade-bayes cache``."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from cascade_bayes.cli.common import out, print_json
from cascade_bayes.cli.options import Json
from cascade_bayes.cli.programs import JAX_VARIABLE, VARIABLE, cache_folder, stores
from cascade_bayes.errors import InputError


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of them.")] = False,
    as_json: Json = False,
) -> None:
    """Show how many compiled programs are kept for later commands, where, and their size.

    Commands keep the programs that they compile, so that the next one begins at once.
    CASCADE_BAYES_CACHE=off keeps none; CASCADE_BAYES_CACHE=FOLDER keeps them there.
    """
    folder = cache_folder()
    if folder is None:
        raise InputError(f"no programs are kept: {VARIABLE} is off. Unset it to keep them.")
    from cascade_bayes._kept import SUFFIX

    files = [path for store in stores(folder) for path in store.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    count = sum(path.name.endswith(("-cache", SUFFIX)) for path in files)
    if clear:
        for store in stores(folder):
            try:
                shutil.rmtree(store)
            except OSError as error:
                raise InputError(f"{store} cannot be removed: {error.strerror}.") from error
    if as_json:
        print_json({"folder": str(folder), "num_programs": count, "bytes": size, "cleared": clear})
        return
    amount = f"{count} compiled program{'' if count == 1 else 's'}, {size / 1e6:.1f} MB"
    out.print(f"Removed {amount} from {folder}." if clear else f"{amount} in {folder}.", soft_wrap=True)
    if JAX_VARIABLE in os.environ:
        out.print(f"{JAX_VARIABLE} is set: JAX keeps programs there instead.", soft_wrap=True)
