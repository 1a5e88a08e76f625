"""Versions of stored documents: any version that was ever written comes out as today's, and a later one is refused.

A document tells its version in `schema_version`; one that does not is of the first. Each step up is a pure function of its
own in `STEPS`: it gets a copy of a document's fields and gives those of the next version. Documents from before versions
were told all say 1, or nothing, whatever they have: so the steps of that time only fill in what is missing
(docs/decisions/0026-versions.md).

No step may change a field of `FROZEN`: stores select, sort, group and count by these without looking at the version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from evalforge.errors import NewerVersionError

Kind = Literal[
    "capture",
    "checkpoint",
    "coverage",
    "dead_letter",
    "epoch",
    "keyring",
    "lease",
    "package",
    "review",
    "run",
    "told",
    "tombstone",
]
"""What a stored document is."""

Step = Callable[[dict[str, Any]], dict[str, Any]]

VERSION_FIELD = "schema_version"

FROZEN = frozenset(
    "trace_id signature started_at fetched_at expires_at failure_type severity ml_app env service_name model_name "
    "error_type status_code user_hash user_hashes signals".split()
)
"""Fields of a capture that are asked for by name in every version, and mean the same in all of them."""


# -- captures


def _capture_to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Users whom only a root names are told apart, and occurrences count what was removed: none was known."""
    occurrences = [{"removed_count": 0, **occurrence} for occurrence in document["occurrences"]]
    return {"root_user_count": 0, **document, "occurrences": occurrences}


def _capture_to_3(document: dict[str, Any]) -> dict[str, Any]:
    """What errors said is kept: nobody had asked."""
    return {"error_details": [], **document}


def _capture_to_4(document: dict[str, Any]) -> dict[str, Any]:
    """What it was made of is named: nothing is known of it, so that it will be judged again."""
    return {"origins": b"", **document}


# -- records


def _checkpoint_to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Tiers have places of their own, and a fence: there was one tier, whoever came last had won."""
    return {"tier": "lookback", "began_ms": None, "fence": 0, **document}


def _lease_to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Leases carry a fence: any that is taken next is greater than none."""
    return {"fence": 0, **document}


def _package_to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Rows that were erased from a package are counted: none could be."""
    return {"erased_count": 0, **document}


def _package_to_3(document: dict[str, Any]) -> dict[str, Any]:
    """Packages have files, splits, attempts and the ids of their captures: there was one file, sent once, and no ids."""
    shape: dict[str, Any] = {"per_group": None, "test_share": None, "files": [], "counts": {}}
    sent = {"attempts": 1, "attempted_at": None}
    return {**shape, **sent, "document_ids": b"", "ids_are_cut": False, **document}


STEPS: Mapping[Kind, tuple[Step, ...]] = {
    "capture": (_capture_to_2, _capture_to_3, _capture_to_4),
    "checkpoint": (_checkpoint_to_2,),
    "lease": (_lease_to_2,),
    "package": (_package_to_2, _package_to_3),
    "coverage": (),
    "dead_letter": (),
    "epoch": (),
    "keyring": (),
    "review": (),
    "run": (),
    "told": (),
    "tombstone": (),
}
"""The steps of each kind, the first from version 1 to 2: a new version is one more function here."""

TODAY: Mapping[Kind, int] = {kind: len(steps) + 1 for kind, steps in STEPS.items()}
"""The version of each kind that is written today."""

_KIND_IN: Mapping[str, Kind] = {
    "raw_traces": "capture",
    "groups": "review",
    "dead_letters": "dead_letter",
    "runs": "run",
    "exports": "package",
    "tombstones": "tombstone",
}
_KIND_BY_PREFIX: Mapping[str, Kind] = {
    "coverage_": "coverage",
    "keyring": "keyring",
    "lease_": "lease",
    "source_": "checkpoint",
    "told_": "told",
    "erasure_epoch": "epoch",
}


def kind_of(collection: str, key: str) -> Kind | None:
    """What the document under a key of one of `ports.COLLECTIONS` is; None where that place is nobody's of ours."""
    if collection == "checkpoints":
        return next((kind for prefix, kind in _KIND_BY_PREFIX.items() if key.startswith(prefix)), None)
    return _KIND_IN.get(collection)


def version_of(document: Mapping[str, Any]) -> int:
    """The version that a document tells; 1 where it tells none.

    Raises:
        TypeError, ValueError: what it tells is no version: it is none of ours.
    """
    try:
        version = document.get(VERSION_FIELD, 1)
    except AttributeError as error:  # whatever somebody has left there
        raise TypeError("no document") from error
    if type(version) is not int or version < 1:  # True is an int too
        raise ValueError(f"{VERSION_FIELD} is no version")
    return version


def todays(kind: Kind, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document as today's program would have written it: itself when it is of today's version.

    Fields that no step knows, such as a reviewer's, stay as they are.

    Raises:
        NewerVersionError: a later program wrote it; nobody may read it as if it were ours, nor write it back.
        KeyError, TypeError, ValueError: it is none of ours.
    """
    version, known = version_of(document), TODAY[kind]
    if version == known:
        return document
    if version > known:
        raise NewerVersionError(kind, version, known)
    raised = dict(document)
    for step in STEPS[kind][version - 1 :]:
        raised = step(raised)
    return stamped(kind, raised)


def stamped(kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
    """The same document, telling today's version of its kind; kinds that only ever had one do not tell it."""
    return document if TODAY[kind] == 1 else {**document, VERSION_FIELD: TODAY[kind]}
