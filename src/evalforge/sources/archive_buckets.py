"""Archives in Cloud Storage: the official client, read only, asked for nothing until the first `gs://` place.

Source: https://cloud.google.com/storage/docs/request-preconditions (`generation` pins what is read)
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, BinaryIO, cast

from evalforge.errors import CredentialsError, RequestError, SettingsError, SourceRefusedError, SourceUnavailableError

GOOGLE = "https://storage.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)
REQUEST_TIMEOUT_S = 60.0
CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Object:
    """One object: its `gs://` name, how many bytes it has as it lies there, and the generation that was listed."""

    name: str
    size_bytes: int
    generation: str


@dataclass(slots=True)
class Buckets:
    """Reads buckets with Google's default credentials. `endpoint` is host:port of a server on loopback instead of Google.

    `project` is the one that requests are counted for. Plain values until it is used: it may travel to another process.
    """

    project: str | None = None
    endpoint: str | None = None
    retry_budget_s: float = 60.0
    _client: Any = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Buckets, (self.project, self.endpoint, self.retry_budget_s)

    def objects(self, place: str) -> Iterator[Object]:
        """The objects whose names are `gs://bucket/prefix`, or begin with it and a slash; ascending by name.

        Raises:
            RequestError: there is no such bucket.
            SettingsError, CredentialsError, SourceRefusedError, SourceUnavailableError
        """
        bucket, _, prefix = place.removeprefix("gs://").partition("/")
        with _translated(bucket):
            found = self._opened().list_blobs(bucket, prefix=prefix, timeout=REQUEST_TIMEOUT_S, retry=self._retry())
            below = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
            for blob in found:
                if blob.name == prefix or blob.name.startswith(below):
                    yield Object(f"gs://{bucket}/{blob.name}", int(blob.size), str(blob.generation))

    @contextmanager
    def opened(self, name: str, generation: str) -> Iterator[BinaryIO]:
        """The bytes of that generation of an object, as they lie there, whatever encoding it is labelled with.

        Raises:
            SettingsError, CredentialsError, SourceRefusedError, SourceUnavailableError
            OSError: this generation is not there any more.
        """
        bucket, _, path = name.removeprefix("gs://").partition("/")
        with _translated(bucket, is_listed=True):
            blob = self._opened().bucket(bucket).blob(path, generation=int(generation))
            options = {"raw_download": True, "timeout": REQUEST_TIMEOUT_S, "retry": self._retry()}
            with blob.open("rb", chunk_size=CHUNK_BYTES, **options) as stream:
                # Its own `readline` asks for one byte at a time.
                yield cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", stream), CHUNK_BYTES))

    def _retry(self) -> Any:
        return import_module("google.cloud.storage.retry").DEFAULT_RETRY.with_timeout(self.retry_budget_s)

    def _opened(self) -> Any:
        if self._client is None:
            self._client = self._made()
        return self._client

    def _made(self) -> Any:
        try:
            storage = import_module("google.cloud.storage")
        except ImportError:
            raise SettingsError(
                "gs://: google-cloud-storage is not installed; wants pip install 'evalforge-ingestion[gcs]'"
            ) from None
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials

        address = GOOGLE if self.endpoint is None else f"http://{self.endpoint}"
        client = storage.Client(
            project=self.project or "evalforge",
            credentials=_credentials() if self.endpoint is None else AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=address),
        )
        # Else it asks for the bucket's own metadata in a thread of its own: a permission more than reading needs.
        client._bucket_metadata_cache = None
        return client


def _credentials() -> Any:
    import google.auth
    from google.auth import exceptions as auth_errors

    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except auth_errors.GoogleAuthError as error:
        raise CredentialsError(
            "gs://: there are no Google credentials to read with; run `gcloud auth application-default login`",
            code="no_credentials",
        ) from error
    return credentials


@contextmanager
def _translated(bucket: str, *, is_listed: bool = False) -> Iterator[None]:
    """The one place where the client's errors become ours; what was listed and is gone is an OSError, as of a file."""
    try:
        import requests
        from google.api_core import exceptions as google_errors
        from google.auth import exceptions as auth_errors
    except ImportError:  # the client is missing, which says so itself
        yield
        return
    where = f"the bucket {bucket[:100]!a}"
    try:
        yield
    except google_errors.NotFound as error:
        if is_listed:
            raise FileNotFoundError(f"an object of {where} is gone") from error
        raise RequestError(f"{where} does not exist", field="PLACE") from error
    except (google_errors.Forbidden, google_errors.Unauthorized) as error:
        raise SourceRefusedError(
            f"{where} may not be read; grant roles/storage.objectViewer on it to this process's account"
        ) from error
    except (google_errors.ServerError, google_errors.TooManyRequests, google_errors.RetryError) as error:
        raise SourceUnavailableError(f"{where} did not answer as it should ({type(error).__name__})") from error
    except auth_errors.GoogleAuthError as error:
        raise CredentialsError(f"{where}: Google's credentials are refused", code="no_credentials") from error
    except google_errors.GoogleAPIError as error:
        raise SourceRefusedError(f"{where} refused ({type(error).__name__})") from error
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        raise SourceUnavailableError(f"{where} cannot be reached ({type(error).__name__})") from error
