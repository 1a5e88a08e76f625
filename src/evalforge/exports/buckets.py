"""Google Cloud Storage as a destination: the official client, imported only here, in a thread of its own.

An object is made only where none of its name is: nothing of anybody's is written over.
Source: https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from evalforge.core.ports import ExportPackage, PackageFile
from evalforge.errors import CredentialsError, DestinationRefusedError, DestinationUnavailableError, SettingsError
from evalforge.exports.destinations import content_type_of
from evalforge.exports.files import opened

GOOGLE = "https://storage.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
REQUEST_TIMEOUT_S = 60.0
_PACKAGE, _SHA256 = "evalforge-package", "evalforge-sha256"


class Bucket:
    """A bucket, and what the names of its objects begin with: a package becomes `prefix/PACKAGE_ID/FILE`.

    `retry_budget_s` is how long one request may be retried. `endpoint` is host:port of a server on loopback that is asked
    instead of Google, without credentials.
    """

    def __init__(
        self, name: str, bucket: str, prefix: str, *, project: str | None, endpoint: str | None, retry_budget_s: float
    ) -> None:
        self._name = name
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._project = project
        self._endpoint = endpoint
        self._retry_budget_s = retry_budget_s

    async def deliver(self, package: ExportPackage, folder: Path, files: Sequence[PackageFile]) -> None:
        """Sends the files in their order; one that an earlier attempt of the same package sent is kept, or replaced.

        Where it fails, what it has sent is taken away again as far as it may be.

        Raises:
            DestinationRefusedError, DestinationUnavailableError, CredentialsError, SettingsError
        """
        bucket = await self._opened()
        try:
            for file in files:
                await asyncio.to_thread(self._send, bucket, package, folder, file)
        except BaseException:
            await self._removed(bucket, package, files)
            raise
        finally:
            bucket.client.close()

    async def withdraw(self, package: ExportPackage, files: Sequence[PackageFile]) -> bool:
        """Takes the package's objects away, the last of `files` first; whether none of them is there any more."""
        try:
            bucket = await self._opened()
        except (SettingsError, CredentialsError):
            return False
        try:
            return await self._removed(bucket, package, files)
        finally:
            bucket.client.close()

    async def _opened(self) -> Any:
        credentials = None if self._endpoint is not None else await self._credentials()

        def body() -> Any:
            try:
                from google.api_core.client_options import ClientOptions
                from google.auth.credentials import AnonymousCredentials

                storage = import_module("google.cloud.storage")
            except ImportError:
                raise SettingsError(
                    "EXPORT_DESTINATIONS: google-cloud-storage is not installed; "
                    "wants pip install 'evalforge-ingestion[gcs]' for gs:// destinations"
                ) from None
            client = storage.Client(
                project=self._project or "evalforge",
                credentials=credentials or AnonymousCredentials(),  # type: ignore[no-untyped-call] # Google's
                # Always said: the client would also take it from variables of the environment that are none of ours.
                client_options=ClientOptions(api_endpoint=GOOGLE if self._endpoint is None else f"http://{self._endpoint}"),
            )
            # From 3.17 on, the client asks for the bucket's own metadata in a thread of its own, for traces that nobody
            # takes here: a request more, a permission more, and retries that go on after the export has ended.
            client._bucket_metadata_cache = None
            return client.bucket(self._bucket_name)

        return await asyncio.to_thread(body)

    async def _credentials(self) -> Any:
        from google.auth import exceptions as auth_errors

        from evalforge.google_credentials import default_credentials

        try:
            credentials, _ = await default_credentials(SCOPES)
        except auth_errors.GoogleAuthError as error:
            raise CredentialsError(
                f"EXPORT_DESTINATIONS: there are no Google credentials to write to {self._name!r} with; run "
                "`gcloud auth application-default login`",
                code="no_credentials",
            ) from error
        return credentials

    def _path(self, package: ExportPackage, file: PackageFile) -> str:
        return f"{self._prefix}{package.id}/{file.name}"

    def _send(self, bucket: Any, package: ExportPackage, folder: Path, file: PackageFile) -> None:
        from google.api_core import exceptions as google_errors

        with self._translated():
            blob = bucket.blob(self._path(package, file))
            try:
                self._upload(blob, package, folder, file, generation=0)
            except google_errors.PreconditionFailed:
                # Of an attempt that died, or of one whose answer was lost on the way and that was retried.
                blob.reload(timeout=REQUEST_TIMEOUT_S, retry=self._retry())
                known = blob.metadata or {}
                if known.get(_PACKAGE) != package.id:
                    raise DestinationRefusedError(
                        f"{self._name!r} has an object of the name {file.name} that this package did not write"
                    ) from None
                if known.get(_SHA256) != file.sha256:
                    self._upload(blob, package, folder, file, generation=blob.generation)

    def _upload(self, blob: Any, package: ExportPackage, folder: Path, file: PackageFile, *, generation: int) -> None:
        blob.metadata = {_PACKAGE: package.id, _SHA256: file.sha256}
        with opened(folder / file.name) as stream:
            blob.upload_from_file(
                stream,
                size=file.size_bytes,
                content_type=content_type_of(file.name),
                if_generation_match=generation,
                checksum="crc32c",
                timeout=REQUEST_TIMEOUT_S,
                retry=self._retry(),
            )

    def _retry(self) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self._retry_budget_s)

    async def _removed(self, bucket: Any, package: ExportPackage, files: Sequence[PackageFile]) -> bool:
        from google.api_core import exceptions as google_errors

        def body() -> bool:
            is_gone = True
            for file in reversed(files):  # the manifest first: what is left is no package
                try:
                    with self._translated():
                        blob = bucket.get_blob(self._path(package, file), timeout=REQUEST_TIMEOUT_S, retry=None)
                        if blob is not None and (blob.metadata or {}).get(_PACKAGE) == package.id:
                            with suppress(google_errors.NotFound):
                                blob.delete(if_generation_match=blob.generation, timeout=REQUEST_TIMEOUT_S, retry=None)
                except (DestinationRefusedError, CredentialsError):
                    is_gone = False
                except DestinationUnavailableError:
                    return False
            return is_gone

        return await asyncio.to_thread(body)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where the client's errors become ours."""
        import requests
        from google.api_core import exceptions as google_errors
        from google.auth import exceptions as auth_errors

        where = f"the bucket of {self._name!r}"
        try:
            yield
        except google_errors.NotFound as error:
            raise DestinationRefusedError(f"{where} does not exist; make it, or correct EXPORT_DESTINATIONS") from error
        except (google_errors.Forbidden, google_errors.Unauthorized) as error:
            raise DestinationRefusedError(
                f"{where} may not be written; grant roles/storage.objectUser on it to this process's account"
            ) from error
        except auth_errors.TransportError as error:
            raise DestinationUnavailableError(f"{where} cannot be reached for a token of its own") from error
        except auth_errors.GoogleAuthError as error:
            raise CredentialsError(
                f"EXPORT_DESTINATIONS: Google's credentials for {self._name!r} are refused; run "
                "`gcloud auth application-default login` again",
                code="no_credentials",
            ) from error
        except (google_errors.ServerError, google_errors.TooManyRequests, google_errors.RetryError) as error:
            raise DestinationUnavailableError(
                f"{where} did not answer as it should within RETRY_BUDGET_S ({type(error).__name__})"
            ) from error
        except google_errors.GoogleAPIError as error:
            raise DestinationRefusedError(f"{where} refused ({type(error).__name__})") from error
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise DestinationUnavailableError(f"{where} cannot be reached ({type(error).__name__})") from error
