"""What a live Datadog does where its documentation leaves us guessing: at most 14 requests, none of which changes anything.

What comes back is measured and forgotten: a finding holds our words and numbers (`core.findings`). A name or an id that was
met goes into the next question to Datadog, where it came from, and nowhere else.

Source: the guesses are those of docs/decisions and docs/sandbox.md ("Nothing of it was compared with a live Datadog").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from evalforge.core.findings import Finding, NoFindingError, Question, Verdict, judged, known_word, masked_name, type_of
from evalforge.core.span import Json
from evalforge.datadog_http.answers import NonsenseError, decode_json, rate_limit
from evalforge.errors import SourceUnavailableError
from evalforge.sources.datadog import shapes
from evalforge.sources.datadog.client import ENDPOINTS, DatadogClient, Look, SearchRequest
from evalforge.sources.datadog.query import is_queryable, quoted
from evalforge.sources.datadog.shapes import attributes_of, mapping, order_of
from evalforge.sources.datadog.sightings import STATES, apm_findings, began_at, list_of, llm_obs_findings

_MOST = 10_000_000
"""No number beyond this is shown: it is no rate limit."""
MAX_BODY_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 20.0
SAMPLE = 50
"""How many spans one question brings."""

_DAY_MS = 86_400_000
_NOBODY = '@span_id:"0"'
_TYPES = ("application/json", "application/vnd.api+json", "text/html", "text/plain")
_TOP_KEYS = ("data", "meta", "links", "errors", "included", "status", "valid")
_LIMITS = ("x-ratelimit-limit", "x-ratelimit-period", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-name")


@dataclass(frozen=True, slots=True)
class Queries:
    """What runs of these settings ask each source, by its name, and APM's scope."""

    failures: Mapping[str, str]
    apm_scope: str


@dataclass(slots=True)
class DatadogLook:
    """The questions for one Datadog organisation; later ones use what earlier ones met. `now` is the clock."""

    client: DatadogClient
    queries: Queries
    now: Callable[[], datetime]
    _out: set[str] = field(default_factory=set)
    _first: SearchRequest | None = None
    _cursor: str | None = None
    _last_s: float | None = None
    _evaluator: str | None = None
    _span_id: str | None = None

    def questions(self) -> list[Question]:
        """In the order in which they are to be asked, one after the other."""
        rows = [Question("datadog.keys", "200, both keys are good", 1, self._keys)]
        if "llm_obs" in self.queries.failures:
            rows += [
                Question("llm_obs.search", "200 with data, meta and links", 1, lambda: self._window("llm_obs")),
                Question("llm_obs.next_page", "goes on where the page before ended", 1, self._next_page),
                Question("llm_obs.newest", "-timestamp gives the latest first; now-1d is understood", 1, self._newest),
                *self._limits("llm_obs"),
                self._long_query("llm_obs"),
                Question("llm_obs.bad_cursor", "400", 1, self._bad_cursor),
                Question("llm_obs.evaluation_syntax", "@evaluation.NAME.value finds it", 1, self._evaluation),
                Question("llm_obs.old_syntax", "@evaluations.custom.NAME finds it too", 1, self._old_evaluation),
            ]
        if "apm" in self.queries.failures:
            rows += [
                Question("apm.search", "200 with data, meta and links", 1, lambda: self._window("apm")),
                *self._limits("apm"),
                self._long_query("apm"),
            ]
            if "llm_obs" in self.queries.failures:
                rows.append(Question("apm.join", "a span has the same id in both", 1, self._join))
        return rows

    def _limits(self, source: str) -> list[Question]:
        most = ENDPOINTS[source].max_page
        accepted = Question(
            f"{source}.page_limit",
            f"{most} spans a page are accepted",
            1,
            lambda: self._limit(source, most, "page_limit", 200),
        )
        if source == "apm":  # of its 300 requests an hour none is spent on being refused
            return [accepted]
        beyond = Question(
            f"{source}.page_limit_beyond",
            f"{most + 1} are refused with 400",
            1,
            lambda: self._limit(source, most + 1, "page_limit_beyond", 400),
        )
        return [accepted, beyond]

    def _long_query(self, source: str) -> Question:
        size = len(self.queries.failures[source].encode())
        return Question(
            f"{source}.query_length",
            f"the query for failures, {size:,} bytes, is accepted",
            1,
            lambda: self._failures(source),
        )

    # -- asking

    async def _look(self, request: SearchRequest | None) -> Look:
        source = "keys" if request is None else request.source
        if source in self._out:
            raise NoFindingError("not asked: an earlier question was answered with 429", Verdict.NOT_SEEN)
        try:
            look = await self.client.look(request, max_bytes=MAX_BODY_BYTES, timeout_s=TIMEOUT_S)
        except SourceUnavailableError as error:
            raise NoFindingError(error.message) from error
        if look.status == 429:
            self._out.add(source)
        return look

    def _day(self, source: str, query: str, limit: int) -> SearchRequest:
        to_ms = int(self.now().timestamp() * 1000)
        return SearchRequest(source, query, str(to_ms - _DAY_MS), str(to_ms), limit)

    async def _keys(self) -> list[Finding]:
        look = await self._look(None)
        document = _document(look)
        state = known_word(document.get("status"), STATES) if "status" in document else "absent"
        return [
            judged(
                "datadog.keys",
                "200, both keys are good",
                look.status == 200,
                f"{_told(look)}; status {state}, valid {type_of(document.get('valid'))}",
                status=look.status,
            ),
            self._clock_skew(look),
        ]

    def _clock_skew(self, look: Look) -> Finding:
        name, assumed = "datadog.clock", "their clock and ours differ by less than 5 s"
        try:
            told = parsedate_to_datetime(look.headers.get("date", ""))
        except ValueError:
            return judged(name, assumed, None, "no Date header that can be read")
        skew_s = (self.now() - (told if told.tzinfo else told.replace(tzinfo=UTC))).total_seconds()
        return judged(name, assumed, abs(skew_s) < 5, f"ours is {skew_s:+.0f} s from theirs", skew_s=round(skew_s))

    async def _window(self, source: str) -> list[Finding]:
        query = "" if source == "llm_obs" else self.queries.apm_scope
        request = self._day(source, query, SAMPLE)
        look = await self._look(request)
        document, items = _document(look), _items(look)
        name = f"{source}.search"
        found = [
            Finding(
                name,
                "200 with data, meta and links",
                Verdict.AS_ASSUMED if look.status == 200 and "data" in document else Verdict.OTHERWISE,
                f"{_told(look)}; {len(items)} spans; keys {_keys_of(document)}",
                {"status": look.status, "spans": len(items), "duration_s": round(look.duration_s, 3)},
            ),
            _rate_limit_told(source, look),
        ]
        if look.status != 200:
            return found
        meta = mapping(document.get("meta"))
        page = meta.get("page")
        cursor = mapping(page).get("after")
        moments = [moment for one in attributes_of(items) if (moment := began_at(source, one)) is not None]
        if source == "llm_obs" and isinstance(cursor, str) and cursor:
            self._first, self._cursor, self._last_s = request, cursor, max(moments, default=None)
        state = known_word(meta.get("status"), STATES)
        order = order_of(moments)
        found += [
            judged(f"{source}.meta_status", "done", None if not meta else state == "done", state),
            judged(
                f"{source}.cursor",
                "meta.page.after, base64 of JSON with after and values",
                None if not cursor else shapes.cursor_form(cursor).startswith("base64 of JSON with after"),
                shapes.cursor_form(cursor) + ("" if cursor else f" (meta.page is {type_of(page)})"),
            ),
            judged(
                f"{source}.order",
                "sort=timestamp gives the earliest start first",
                None if order == "one moment" else order == "ascending",
                f"{order}, over {len(moments)} spans",
            ),
        ]
        if source == "apm":
            return found + apm_findings(items)
        self._remember(attributes_of(items))
        return found + llm_obs_findings(items)

    async def _next_page(self) -> list[Finding]:
        name, assumed = "llm_obs.next_page", "goes on where the page before ended"
        if self._first is None:
            return [judged(name, assumed, None, "not asked: there was no cursor")]
        look = await self._look(replace(self._first, cursor=self._cursor))
        moments = [moment for one in attributes_of(_items(look)) if (moment := began_at("llm_obs", one)) is not None]
        first = min(moments, default=None)
        goes_on = None if first is None or self._last_s is None else first >= self._last_s
        seen = f"{_told(look)}; {len(moments)} spans" + (
            "" if goes_on is not False else ", the first before that page's last"
        )
        return [judged(name, assumed, goes_on if look.status == 200 else False, seen, spans=len(moments))]

    async def _newest(self) -> list[Finding]:
        look = await self._look(SearchRequest("llm_obs", "", "now-1d", "now", SAMPLE, newest_first=True))
        spans = attributes_of(_items(look))
        moments = [moment for one in spans if (moment := began_at("llm_obs", one)) is not None]
        order = order_of(moments)
        is_so = None if order == "one moment" else order == "descending"
        found = [
            judged(
                "llm_obs.newest",
                "-timestamp gives the latest first; now-1d is understood",
                is_so if look.status == 200 else False,
                f"{_told(look)}; {order}, over {len(moments)} spans",
            )
        ]
        if moments:
            age_s = self.now().timestamp() - max(moments)
            found.append(
                judged(
                    "llm_obs.lateness",
                    "a span can be found some 30 s after its end",
                    None,
                    f"the latest span began {age_s:,.0f} s ago; a quiet organisation has no later one",
                    latest_s=round(age_s),
                )
            )
        return found

    async def _limit(self, source: str, limit: int, name: str, status: int) -> list[Finding]:
        look = await self._look(self._day(source, _NOBODY, limit))
        words = f"{limit} spans a page are accepted" if status == 200 else f"{limit} are refused with 400"
        page = mapping(_document(look).get("meta")).get("page")
        seen = _told(look) + (f"; nothing found, meta.page is {type_of(page)}" if look.status == 200 else "")
        is_told = look.status not in (401, 403, 429) and look.status < 500
        return [judged(f"{source}.{name}", words, look.status == status if is_told else None, seen, status=look.status)]

    async def _failures(self, source: str) -> list[Finding]:
        question = self._long_query(source)
        look = await self._look(self._day(source, self.queries.failures[source], 1))
        is_told = look.status not in (401, 403, 429) and look.status < 500
        size = len(self.queries.failures[source].encode())
        return [
            judged(
                question.name,
                question.assumed,
                look.status == 200 if is_told else None,
                f"{size:,} bytes of query: {_told(look)}; {len(_items(look))} found",
                status=look.status,
                query_bytes=size,
            )
        ]

    async def _bad_cursor(self) -> list[Finding]:
        look = await self._look(replace(self._day("llm_obs", "", 1), cursor="bm9uZQ=="))
        is_told = look.status not in (401, 403, 429)
        return [
            judged("llm_obs.bad_cursor", "400", look.status == 400 if is_told else None, _told(look), status=look.status)
        ]

    async def _evaluation(self) -> list[Finding]:
        name, assumed = "llm_obs.evaluation_syntax", "@evaluation.NAME.value finds it"
        if self._evaluator is None:
            return [judged(name, assumed, None, "not asked: no span of the sample has an evaluation")]
        query = f"@evaluation.{self._evaluator}.value:*"
        look = await self._look(replace(self._day("llm_obs", query, 1), newest_first=True))
        spans = attributes_of(_items(look))
        found = [judged(name, assumed, bool(spans) if look.status == 200 else False, f"{_told(look)}; {len(spans)} found")]
        moment = began_at("llm_obs", spans[0]) if spans else None
        if moment is not None:
            age_s = self.now().timestamp() - moment
            words = f"the latest span that this evaluator has judged began {age_s:,.0f} s ago"
            found.append(judged("llm_obs.evaluation_lateness", "minutes after its span", None, words, latest_s=round(age_s)))
        return found

    async def _old_evaluation(self) -> list[Finding]:
        name, assumed = "llm_obs.old_syntax", "@evaluations.custom.NAME finds it too"
        if self._evaluator is None:
            return [judged(name, assumed, None, "not asked: no span of the sample has an evaluation")]
        look = await self._look(self._day("llm_obs", f"@evaluations.custom.{self._evaluator}:*", 1))
        count = len(_items(look))
        return [judged(name, assumed, count > 0 if look.status == 200 else False, f"{_told(look)}; {count} found")]

    async def _join(self) -> list[Finding]:
        name, assumed = "apm.join", "a span has the same id in both"
        if self._span_id is None:
            return [judged(name, assumed, None, "not asked: no LLM span with a decimal id was met")]
        look = await self._look(self._day("apm", f"span_id:{quoted(self._span_id)}", 1))
        count = len(_items(look))
        seen = f"{_told(look)}; {count} found" + ("" if count else " (APM may not have kept it: sampling)")
        return [judged(name, assumed, True if count else None, seen)]

    def _remember(self, spans: Sequence[Mapping[str, Json]]) -> None:
        names = (name for span in spans for name in mapping(span.get("evaluation")))
        self._evaluator = next((name for name in names if is_queryable(name) and _PLAIN_NAME.fullmatch(name)), None)
        ids = [span.get("span_id") for span in spans if span.get("span_kind") == "llm"]
        self._span_id = next(
            (one for one in ids if isinstance(one, str) and shapes.form_of(one) == "decimal, 64 bits"), None
        )


_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


def _told(look: Look) -> str:
    kind = known_word(look.headers.get("content-type", "").partition(";")[0].strip().lower(), _TYPES)
    kind = "another type" if kind == "another" else kind
    size = "over 16 MB" if look.body is None else f"{len(look.body) / 1000:,.1f} kB"
    return f"{look.status} in {look.duration_s:.2f} s, {kind}, {size}"


def _document(look: Look) -> Mapping[str, Json]:
    if look.body is None:
        raise NoFindingError(f"{look.status} with more than 16 MB")
    try:
        return mapping(decode_json(look.body))
    except NonsenseError as error:
        if look.status != 200:
            return {}
        raise NoFindingError(f"{_told(look)}: this is no JSON") from error


def _items(look: Look) -> list[Json]:
    items = list_of(_document(look).get("data"))
    return items[: 10 * SAMPLE]


def _keys_of(document: Mapping[str, Json]) -> str:
    others = sum(key not in _TOP_KEYS for key in document)
    known = [key for key in _TOP_KEYS if key in document]
    return ", ".join(known + ([f"{others} others"] if others else [])) or "none"


def _rate_limit_told(source: str, look: Look) -> Finding:
    there = [name for name in (*_LIMITS, "retry-after") if name in look.headers]
    told = rate_limit(look.headers)
    numbers = {key: value for key, value in told.items() if isinstance(value, int | float) and value < _MOST}
    parts = [f"{key} {value:,.0f}" for key, value in numbers.items()]
    if "name" in told:
        parts.append(f"name {masked_name(str(told['name']))}")
    period, reset = numbers.get("period_s"), numbers.get("reset_s")
    is_so = None if not there else bool(period and reset is not None and reset <= period + 1)
    seen = ", ".join(name.removeprefix("x-ratelimit-") for name in there) or "none of them"
    return judged(
        f"{source}.rate_limit",
        "x-ratelimit-limit, -period, -remaining, -reset (seconds) and -name",
        is_so,
        f"headers {seen}" + (f": {', '.join(parts)}" if parts else ""),
        headers=there,
        **numbers,
    )
