"""A signed webhook as a destination: each file is one POST, the manifest the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from evalforge.core.ports import ExportPackage, PackageFile
from evalforge.errors import DestinationRefusedError
from evalforge.exports.destinations import content_type_of
from evalforge.exports.files import opened

MAX_FILE_BYTES = 32 * 1024 * 1024
"""A file beyond this is refused before anything is sent: a POST holds it whole."""

PACKAGE, FILE, SHA256, ATTEMPT = (
    "X-EvalForge-Package",
    "X-EvalForge-File",
    "X-EvalForge-Sha256",
    "X-EvalForge-Attempt",
)
"""The headers of each POST. An attempt sends every file again: a receiver keeps the latest of a package and name."""


class Post(Protocol):
    """Sends one signed body to a public https address."""

    async def __call__(
        self, url: str, secret: str, body: bytes, *, content_type: str, headers: Mapping[str, str], message_id: str
    ) -> None:
        """Returns once the receiver has taken it; `message_id` is the same for the same bytes of a package.

        Raises:
            DestinationRefusedError, DestinationUnavailableError
        """
        ...


class Webhook:
    """Sends packages to one URL, signed with a secret."""

    def __init__(self, name: str, url: str, secret: str, post: Post) -> None:
        self._name = name
        self._url = url
        self._secret = secret
        self._post = post

    async def deliver(self, package: ExportPackage, folder: Path, files: Sequence[PackageFile]) -> None:
        """Posts the files in their order; whoever has the manifest has them all.

        Raises:
            DestinationRefusedError: a file is beyond `MAX_FILE_BYTES` and nothing was sent, or the receiver refused.
            DestinationUnavailableError: the receiver cannot be reached, or not now.
        """
        for file in files:
            if file.size_bytes > MAX_FILE_BYTES:
                raise DestinationRefusedError(
                    f"{file.name} has {file.size_bytes:,} bytes, and a webhook gets at most {MAX_FILE_BYTES:,} in one file; "
                    "select less, or export to a folder or a bucket"
                )
        for file in files:
            with opened(folder / file.name) as stream:
                body = stream.read()
            headers = {
                PACKAGE: package.id,
                FILE: file.name,
                SHA256: file.sha256,
                ATTEMPT: str(package.attempts),
            }
            await self._post(
                self._url,
                self._secret,
                body,
                content_type=content_type_of(file.name),
                headers=headers,
                message_id=f"{package.id}_{file.sha256[:32]}",
            )

    async def withdraw(self, package: ExportPackage, files: Sequence[PackageFile]) -> bool:
        """False: what was posted cannot be taken back."""
        return False
