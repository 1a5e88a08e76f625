"""What the application key must be allowed to do, and nothing more: the one list, for `evalforge check` and the docs.

A key that is not scoped may do whatever its owner may. A scoped key, best of a service account, may do what its scopes name.

Source: https://docs.datadoghq.com/account_management/rbac/permissions/ (the names and what each opens),
https://docs.datadoghq.com/api/latest/spans/ (apm_read) and https://docs.datadoghq.com/api/latest/monitors/ (monitors_read).
The page of the LLM Observability search names no permission; the list has one for viewing LLM Observability.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permission:
    """One row. `opens` is what it opens to us, `source` the search that proves it, `without` what happens without it.

    It is needed when the settings make a run search `source`; `needed_by` says which settings do.
    """

    name: str
    source: str
    opens: str
    needed_by: str
    is_required: bool
    without: str


PERMISSIONS = (
    Permission(
        "llm_observability_read",
        "llm_obs",
        "searching LLM Observability spans",
        "DATADOG_SOURCES with llm_obs, and then DATADOG_RESOLVE_USERS",
        True,
        "a run ends with source_refused",
    ),
    Permission(
        "apm_read",
        "apm",
        "searching APM spans",
        "DATADOG_SOURCES with apm, and then DATADOG_RESOLVE_USERS; DATADOG_ENRICH_FROM_APM",
        False,
        "a run leaves APM out and says so",
    ),
)
"""Every permission that the application key needs."""


def permission_for(source: str) -> Permission:
    """The permission that opens this search."""
    return next(permission for permission in PERMISSIONS if permission.source == source)


SURPLUS = "monitors_read"
"""Nothing here needs it and every managed role of Datadog has it: a key that has it is not scoped, or too widely."""

SURPLUS_PATH = "/api/v1/monitor?page=0&page_size=1"
"""What asks for it: at most one monitor, which is not read."""
