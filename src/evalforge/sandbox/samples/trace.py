"""One sample trace as Datadog would serve it: its LLM Observability spans, and what APM has of the same request."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from evalforge.sandbox.samples.people import Person
from evalforge.sandbox.samples.scenario import App, Scenario, filled
from evalforge.sandbox.spans import Json
from evalforge.sandbox.times import iso_ms

MS = 1_000_000

Attributes = dict[str, Any]


@dataclass(slots=True)
class Trace:
    """A trace under construction. `root`, `agent`, `tool`, `answer` and `entry` are the spans that faults go to.

    `spans` are LLM Observability attributes, `apm` whole APM items, `entry` the attributes of the request's own APM
    span, the one that names the LLM Observability trace. `errors` maps a span id to the error that Datadog can search
    but not export. `signals` are the names of the signal types planted; `pace` is how slow everything ran.
    """

    app: App
    scenario: Scenario
    person: Person
    facts: dict[str, str]
    rng: random.Random
    start_ns: int
    trace_id: str
    apm_trace_id: str
    env: str
    pace: float
    spans: list[Attributes] = field(default_factory=list)
    apm: list[Attributes] = field(default_factory=list)
    errors: dict[str, Json] = field(default_factory=dict)
    signals: set[str] = field(default_factory=set)
    root: Attributes = field(default_factory=dict)
    agent: Attributes = field(default_factory=dict)
    tool: Attributes = field(default_factory=dict)
    answer: Attributes = field(default_factory=dict)
    entry: Attributes = field(default_factory=dict)

    def say(self, template: Json) -> Json:
        """Fill a template with the facts of this trace."""
        return filled(template, self.facts)


def build(app: App, scenario: Scenario, person: Person, facts: dict[str, str], start_ns: int, rng: random.Random) -> Trace:
    """Return a healthy trace of one conversation."""
    seconds = start_ns // 1_000_000_000
    trace = Trace(
        app=app,
        scenario=scenario,
        person=person,
        facts=facts,
        rng=rng,
        start_ns=start_ns,
        trace_id=f"{seconds:08x}00000000{rng.getrandbits(63) | 1 << 62:016x}",
        apm_trace_id=str(rng.getrandbits(63) | 1 << 62),
        env=rng.choices(("production", "staging"), (9, 1))[0],
        pace=rng.uniform(0.3, 2.2) ** 2,
    )
    _llm_obs(trace)
    _apm(trace)
    return trace


def _llm_obs(trace: Trace) -> None:
    app, person, rng = trace.app, trace.person, trace.rng
    ask, good = trace.say(trace.scenario.ask), trace.say(trace.scenario.good)
    arguments, result = trace.say(trace.scenario.arguments), trace.say(trace.scenario.result)
    documents = [
        {"id": f"doc-{rng.randrange(100)}", "name": name, "score": round(rng.uniform(0.4, 0.96), 2), "text": trace.say(text)}
        for name, text in trace.scenario.documents
    ]
    # Decorated functions record their arguments as they were called, personal data and all.
    called_with = {"question": ask, "session": person.session, "user": {"id": person.user_id, "email": person.email}}
    trace.root = _span(trace, "workflow", app.root, None, 0, 5200, _text(called_with), _text(good))
    trace.root["metadata"] = {"channel": rng.choice(("chat", "email", "app")), **_caller(trace)}
    trace.agent = _span(trace, "agent", app.agent, trace.root, 12, 5100, ask, good)
    search = _span(trace, "retrieval", app.retrieval, trace.agent, 40, 180, ask, None)
    search["output"] = {"documents": documents}
    search["metadata"] = {"index": f"{app.ml_app}-v3", "top_k": len(documents)}
    if app.ml_app == "docs-assistant":
        embed = _span(
            trace, "embedding", "embed_query", trace.agent, 22, 16, ask, "[1 embedding(s) returned with size 1536]"
        )
        embed |= {"model_name": "text-embedding-3-small", "model_provider": "openai", "metrics": {"input_tokens": 9}}
    if app.ml_app == "ops-copilot":
        plan = _span(trace, "llm", "plan", trace.agent, 230, 640, ask, None)
        _converse(trace, plan, ask, f"1. {app.retrieval} 2. {trace.scenario.tool} 3. report")
    trace.tool = _span(trace, "tool", trace.scenario.tool, trace.agent, 900, 310, _text(arguments), _text(result))
    trace.tool["metadata"] = {"backend": f"{app.service}-v2"}
    trace.answer = _span(trace, "llm", app.answer, trace.agent, 1260, 3600, ask, good)
    _converse(trace, trace.answer, ask, good, arguments, result)
    if app.ml_app == "support-bot":
        _span(trace, "task", "format_reply", trace.root, 5110, 4, good, good)


def _caller(trace: Trace) -> Json:
    """Return what careless applications put into metadata about who is calling; each trace has some of it."""
    person = trace.person
    variants: list[Json] = [
        {"user": {"email": person.email, "name": person.name, "phone": person.phone}},
        {"user.email": person.email, "user.name": person.name, "client.ip": person.ip},
        {"request": {"headers": {"authorization": f"Bearer {person.token}", "cookie": f"session={person.session}"}}},
        {"context": _text({"user": {"email": person.email, "address": person.address}, "ip": person.ip})},
        {"customer": {"contacts": [{"kind": "phone", "value": person.phone}], "address": {"line": person.address}}},
        {"usr": {"id": person.user_id, "email": person.email}, "session_id": person.session},
    ]
    return trace.rng.choice(variants)


def _converse(trace: Trace, span: Attributes, ask: str, reply: str, arguments: Json = None, result: Json = None) -> None:
    """Make a span an LLM call, with the tool's call and result in its messages if there was one."""
    rng, name = trace.rng, trace.scenario.tool
    messages: list[Json] = [{"role": "system", "content": trace.app.system}, {"role": "user", "content": ask}]
    if arguments is not None:
        call = {"name": name, "arguments": arguments, "tool_id": "call_1", "type": "function"}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        outcome = {"name": name, "result": _text(result), "tool_id": "call_1", "type": "tool_result"}
        messages.append({"role": "tool", "content": "", "tool_results": [outcome]})
        span["tool_definitions"] = [
            {"name": name, "description": f"{name.replace('_', ' ').capitalize()}.", "schema": {"type": "object"}}
        ]
    span["input"] = {"messages": messages, "value": ask}
    span["output"] = {"messages": [{"role": "assistant", "content": reply}], "value": reply}
    span |= {"model_name": trace.app.model, "model_provider": trace.app.provider}
    read, written = rng.randrange(220, 2600), rng.randrange(12, 240)
    span["metrics"] = {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "time_to_first_token": round(rng.uniform(0.2, 1.4), 2),
        "estimated_total_cost": read * 150 + written * 600,
    }
    span["metadata"] = {"temperature": rng.choice((0, 0.2, 0.7)), "max_tokens": 1024, "finish_reason": "stop"}
    span["metadata"] |= rng.choice(({}, {"user": trace.person.user_id}, {"user_id": trace.person.user_id}))


def _span(
    trace: Trace, kind: str, name: str, parent: Attributes | None, at_ms: int, for_ms: int, asked: str, got: str | None
) -> Attributes:
    rng = trace.rng
    span: Attributes = {
        "span_id": str(rng.getrandbits(63) | 1 << 62),
        "trace_id": trace.trace_id,
        "parent_id": parent["span_id"] if parent else "undefined",
        "name": name,
        "status": "ok",
        "start_ns": trace.start_ns + int(at_ms * MS * trace.pace) + rng.randrange(MS),
        "duration": float(int(for_ms * MS * trace.pace) + rng.randrange(MS)),
        "ml_app": trace.app.ml_app,
        "span_kind": kind,
        "tags": _tags(trace, parent is None or kind == "llm"),
        "metadata": {},
        "metrics": {},
        "input": {"value": asked},
        "output": {"value": got} if got is not None else {},
    }
    trace.spans.append(span)
    return span


def _tags(trace: Trace, with_user: bool) -> list[str]:
    app, person = trace.app, trace.person
    tags = [
        "ddtrace.version:4.16.0",
        f"env:{trace.env}",
        "error:0",
        f"feature:{trace.scenario.topic}",
        "language:python",
        f"ml_app:{app.ml_app}",
        f"service:{app.service}",
        f"session_id:{person.session}",
        "source:integration",
        f"team:{app.team}",
        "version:",
    ]
    if with_user:
        tags += trace.rng.choice(
            (
                [f"user_id:{person.user_id}", f"user_handle:{person.email}"],
                [f"usr.id:{person.user_id}", f"usr.name:{person.name}"],
                [f"user.id:{person.user_id}", f"user.email:{person.email}", f"user_handle:{person.handle}"],
                [f"usr_id:{person.user_id}", f"pii:phone:{person.phone}"],
                [f"user.id:{person.user_id}", f"client.ip:{person.ip}"],
            )
        )
    return tags


def _apm(trace: Trace) -> None:
    person, app = trace.person, trace.app
    path = app.route.split()[1]
    custom: Attributes = {
        "component": "fastapi",
        "llmobs_trace_id": trace.trace_id,
        "llmobs_parent_id": trace.root["span_id"],
        "http": {
            "method": "POST",
            "route": path,
            "status_code": "200",
            "url": f"https://{app.service}.example{path}?session={person.session}",
            "useragent": "Mozilla/5.0 (X11; Linux x86_64) support-widget/1.2",
            "client_ip": person.ip,
        },
        "usr": {"id": person.user_id, "email": person.email, "name": person.name},
        "network": {"client": {"ip": person.ip}},
        "span": {"kind": "server"},
    }
    client = _apm_span(trace, "http.request", "http", None, -6, 5260, {"component": "httpx", "span": {"kind": "client"}})
    trace.entry = _apm_span(trace, app.route, "web", client["span_id"], -2, 5240, custom)
    for twin in (trace.root, trace.answer):
        operation = {"operation": {"name": twin["span_kind"]}, "application": {"name": app.ml_app}}
        gen_ai = {"gen_ai": {**operation, "conversation": {"id": person.session}}}
        item = _apm_span(trace, twin["span_kind"], "llm", trace.entry["span_id"], 0, 5200, gen_ai)
        item["span_id"] = twin["span_id"]
        item["start_timestamp"] = iso_ms(twin["start_ns"])
        item["end_timestamp"] = iso_ms(twin["start_ns"] + int(twin["duration"]))
        item["custom"]["duration"] = int(twin["duration"])


def _apm_span(
    trace: Trace, resource: str, kind: str, parent_id: str | None, at_ms: int, for_ms: int, custom: Attributes
) -> Attributes:
    start_ns, duration = trace.start_ns + at_ms * MS, int(for_ms * MS * trace.pace)
    attributes: Attributes = {
        "custom": {"duration": duration, "env": trace.env, **custom},
        "start_timestamp": iso_ms(start_ns),
        "end_timestamp": iso_ms(start_ns + duration),
        "env": trace.env,
        "host": f"host-{trace.rng.randrange(1, 9)}",
        "ingestion_reason": "auto",
        "parent_id": parent_id or "0",
        "resource_hash": f"{trace.rng.getrandbits(64):016x}",
        "resource_name": resource,
        "retained_by": "diversity_sampling",
        "service": trace.app.service,
        "single_span": False,
        "span_id": str(trace.rng.getrandbits(63) | 1 << 62),
        "tags": [f"env:{trace.env}", f"service:{trace.app.service}", "source:apm", "compute"],
        "trace_id": trace.apm_trace_id,
        "type": kind,
    }
    trace.apm.append({"id": f"AY{trace.rng.getrandbits(64):016x}", "type": "spans", "attributes": attributes})
    return attributes


def _text(value: Json) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
