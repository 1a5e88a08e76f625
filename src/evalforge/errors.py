"""Every error this package raises on purpose, classed by what to do next.

EvalForgeError
├── FatalError                 same input, same failure: stop, a person must act
│   ├── SettingsError          a setting is missing or wrong
│   ├── CredentialsError       a secret could not be read
│   ├── SourceRefusedError     Datadog refused the keys or the request
│   ├── StoreError             the store refused for good (schema, permission, key ring)
│   │   └── NewerVersionError  a later program wrote what is stored
│   └── DestinationRefusedError a webhook or bucket did not take it, or may not be called
├── RetriableError             the same call may succeed after `retry_after_s`
│   ├── SourceUnavailableError Datadog is down or unreachable beyond the retry budget
│   ├── QuotaExhaustedError    Datadog's rate limit does not reset within the retry budget
│   ├── StoreUnavailableError  the store did not answer in time
│   ├── RunInProgressError     another run holds the lease
│   ├── ClusterFailedError     Spark gave up, or did not come up
│   ├── ErasedMeanwhileError   what was being exported was erased meanwhile
│   └── DestinationUnavailableError a webhook or bucket did not answer, however often it was tried
├── SkippableError             this one item only: it becomes a dead letter, the run goes on
└── RequestError               the caller's mistake: the request must change
    ├── NotFoundError          what the request names does not exist
    ├── NothingToExportError   no capture that is selected can be an example
    ├── TooLargeError          the request has more bytes than are taken
    └── MissingRoleError       the caller may not do this

The first level says what to do; the leaf says why. Each class carries `exit_code` (for the command line) and
`http_status` (for the service) exactly once. Messages carry ids, counts, codes and setting names; never the text of a
span and never a secret.
"""

from __future__ import annotations


class EvalForgeError(Exception):
    """The root: catch this to catch everything that this package raises on purpose.

    `code` is a stable snake_case name of the reason, safe to log and to match on.
    """

    exit_code = 1
    http_status = 500
    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class FatalError(EvalForgeError):
    """The same input fails the same way: stop, and tell a person."""

    code = "fatal"


class SettingsError(FatalError):
    """A setting is missing or wrong. `problems` lists each one: its name, what it got, what it wants."""

    exit_code = 2
    http_status = 503
    code = "bad_settings"

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class CredentialsError(FatalError):
    """A secret could not be read. `code` tells not found, denied, disabled, corrupt and no credentials apart."""

    exit_code = 3
    http_status = 503
    code = "credentials"

    def __init__(self, message: str, *, code: str = "credentials") -> None:
        super().__init__(message)
        self.code = code


class SourceRefusedError(FatalError):
    """Datadog refused: wrong keys, missing permission, or a request it does not accept."""

    exit_code = 4
    http_status = 502
    code = "source_refused"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class StoreError(FatalError):
    """The store refused for good: permission, schema, or keys that do not match what is stored."""

    exit_code = 5
    http_status = 503
    code = "store_refused"


class NewerVersionError(StoreError):
    """A later version of evalforge wrote what is stored: update, before anything is read or overwritten.

    `version` is that of the document, of the kind `kind`, and `known` the latest that this program knows.
    """

    code = "newer_version"

    def __init__(self, kind: str, version: int, known: int) -> None:
        super().__init__(
            f"a stored {kind.replace('_', ' ')} has schema version {version}, and this evalforge knows none after {known}: "
            "update evalforge to the release that wrote it (docs/versions.md); nothing was written over it"
        )
        self.kind = kind
        self.version = version
        self.known = known


class DestinationRefusedError(FatalError):
    """A webhook or bucket refused what was sent, or may not be called: a redirect, a 4xx, an address that is not public."""

    exit_code = 12
    http_status = 502
    code = "destination_refused"


class RetriableError(EvalForgeError):
    """The same call may succeed later. `retry_after_s` is how many seconds to wait, or None when nobody knows."""

    code = "retriable"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SourceUnavailableError(RetriableError):
    """Datadog is down, unreachable, or answered nonsense for longer than RETRY_BUDGET_S."""

    exit_code = 6
    http_status = 502
    code = "source_unavailable"


class QuotaExhaustedError(RetriableError):
    """Datadog's rate limit resets later than RETRY_BUDGET_S allows to wait."""

    exit_code = 7
    http_status = 429
    code = "quota_exhausted"


class StoreUnavailableError(RetriableError):
    """The store did not answer in time."""

    exit_code = 8
    http_status = 503
    code = "store_unavailable"


class RunInProgressError(RetriableError):
    """Another run holds the lease. `holder` says who, `since` when it began (ISO 8601, UTC)."""

    exit_code = 9
    http_status = 409
    code = "run_in_progress"

    def __init__(self, holder: str, since: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"a run is going on: {holder}, since {since}", retry_after_s=retry_after_s)
        self.holder = holder
        self.since = since


class ClusterFailedError(RetriableError):
    """A job on a cluster failed more often than the engine tries, or the cluster did not come up. What was stored stays."""

    exit_code = 14
    http_status = 503
    code = "cluster_failed"


class ErasedMeanwhileError(RetriableError):
    """Something was erased while an export was written: it is withdrawn, and can be made again at once."""

    exit_code = 8
    http_status = 503
    code = "erased_meanwhile"


class DestinationUnavailableError(RetriableError):
    """A webhook or bucket did not answer, or said that it cannot now; it was tried several times."""

    exit_code = 13
    http_status = 502
    code = "destination_unavailable"


class SkippableError(EvalForgeError):
    """This one item cannot be used; `code` is the reason that its dead letter carries."""

    code = "skippable"

    def __init__(self, message: str, *, code: str = "skippable") -> None:
        super().__init__(message)
        self.code = code


class RequestError(EvalForgeError):
    """The caller's mistake: the request must change. `field` names what is wrong, where one field is."""

    exit_code = 2
    http_status = 422
    code = "bad_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(RequestError):
    """What the request names does not exist here."""

    http_status = 404
    code = "not_found"


class NothingToExportError(RequestError):
    """No capture that is selected can be an example. `code` tells closed texts, no texts, and nothing selected apart."""

    code = "nothing_to_export"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class TooLargeError(RequestError):
    """The request has more bytes than are taken."""

    http_status = 413
    code = "too_large"


class MissingRoleError(RequestError):
    """The caller may come in, but not do this. `role` is the one that is missing."""

    http_status = 403
    code = "missing_role"

    def __init__(self, role: str) -> None:
        super().__init__(f"this needs the role {role}, which this caller does not have")
        self.role = role
