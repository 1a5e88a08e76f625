"""Groups, captures and figures as plain JSON values: what the API and `--json` give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalforge.core.ports import StoredCapture
from evalforge.core.review import Change, Review
from evalforge.review.groups import Group, GroupsPage
from evalforge.review.listing import CapturesPage
from evalforge.review.stats import Stats

_SUMMARY = (
    "trace_id", "signature", "started_at", "failure_type", "severity", "ml_app", "env", "service_name", "model_name",
    "error_type", "status_code", "quality_score", "recurrence_count", "user_hash", "datadog_url", "span_url",
    "link_expires_at", "fetched_at",
)  # fmt: skip


def capture_summary(stored: StoredCapture) -> dict[str, Any]:
    """A capture in short: a row of a list."""
    document = stored.document
    worst = document["signals"][0]
    return {
        **{name: document[name] for name in _SUMMARY},
        "span_name": document["occurrences"][0]["name"],
        "why": {name: worst[name] for name in ("place", "observed", "comparison", "threshold")},
    }


def captures_document(page: CapturesPage) -> dict[str, Any]:
    """A page of captures; `next` is the cursor of the next one."""
    return {"captures": [capture_summary(stored) for stored in page.captures], "next": page.next}


def group_document(group: Group) -> dict[str, Any]:
    """A group with its review, without the review's history."""
    newest = group.newest
    return {
        "signature": group.signature,
        "state": group.state.value,
        "regressed": group.is_regressed,
        "assignee": group.review.assignee,
        "note": group.review.note,
        "failure_type": newest.failure_type,
        "severity": group.severity,
        "span_name": newest.span_name,
        "ml_app": newest.ml_app,
        "error_type": newest.error_type,
        "evaluator": newest.evaluator,
        "status_code": newest.status_code,
        "count": group.count,
        "first_seen_at": group.first_seen_at,
        "last_seen_at": group.last_seen_at,
        "users": group.user_count,
        "models": dict(group.models),
        "versions": dict(group.versions),
        "envs": dict(group.envs),
        "sampled": group.is_sampled,
        "trend": {"from": group.trend_from, "to": group.trend_to, "counts": list(group.trend)},
    }


def groups_document(page: GroupsPage) -> dict[str, Any]:
    """A page of groups; `total` is how many match, at least so many where `total_is_floor`."""
    return {
        "groups": [group_document(group) for group in page.groups],
        "next": page.next,
        "total": page.total,
        "total_is_floor": page.is_floor,
    }


def review_document(review: Review) -> dict[str, Any]:
    """A review with its whole history, the oldest change first."""
    return {
        "signature": review.signature,
        "state": review.state.value,
        "assignee": review.assignee,
        "note": review.note,
        "resolved_at": review.resolved_at,
        "expected_outputs": dict(review.expected_outputs),
        "history": [_change_document(change) for change in review.history],
    }


def _change_document(change: Change) -> dict[str, Any]:
    return {
        "at": change.at,
        "by": change.by,
        "what": change.what,
        "from": change.before,
        "to": change.after,
        "trace_id": change.trace_id,
    }


def stats_document(stats: Stats) -> dict[str, Any]:
    """The figures for charts; `edges` has one more than each list of counts."""

    def lists(counts: Mapping[str, Any]) -> dict[str, list[int]]:
        return {name: list(parts) for name, parts in counts.items()}

    return {
        "edges": list(stats.edges),
        "total": stats.total,
        "by_type": lists(stats.by_type),
        "by_severity": lists(stats.by_severity),
        "by_app": dict(stats.by_app),
        "by_model": dict(stats.by_model),
        "groups": dict(stats.groups),
        "regressed": stats.regressed_count,
    }
