"""Data sets that torchvision downloads."""

from pathlib import Path

from experiment.core.errors import UserError


def torchvision_class(name: str) -> type:
    """torchvision's class of a data set; imported here, since torchvision takes seconds."""
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


def open_or_download(name: str, root: str, train: bool):
    """torchvision's data set in `root`, downloaded if it is not there.

    Raises UserError, which says how to get the files by hand.
    """
    try:
        return torchvision_class(name)(root, train=train, download=True)
    except Exception as error:  # torchvision and the network below it raise many kinds
        raise UserError(_no_download(name, root, error)) from None


def _no_download(name: str, root: str, error: Exception) -> str:
    """What was tried, which file to put where by hand, and what runs without it."""
    addresses, files, folder = _published(name, root)
    return (
        f"dataset {name}: not found in {root}/ and could not be downloaded "
        f"({type(error).__name__}: {' '.join(str(error).split())}); "
        f"tried {', '.join(addresses)}. "
        f"To get it by hand, put {', '.join(files)} into {folder}/. To do without it: "
        f"--set dataset.name=digits needs no download, and "
        f"--set dataset.name=ImageFolder --set dataset.root=FOLDER takes images from "
        f"FOLDER/train/<class>/ and FOLDER/test/<class>/"
    )


def _published(name: str, root: str) -> tuple[list[str], list[str], Path]:
    """The addresses and names of a data set's files, and the folder where torchvision looks."""
    source = torchvision_class(name)
    if not hasattr(source, "mirrors"):
        return [source.url], [source.filename], Path(root)
    files = [file for file, _ in source.resources]
    addresses = [mirror + file for mirror in source.mirrors for file in files]
    return addresses, files, Path(root) / name / "raw"
