"""Where packages go: a folder, a file of somebody's own, standard output, or away to a bucket or a webhook."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from evalforge.core.ports import ExportPackage, PackageFile
from evalforge.errors import RequestError, SettingsError

OWN_FILE = "file"
"""The destination's name when a person at the command line named the file."""

CONTENT_TYPES = {
    ".jsonl": "application/x-ndjson",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".csv": "text/csv; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}
"""What files are said to be; anything else is bytes."""


def content_type_of(name: str) -> str:
    """The media type of a file by its name."""
    return CONTENT_TYPES.get(Path(name).suffix, "application/octet-stream")


class Away(Protocol):
    """Takes packages over the network."""

    async def deliver(self, package: ExportPackage, folder: Path, files: Sequence[PackageFile]) -> None:
        """Sends these files of a folder in their order, the manifest last. Sending the same package again is no error.

        Raises:
            DestinationRefusedError, DestinationUnavailableError: some files may have arrived.
            SettingsError, CredentialsError
        """
        ...

    async def withdraw(self, package: ExportPackage, files: Sequence[PackageFile]) -> bool:
        """Takes a package back as far as that can be done; whether nothing of it is there any more."""
        ...


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a package goes: `folder` of a name that EXPORT_DESTINATIONS declares, `away`, or a `path` that a person gave.

    Exactly one of `folder`, `away`, `path` and `stream` is set. A declared folder gets a folder named after the package, and
    so does whoever is `away`. A `path` is one file, or with `is_package` the folder itself; what is there already is refused
    unless `overwrite`, and a folder that no export wrote in any case. `stream` takes the bytes of one file as they come.
    """

    name: str = OWN_FILE
    folder: Path | None = None
    path: Path | None = None
    stream: BinaryIO | None = None
    away: Away | None = None
    overwrite: bool = False
    is_package: bool = False

    @property
    def takes_packages(self) -> bool:
        """Whether what arrives is a folder of files with a manifest, and not one file."""
        return self.folder is not None or self.away is not None or self.is_package


@contextmanager
def translated(destination: Destination) -> Iterator[None]:
    """The one place where the file system's errors become ours."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read standard output has gone: nobody is left to be told
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if destination.folder is not None:
            raise SettingsError(
                f"EXPORT_DESTINATIONS: cannot write into the folder of {destination.name!r} ({reason}); "
                "wants folders that this process may write"
            ) from error
        if destination.away is not None:
            raise SettingsError(f"TMPDIR: the package cannot be written there before it is sent ({reason})") from error
        what = "folder" if destination.is_package else "file"
        raise RequestError(f"the {what} cannot be written: {reason}", field="--out") from error
