"""The pages: what each shows, and the forms that change what stands of a group."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import Request
from starlette.responses import Response

from evalforge import bootstrap
from evalforge.core.callers import KEY, Role, key_digest
from evalforge.core.ports import SELECTED_BY, Selection, Store
from evalforge.core.review import MAX_EXPECTED, MAX_NOTE, STATE_MEANINGS, UNSET, Patch, ReviewState, Unset, checked_signature
from evalforge.errors import EvalForgeError, NotFoundError, RequestError
from evalforge.review import Wanted, change_review, failure_stats, list_captures, list_groups, one_group
from evalforge.review.groups import SAMPLE
from evalforge.service import sessions
from evalforge.service.access import Open, Routes
from evalforge.service.auth import UNNAMED, Callers, caller_of, tell_refused
from evalforge.service.requests import read_raw_body
from evalforge.service.routes import settings_of
from evalforge.service.web.conversation import timings_of, turns_of, verdicts_of
from evalforge.service.web.filters import CHOICES, WINDOWS, filters_of
from evalforge.service.web.rendering import PAGE_HEADERS, page, problem_page, style

routes = Routes()

GROUPS_PER_PAGE = 20
CAPTURES_PER_PAGE = 50
CAPTURES_OF_GROUP = 20
RUNS_SHOWN = 30

T = TypeVar("T")
View = Callable[..., Coroutine[Any, Any, Response]]


def _page(path: str, summary: str, *, lets_in: Role | Open = Role.READ, method: str = "GET") -> Callable[[View], View]:
    """Declares a page; one of our errors becomes a page that tells it."""

    def declared(view: View) -> View:
        @wraps(view)
        async def told(*args: Any, **kwargs: Any) -> Response:
            try:
                return await view(*args, **kwargs)
            except EvalForgeError as error:
                return problem_page(kwargs["request"], error)

        return routes.add(method, path, lets_in=lets_in, answers={}, summary=summary, include_in_schema=False)(told)

    return declared


async def _ask(request: Request, question: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    answer: T = await request.app.state.desk.ask(settings_of(request), question)
    return answer


async def _choices(store: Store) -> Mapping[str, list[str]]:
    """What captures have in each field that selects."""
    now = bootstrap.utc_now()
    return {name: list(await store.values_of(name, now=now)) for name in SELECTED_BY}


@_page("/", "Overview")
async def overview(request: Request) -> Response:
    """Failures over time, what regressed and what is new, the last runs."""
    now = bootstrap.utc_now()
    asked = filters_of(request.query_params.multi_items(), now)

    async def figures(store: Store) -> dict[str, Any]:
        stats = await failure_stats(store, asked.selection, now=now)
        regressed = await list_groups(store, Wanted(asked.selection, regressed=True), now=now, limit=8)
        new = await list_groups(store, Wanted(asked.selection, state=ReviewState.NEW), now=now, limit=8)
        return {"stats": stats, "regressed": regressed, "new": new, "choices": await _choices(store)}

    found = await _ask(request, figures)
    runs = await _runs(request, 5)
    return page(request, "overview.html", asked=asked, windows=list(WINDOWS), shown_choices=CHOICES, runs=runs, **found)


@_page("/review", "Queue")
async def queue(request: Request) -> Response:
    """The groups that match the filters in the URL."""
    now = bootstrap.utc_now()
    asked = filters_of(request.query_params.multi_items(), now)
    wanted = Wanted(asked.selection, asked.state, asked.regressed)

    async def listed(store: Store) -> dict[str, Any]:
        found = await list_groups(store, wanted, now=now, limit=GROUPS_PER_PAGE, cursor=asked.cursor)
        return {"found": found, "choices": await _choices(store)}

    found = await _ask(request, listed)
    return page(request, "queue.html", asked=asked, **_filter_values(), **found)


def _filter_values() -> dict[str, Any]:
    return {"windows": list(WINDOWS), "shown_choices": CHOICES, "states": list(ReviewState), "sample": SAMPLE}


@_page("/review/captures", "Captures")
async def captures(request: Request) -> Response:
    """The captures that match the filters in the URL."""
    now = bootstrap.utc_now()
    asked = filters_of(request.query_params.multi_items(), now)

    async def listed(store: Store) -> dict[str, Any]:
        found = await list_captures(
            store, asked.selection, now=now, limit=CAPTURES_PER_PAGE, state=asked.state, cursor=asked.cursor
        )
        return {"found": found, "choices": await _choices(store)}

    return page(request, "captures.html", asked=asked, **_filter_values(), **await _ask(request, listed))


@_page("/review/groups/{signature}", "A group")
async def group(request: Request, signature: str) -> Response:
    """One group: its figures, what reviewers decided, its captures."""
    now = bootstrap.utc_now()
    known = checked_signature(signature)
    asked = filters_of(request.query_params.multi_items(), now)

    async def shown(store: Store) -> dict[str, Any]:
        found = await one_group(store, known, now=now)
        selection = Selection(signatures=(known,))
        newest = await list_captures(store, selection, now=now, limit=CAPTURES_OF_GROUP, cursor=asked.cursor)
        example = await store.get(found.newest.trace_id, now=now)
        return {"group": found, "newest": newest, "example": example}

    found = await _ask(request, shown)
    return page(
        request, "group.html", asked=asked, states=list(ReviewState), meanings=STATE_MEANINGS, sample=SAMPLE,
        max_note=MAX_NOTE, saved=request.query_params.get("saved") == "1", **found,
    )  # fmt: skip


@_page("/review/groups/{signature}", "Change a group", lets_in=Role.REVIEW, method="POST")
async def change_group(request: Request, signature: str) -> Response:
    """Saves what a form says of a group, and goes back to where the form was."""
    known = checked_signature(signature)
    fields = await _form(request, {"state", "assignee", "note", "expected_output", "trace_id"})
    trace_id = fields.get("trace_id") or None
    patch = Patch(
        UNSET if "state" not in fields else _state(fields["state"]),
        _given(fields, "assignee"),
        _given(fields, "note"),
        _given(fields, "expected_output"),
        trace_id,
    )
    by = (caller_of(request) or UNNAMED).name
    now = bootstrap.utc_now()
    await _ask(request, lambda store: change_review(store, known, patch, by=by, now=now))
    back = f"/review/captures/{trace_id}" if trace_id and "expected_output" in fields else f"/review/groups/{known}"
    return _see(f"{back}?saved=1")


def _given(fields: Mapping[str, str], name: str) -> str | Unset | None:
    return (fields[name] or None) if name in fields else UNSET


def _state(text: str) -> ReviewState:
    try:
        return ReviewState(text)
    except ValueError:
        raise RequestError(f"state: wants one of {', '.join(ReviewState)}", field="state") from None


@_page("/review/captures/{trace_id}", "A capture")
async def capture(request: Request, trace_id: str) -> Response:
    """One capture: why it failed, what was said, what was removed, when, and the links."""
    now = bootstrap.utc_now()

    async def shown(store: Store) -> dict[str, Any]:
        stored = await store.get(trace_id, now=now)
        if stored is None:
            raise NotFoundError("there is no capture of that trace: it has expired, was erased, or never failed")
        return {"stored": stored, "review": await store.load_review(stored.capture.signature)}

    found = await _ask(request, shown)
    taken = found["stored"].capture
    timings, whole_ns = timings_of(taken)
    turns = turns_of(taken.payload)
    return page(
        request, "capture.html", now=now, document=taken.to_document(), turns=turns, timings=timings, whole_ns=whole_ns,
        has_closed=any(turn.is_closed for turn in turns), verdicts=verdicts_of(taken.payload), max_expected=MAX_EXPECTED,
        saved=request.query_params.get("saved") == "1", **found,
    )  # fmt: skip


@_page("/review/runs", "Runs")
async def run_history(request: Request) -> Response:
    """What ran, when, and what came of it."""
    return page(request, "runs.html", runs=await _runs(request, RUNS_SHOWN))


async def _runs(request: Request, limit: int) -> list[dict[str, Any]]:
    settings = settings_of(request)

    async def listed(store: Store) -> list[dict[str, Any]]:
        return await bootstrap.recent_runs_in(store, limit=limit)

    found: list[dict[str, Any]] = await request.app.state.desk.ask(settings, listed)
    return found


@_page("/review/runs/{run_id}", "A run")
async def one_run(request: Request, run_id: str) -> Response:
    """One run with its report."""
    run = await _ask(request, lambda store: bootstrap.one_run_in(store, run_id))
    return page(request, "run.html", run=run, report=run["report"])


@_page("/review/health", "Health")
async def health(request: Request) -> Response:
    """Whether settings, keys, Datadog and the store are well."""
    return page(request, "health.html", health=await request.app.state.health.document())


# -- sign-in ------------------------------------------------------------------------------------------------------------


@_page("/sign-in", "Sign in", lets_in=Open.UNASKED)
async def sign_in_form(request: Request) -> Response:
    """The form that takes an API key."""
    return _sign_in_page(request, own_path(request.query_params.get("next")))


@_page("/sign-in", "Sign in", lets_in=Open.UNASKED, method="POST")
async def sign_in(request: Request) -> Response:
    """Takes an API key, and gives a cookie that lasts twelve hours."""
    fields = await _form(request, {"key", "next"})
    following = own_path(fields.get("next"))
    callers: Callers = request.app.state.callers
    given = fields.get("key", "").strip()
    digest = key_digest(given)
    holder = None
    for row in callers.rows:  # to the end, whichever fits: the time taken says nothing of the place
        if hmac.compare_digest(row.digest, digest):
            holder = row
    if not KEY.fullmatch(given) or holder is None:
        tell_refused(request.scope, callers, "unknown_key")
        return _sign_in_page(request, following, "This is no key that the settings know.", 403)
    answer = _see(following)
    answer.headers["set-cookie"] = sessions.cookie(sessions.token_of(holder, time.time()), is_secure=_is_secure(request))
    return answer


def _sign_in_page(request: Request, following: str, wrong: str = "", status: int = 200) -> Response:
    callers: Callers = request.app.state.callers
    return page(request, "sign_in.html", status, following=following, wrong=wrong, has_keys=bool(callers.rows))


@_page("/sign-out", "Sign out", lets_in=Open.UNASKED, method="POST")
async def sign_out(request: Request) -> Response:
    """Takes the cookie away."""
    answer = _see("/sign-in")
    answer.headers["set-cookie"] = sessions.cookie("", is_secure=_is_secure(request))
    return answer


@_page("/static/style.css", "Style sheet", lets_in=Open.UNASKED)
async def style_sheet(request: Request) -> Response:
    """How the pages look."""
    return Response(style(), 200, {"Cache-Control": "max-age=3600"}, "text/css")


@_page("/favicon.ico", "No icon", lets_in=Open.UNASKED)
async def no_icon(request: Request) -> Response:
    """Nothing: browsers ask for it."""
    return Response(status_code=204, headers={"Cache-Control": "max-age=86400"})


def own_path(text: str | None) -> str:
    """`text`, if it is a path of a page of ours; else the first page's."""
    if text and text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable():
        return text if len(text) <= 2_000 else "/"
    return "/"


def sign_in_place(path: str, query: bytes) -> str:
    """Where somebody is sent who has to sign in before they see the page."""
    query_text = query.decode("ascii", "replace")
    following = own_path(f"{path}?{query_text}" if query_text else path)
    return f"/sign-in?{urlencode({'next': following})}" if following != "/" else "/sign-in"


def _is_secure(request: Request) -> bool:
    forwarded = request.headers.getlist("x-forwarded-proto")
    return request.url.scheme == "https" or any(one.split(",")[0].strip().lower() == "https" for one in forwarded)


def _see(place: str) -> Response:
    return Response(status_code=303, headers={**PAGE_HEADERS, "Location": place})


async def _form(request: Request, known: set[str]) -> dict[str, str]:
    """The fields of a form; white space at the ends is not meant.

    Raises:
        RequestError: a field is unknown or there twice, or this is no form.
        TooLargeError
    """
    body = await read_raw_body(request)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=20)
    except ValueError as error:
        raise RequestError("this is no form") from error
    fields = {name: value.strip() for name, value in pairs}
    if len(fields) != len(pairs) or not set(fields) <= known:
        raise RequestError(f"wants each of {', '.join(sorted(known))} at most once")
    return fields


def is_page(path: str) -> bool:
    """Whether a path is one of these pages, which browsers reach with a cookie."""
    return path == "/" or path == "/review" or path.startswith("/review/")
