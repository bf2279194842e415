"""Finding the image files that cannot be read before anything is computed from the others."""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from experiment.core.errors import UserError
from experiment.data.image_decoding import Decoder, ImageFileError, cannot_be_read, unreadable
from experiment.data.image_files import ImageFiles

MOST_OPENED = 20_000  # files of a split; opening more would take long for a dry run
AT_ONCE = 16  # files that a thread reads one after the other
NUM_SHOWN = 3  # files that are left out, whose names are told

Item = TypeVar("Item")
Result = TypeVar("Result")


def checked(dataset: str, files: ImageFiles, decoder: Decoder, skip: bool) -> ImageFiles:
    """The files that can be read.

    Without `skip`, all must be readable: the first that cannot be opened, or whose header tells
    that it cannot be used, is a UserError. Headers are looked at unless there are very many files.
    With `skip`, every file is decoded once, and a class that has no image left is a UserError.
    """
    if not skip:
        _require_readable(dataset, files)
        if len(files) <= MOST_OPENED:
            _require_readable(
                dataset, files.without(_reasons(dataset, files, decoder, whole=False))
            )
        return files
    left = files.without(_reasons(dataset, files, decoder, whole=True))
    _require_all_classes(dataset, left)
    return left


def note_on_skipped(dataset: str, **splits: ImageFiles) -> str | None:
    """A line for the log if files are left out; `splits` are the files by the name of the split."""
    skipped = [one for files in splits.values() for one in files.unreadable]
    if not skipped:
        return None
    counts = (
        f"{len(files.unreadable):,} of {len(files) + len(files.unreadable):,} {name} images"
        for name, files in splits.items()
    )
    shown = [f"{path} {reason}" for path, reason in skipped[:NUM_SHOWN]]
    if len(skipped) > NUM_SHOWN:
        shown.append(f"{len(skipped) - NUM_SHOWN:,} more")
    return (
        f"dataset {dataset}: left out because they cannot be read: {' and '.join(counts)} "
        f"({'; '.join(shown)})"
    )


def _require_readable(dataset: str, files: ImageFiles) -> None:
    if files.unreadable:
        first, *others = files.unreadable
        raise unreadable(dataset, first.path, first.reason, len(others))


def _require_all_classes(dataset: str, files: ImageFiles) -> None:
    missing = sorted(set(range(len(files.classes))) - set(files.labels))
    if not missing:
        return
    folder = os.path.join(files.folder, files.classes[missing[0]], "")
    path, reason = next(one for one in files.unreadable if one.path.startswith(folder))
    raise UserError(
        f"dataset {dataset}: no image in {folder} can be read, and a class needs at least one: "
        f"{path} {reason}"
    )


@functools.lru_cache(maxsize=8)
def _reasons(
    dataset: str, files: ImageFiles, decoder: Decoder, *, whole: bool
) -> tuple[str | None, ...]:
    """For each file, why it cannot be read, or None. Remembered as long as the files are the same.

    With `whole`, the files are decoded, otherwise only their headers are looked at. Raises
    UserError where nothing is wrong with a file, but it cannot be read now: which files are left
    out must not be a matter of chance.
    """

    def reason(path: str) -> str | None:
        try:
            decoder.require_whole(path) if whole else decoder.require_header(path)
        except ImageFileError as error:
            return str(error)
        except (OSError, MemoryError) as error:
            raise cannot_be_read(dataset, path, error) from None
        return None

    return tuple(in_threads(reason, files.paths))


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function for all items, in order, computed by threads."""

    def of_several(several: tuple[Item, ...]) -> list[Result]:
        return [function(item) for item in several]

    with ThreadPoolExecutor() as pool:
        for results in pool.map(of_several, _in_groups(items, AT_ONCE)):
            yield from results


def _in_groups(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    iterator = iter(items)
    while group := tuple(itertools.islice(iterator, size)):
        yield group
