"""A look at the Datadog and the Firestore that the settings name: what they do, in a report that may be sent to anybody."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from evalforge.bootstrap import opened_client, utc_now
from evalforge.config import EMULATOR_PROJECT, Settings
from evalforge.core.findings import Finding, NoFindingError, Question, Verdict
from evalforge.core.sites import is_loopback
from evalforge.credentials import DatadogKeys, resolve_datadog_keys
from evalforge.errors import EvalForgeError
from evalforge.sources.datadog.live import DatadogLook, Queries
from evalforge.sources.datadog.query import Scope, failure_query

QUESTION_S = 60.0
LOOK_S = 180.0
"""How long one question, and all of them together, may take."""

_PACKAGES = ("evalforge-ingestion", "httpx", "google-cloud-firestore", "google-api-core", "grpcio")


@dataclass(frozen=True, slots=True)
class LiveReport:
    """`about` is what was looked at and with what; none of it names an organisation, a project or a host of one's own."""

    about: dict[str, str]
    datadog: Sequence[Finding]
    firestore: Sequence[Finding]
    datadog_requests: int
    firestore_reads: int

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        rows = [
            {"name": one.name, "verdict": one.verdict.value, "assumed": one.assumed, "seen": one.seen, **_details(one)}
            for one in (*self.datadog, *self.firestore)
        ]
        asked = {"datadog_requests": self.datadog_requests, "firestore_reads": self.firestore_reads}
        return {"about": self.about, "asked_at_most": asked, "findings": rows}


def _details(finding: Finding) -> dict[str, Any]:
    return {"details": dict(finding.details)} if finding.details else {}


async def look_live(
    settings: Settings, *, on_plan: Callable[[int, int], None], on_finding: Callable[[Finding], None]
) -> LiveReport:
    """Asks both, each question once and by itself; `on_plan` hears before how many requests and reads at most.

    An error is a finding, and never the end.
    """
    stores, store_reads = _firestore_questions(settings)
    keys: DatadogKeys | None = None
    refused: list[Finding] = []
    try:
        keys = await resolve_datadog_keys(settings)
    except EvalForgeError as error:
        refused = [Finding("datadog.keys", "both keys can be read", Verdict.FAILED, f"nothing was asked ({error.code})")]
    if keys is None:
        on_plan(0, store_reads)
        datadog, firestore, requests = refused, await _asked(stores, on_finding), 0
    else:
        async with opened_client(settings, keys) as client:
            look = DatadogLook(client, _queries(settings), utc_now)
            questions = look.questions()
            requests = sum(question.requests for question in questions)
            on_plan(requests, store_reads)
            datadog, firestore = await asyncio.gather(_asked(questions, on_finding), _asked(stores, on_finding))
    return LiveReport(_about(settings), datadog, firestore, requests, store_reads)


async def _asked(questions: Sequence[Question], on_finding: Callable[[Finding], None]) -> list[Finding]:
    """What each question finds, one after the other. One that fails is a finding, and so is one that came too late."""
    found: list[Finding] = []
    clock = asyncio.get_running_loop().time
    ends_at = clock() + LOOK_S
    for question in questions:
        try:
            if clock() >= ends_at:
                raise NoFindingError(f"not asked: {LOOK_S:g} s were over")
            async with asyncio.timeout(min(QUESTION_S, max(0.01, ends_at - clock()))):
                fresh = list(await question.ask())
        except NoFindingError as error:
            fresh = [Finding(question.name, question.assumed, error.verdict, str(error))]
        except EvalForgeError as error:
            fresh = [_failed(question, error.code)]  # its message may name a project
        except TimeoutError:
            fresh = [_failed(question, "no answer in time")]
        except Exception as error:  # noqa: BLE001 - a look reports, whatever happens; the type says enough, the text may not
            fresh = [_failed(question, f"unexpected {type(error).__name__}")]
        for one in fresh:
            on_finding(one)
        found += fresh
    return found


def _failed(question: Question, why: str) -> Finding:
    return Finding(question.name, question.assumed, Verdict.FAILED, why)


def _queries(settings: Settings) -> Queries:
    scope = Scope(settings.datadog_ml_apps, settings.datadog_envs, settings.datadog_apm_scope)
    learned = [f"evaluation.{name}" for name in settings.evaluations]
    searched = dict.fromkeys((*settings.datadog_sources, *(("apm",) if settings.datadog_enrich_from_apm else ())))
    failures = {source: failure_query(source, scope, settings.thresholds, learned) for source in searched}
    return Queries(failures, settings.datadog_apm_scope)


def _firestore_questions(settings: Settings) -> tuple[list[Question], int]:
    if settings.sqlite_path is not None:
        return [], 0
    from evalforge.stores.firestore.connection import Connection
    from evalforge.stores.firestore.live import TIMEOUT_S, FirestoreLook

    emulator = settings.firestore_emulator_host
    project = settings.google_cloud_project or (EMULATOR_PROJECT if emulator else None)
    connection = Connection(project, settings.firestore_database, emulator, TIMEOUT_S, None)
    look = FirestoreLook(connection, settings.firestore_collection_prefix, emulator, utc_now)
    questions = look.questions()
    return [*questions, Question("firestore.close", "", 0, look.close)], sum(one.requests for one in questions)


def _about(settings: Settings) -> dict[str, str]:
    versions = {name: _version(name) for name in _PACKAGES}
    url = urlsplit(settings.api_url).hostname or ""
    at = settings.datadog_site
    if settings.datadog_api_url is not None:
        at += ", DATADOG_API_URL on this machine" if is_loopback(url) else ", DATADOG_API_URL elsewhere"
    firestore = "Firestore"
    if settings.sqlite_path is not None:
        firestore = "SQLite: nothing of Firestore was asked"
    elif settings.firestore_emulator_host:
        firestore = "a Firestore emulator"
    return {
        **versions,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "datadog": at,
        "store": firestore,
        "settings that are set": ", ".join(sorted(settings.given)),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
