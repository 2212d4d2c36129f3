"""HDF5 files that anybody may have written, as plain arrays.

Nothing outside the file is read: links to other files, datasets that lie in other files and virtual datasets
are refused, and so are links inside the file that are no plain ones. What a file claims to hold is bounded by
its size before any of it is read. The whole file is in memory, so that it cannot change meanwhile.

Only what a posterior needs is understood: groups of the root, in them datasets of numbers or of text, with
the dimension scales by which NetCDF names axes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_FILE_BYTES = 2 << 30
"""Size above which no file is read: ten times the largest posterior that was ever saved."""

MAX_MEMBERS = 256
"""Groups of a file, and datasets of a group, at most; a posterior has at most eight and twenty."""

MAX_RATIO = 64
"""How many times its own size a file's arrays may take. Draws hardly shrink when they are compressed, and the
names of queries not at all; a column of equal costs does, but stands beside these."""

SLACK_BYTES = 1 << 20
"""What arrays may take besides: small ones, which compress well."""

MAX_TEXT_BYTES = 1 << 28
"""What is held at once of texts, each of which may claim the whole file."""

FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
"""The filters that undo themselves inside the HDF5 library, by their numbers."""


class FormatError(ValueError):
    """Why a file cannot be read; a sentence without its end, which names no file."""


class Array(NamedTuple):
    """One dataset.

    Attributes
    ----------
    dims
        Names of its axes.
    values
        Numbers as they are stored, or text as Python strings.
    """

    dims: tuple[str, ...]
    values: np.ndarray


class Contents(NamedTuple):
    """What was read of a file.

    Attributes
    ----------
    groups
        Name of the group -> name of the dataset -> array; the groups that were asked for.
    others
        Names of the other groups, of which nothing was read.
    texts
        Attributes of the groups that were asked for, by group and name, those that are texts.
    """

    groups: Mapping[str, Mapping[str, Array]]
    others: tuple[str, ...]
    texts: Mapping[tuple[str, str], str]


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises
    ------
    FormatError
        If it cannot be read, or is larger than any that is.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FormatError(f"it cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(f"it is larger than {MAX_FILE_BYTES >> 30} GiB, which no posterior is")
    return data


def read_groups(data: bytes, wanted: Collection[str], texts: Collection[tuple[str, str]]) -> Contents:
    """Read some groups of an HDF5 file.

    Parameters
    ----------
    data
        The whole file.
    wanted
        Names of the groups to read; those that are not there are left out.
    texts
        Groups and names of the attributes to read, each a text.

    Raises
    ------
    FormatError
        If the file is no HDF5 file or a damaged one, or refers to anything outside itself or claims more than
        it can hold.
    """
    try:
        with _open(data) as file:
            groups = {name: _members(file, name) for name in _links(file, "/")}
            for group, members in groups.items():
                for name, dataset in members.items():
                    _check_storage(f"/{group}/{name}", dataset, len(data))
            read = {name: members for name, members in groups.items() if name in wanted}
            _check_claims(read, len(data))
            return Contents(
                {name: _arrays(name, members, len(data)) for name, members in read.items()},
                tuple(name for name in groups if name not in wanted),
                {
                    (group, name): _text(file[group], name, len(data))
                    for group, name in texts
                    if group in read
                },
            )
    except FormatError:
        raise
    except (
        # What the HDF5 library and h5py raise on files that are no HDF5 files, cut short or damaged.
        *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError),
        *(OverflowError, MemoryError, NotImplementedError, ArithmeticError, SystemError),
    ) as error:
        raise FormatError(
            f"it is of another format, or it was cut short or damaged ({type(error).__name__})"
        ) from error


def _open(data: bytes) -> Any:
    import h5py

    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(data)
    return h5py.File(h5py.h5f.open(b"posterior", flags=h5py.h5f.ACC_RDONLY, fapl=access))


def _links(group: Any, place: str) -> list[str]:
    """Return the names in a group, each of which is plainly linked."""
    import h5py

    count = group.id.get_num_objs()
    if count > MAX_MEMBERS:
        raise FormatError(f"its group {place!r} has {count} members; no posterior has over {MAX_MEMBERS}")
    names = list(group)
    for name in names:
        kind = group.id.links.get_info(name.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            named = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
            raise FormatError(
                f"{name!r} in its group {place!r} is {named.get(kind, 'a link of an unknown kind')}; a "
                "posterior holds all that it is made of"
            )
    return names


def _members(file: Any, name: str) -> dict[str, Any]:
    """Return the datasets of a group of the root."""
    import h5py

    group = file[name]
    if not isinstance(group, h5py.Group):
        raise FormatError(f"{name!r} is no group; a posterior's variables are in groups")
    members = {member: group[member] for member in _links(group, f"/{name}")}
    for member, dataset in members.items():
        if not isinstance(dataset, h5py.Dataset):
            raise FormatError(f"{member!r} in its group {name!r} is no array of values")
    return members


def _check_storage(place: str, dataset: Any, num_bytes: int) -> None:
    """Refuse a dataset whose values are not all in this file, or that needs a filter we do not know."""
    plan = dataset.id.get_create_plist()
    if plan.get_external_count():
        raise FormatError(f"the values of {place} lie in another file; a posterior holds its own")
    if dataset.is_virtual:
        raise FormatError(f"{place} is put together from other datasets; a posterior holds its own")
    for index in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(index)
        if code not in FILTERS:
            raise FormatError(
                f"{place} is packed by the filter {name.decode(errors='replace')!r}; known are "
                f"{', '.join(FILTERS.values())}"
            )
    if dataset.id.get_storage_size() > num_bytes:
        raise FormatError(f"{place} claims to take more bytes than the file has")


def _check_claims(groups: Mapping[str, Mapping[str, Any]], num_bytes: int) -> None:
    """Refuse a file whose arrays would take much more than the file itself."""
    limit = MAX_RATIO * num_bytes + SLACK_BYTES
    total = 0
    datasets = [
        (f"/{group}/{name}", dataset)
        for group, members in groups.items()
        for name, dataset in members.items()
    ]
    for place, dataset in datasets:
        claimed = math.prod(dataset.shape or (), start=dataset.dtype.itemsize)
        if dataset.chunks is not None:
            claimed = max(claimed, math.prod(dataset.chunks, start=dataset.dtype.itemsize))
        total += claimed
        if total > limit:
            raise FormatError(
                f"its arrays, up to {place} of shape {dataset.shape}, claim {total:.3g} bytes, and it "
                f"has {num_bytes} itself"
            )


def _arrays(group: str, members: Mapping[str, Any], num_bytes: int) -> dict[str, Array]:
    """Read the datasets of a group."""
    names = {dataset: name for name, dataset in members.items()}
    numbers = {
        int(dataset.attrs["_Netcdf4Dimid"]): name
        for name, dataset in members.items()
        if "CLASS" in dataset.attrs and "_Netcdf4Dimid" in dataset.attrs
    }
    found = {}
    for name, dataset in members.items():
        place = f"/{group}/{name}"
        dims = _numbered_dims(place, dataset, numbers) or _attached_dims(place, dataset, names)
        found[name] = Array(dims, _values(place, dataset, num_bytes))
    return found


def _values(place: str, dataset: Any, num_bytes: int) -> np.ndarray:
    """Read a dataset of numbers or texts."""
    import h5py

    if dataset.shape is None:
        raise FormatError(f"{place} holds nothing")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return _texts(place, dataset, num_bytes)
    if dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
        raise FormatError(f"{place} holds neither numbers nor texts, but {dataset.dtype}")
    return np.asarray(dataset[()])


def _numbered_dims(place: str, dataset: Any, numbers: Mapping[int, str]) -> tuple[str, ...] | None:
    """Return the names of a dataset's axes by the numbers that NetCDF gives them; None if it has none.

    The library follows no references for them, on which a damaged file can keep it busy for ever.
    """
    own = dataset.attrs.get("_Netcdf4Coordinates")
    if own is None:
        return None
    found = tuple(numbers.get(int(number), "") for number in np.ravel(own))
    if len(found) != dataset.ndim or "" in found:
        raise FormatError(f"the axes of {place} have no names in its group")
    return found


def _attached_dims(place: str, dataset: Any, names: Mapping[Any, str]) -> tuple[str, ...]:
    """Return the names of a dataset's axes: of a scale its own, else those of the scales attached."""
    if dataset.is_scale:
        return (names[dataset],)
    found = []
    for axis in range(dataset.ndim):
        scales = [names.get(scale) for scale in dataset.dims[axis].values()]
        if len(scales) != 1 or scales[0] is None:
            raise FormatError(f"axis {axis} of {place} has no single name in its group")
        found.append(scales[0])
    return tuple(found)


def _texts(place: str, dataset: Any, num_bytes: int) -> np.ndarray:
    """Read texts in blocks, since each may claim to be as long as the file."""
    if dataset.ndim != 1:
        raise FormatError(f"{place} must be a list of texts; its shape is {dataset.shape}")
    found: list[str] = []
    length = 0
    step = max(1, min(4096, MAX_TEXT_BYTES // num_bytes))
    for start in range(0, dataset.shape[0], step):
        for text in dataset[start : start + step]:
            found.append(text.decode("utf-8") if isinstance(text, bytes) else str(text))
            length += len(text)
        if length > num_bytes:
            raise FormatError(f"the texts of {place} claim more bytes than the file has")
    return np.asarray(found, dtype=object)


def _text(group: Any, name: str, num_bytes: int) -> str:
    """Read an attribute that is a text; an empty one if there is none."""
    if name not in group.attrs:
        return ""
    attribute = group.attrs.get_id(name)
    if attribute.shape not in ((), (1,)) or attribute.get_storage_size() > num_bytes:
        raise FormatError(f"the attribute {name!r} of {group.name} is no text")
    value = group.attrs[name]
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if not isinstance(value, str):
        raise FormatError(f"the attribute {name!r} of {group.name} is no text")
    value.encode("utf-8")  # h5py passes on bytes that are no text
    return value
