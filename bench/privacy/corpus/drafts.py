"""A span in the making: starts as an ordinary failing one of about 4 KB, takes plants, and ends as a case."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

from bench.privacy.case import DEFAULT, Case, Kept, Planted, Text
from bench.privacy.case import Path as Place

SPAN_BYTES = 4_000
START_MS = 1_795_400_000_000
_FOLDER = Path(__file__).parent / "texts"

_APPS = ("support-bot", "docs-assistant", "ops-copilot", "shopping-guide", "travel-planner", "claims-triage", "code-review")
_MODELS = (
    ("gpt-4o-mini", "openai"),
    ("claude-sonnet-4-5-20250929", "anthropic"),
    ("gemini-2.5-flash", "google"),
    ("mistral-large-latest", "mistral"),
    ("llama-3.1-70b-instruct", "meta"),
)
_SPAN_NAMES = (
    "generate_answer",
    "handle_ticket",
    "retrieve_context",
    "plan_steps",
    "call_tool",
    "summarize",
    "chat.completion",
)
_KINDS = ("llm", "agent", "workflow", "task", "tool", "retrieval")


@cache
def texts(name: str) -> tuple[str, ...]:
    """The lines of one of the files of clean texts: "reasoning", "errors" or "chats"."""
    return tuple((_FOLDER / f"{name}.txt").read_text("utf-8").splitlines())


def clean_message(rng: random.Random, least: int = 60) -> str:
    """Harmless conversation of at least that many characters."""
    found = rng.choice(texts("chats"))
    while len(found) < least:
        found += " " + rng.choice(texts("chats"))
    return found


class Draft:
    """An LLM Observability span, or an APM span with `source="apm"`, that grows by its methods; `case` ends it."""

    def __init__(self, rng: random.Random, group: str, *, source: str = "llm_obs", profile: str = DEFAULT) -> None:
        self.rng, self.group, self.source, self.profile = rng, group, source, profile
        self.planted: list[Planted] = []
        self.kept: list[Kept] = []
        self.texts: list[Text] = []
        self.user_id: str | None = None
        start_ms = START_MS + rng.randrange(86_400_000)
        self.span_id = str(rng.getrandbits(63) + 2**60)
        self.trace_id = f"{start_ms // 1000:08x}00000000{rng.getrandbits(64):016x}"
        self.parent_id = str(rng.getrandbits(63) + 2**60)
        self.start_ns = start_ms * 1_000_000 + rng.randrange(1_000_000)
        self.duration = rng.randrange(10**7, 10**10)
        self.app = rng.choice(_APPS)
        self.model, self.provider = rng.choice(_MODELS)
        self.name = rng.choice(_SPAN_NAMES)
        self.tags = [f"ml_app:{self.app}", "env:prod", f"service:{self.app}-api", "language:python", "source:integration"]
        self.metadata: dict[str, Any] = {"temperature": 0.2, "max_tokens": 512}
        self.metrics: dict[str, Any] = {"input_tokens": rng.randrange(50, 4000), "output_tokens": rng.randrange(5, 900)}
        self.input: dict[str, Any] = {"messages": []}
        self.output: dict[str, Any] = {"messages": []}
        self.evaluation: dict[str, Any] = {
            "faithfulness": {
                "eval_metric_type": "score",
                "value": round(rng.random() / 2, 3),
                "assessment": "fail",
                "status": "OK",
            }
        }
        self.error: dict[str, Any] = {}
        self.custom: dict[str, Any] = {
            "component": "fastapi",
            "language": "python",
            "duration": self.duration,
            "span": {"kind": "server"},
            "http": {"method": "POST", "status_code": "500", "route": "/chat"},
        }
        self.extra: dict[str, Any] = {}

    # -- plants

    def plant(self, kind: str, value: str, carrier: str, *, form: str = "plain", surface: str | None = None) -> str:
        """Notes that the value stands at the carrier, and gives its spelling to put there."""
        planted = Planted(kind, value, carrier, form, surface)
        self.planted.append(planted)
        return planted.spelled

    def reasoning(self, text: str, harmless: str | None = None, *, kind: str = "reasoning") -> None:
        """Sets an evaluator's reasoning; `harmless` is what of it should stay readable, by default all of it."""
        name = self.rng.choice(("answer_judge", "quality-check", "goal_completeness", "answer_quality"))
        while name in self.evaluation:
            name += "_again"
        self.evaluation[name] = {
            "eval_metric_type": "categorical",
            "value": "fail",
            "assessment": "fail",
            "status": "OK",
            "reasoning": text,
        }
        self.texts.append(Text(kind, ("evaluation", name, "reasoning"), text if harmless is None else harmless))

    def error_message(self, text: str, harmless: str | None = None, *, kind: str = "error message") -> None:
        """Sets the error's message, where this source has it."""
        self.error = {"type": "ValueError", "message": text}
        self.texts.append(Text(kind, ("error", "message"), text if harmless is None else harmless))

    def message(
        self, role: str, text: str, harmless: str | None = None, *, side: str = "input", kind: str = "message"
    ) -> None:
        """Adds a message to the input or the output."""
        messages = (self.input if side == "input" else self.output)["messages"]
        messages.append({"role": role, "content": text})
        place: Place = (side, "messages", len(messages) - 1, "content")
        if self.profile != DEFAULT and self.source == "llm_obs":
            self.texts.append(Text(kind, place, text if harmless is None else harmless))

    def keep(self, what: str, path: Place, value: Any) -> None:
        """Notes that this value must survive at that place of the payload."""
        self.kept.append(Kept(what, path, value))

    # -- the end

    def case(self) -> Case:
        """The finished case, filled up to about 4 KB with harmless conversation."""
        while len(repr(self.input)) + len(repr(self.output)) < SPAN_BYTES - 900:
            turn = len(self.input["messages"]) % 2
            kind = "harmless chat" if self.group == "clean" else "filler"
            self.message(("user", "assistant")[turn], clean_message(self.rng, 250), kind=kind)
        attributes = self._llm_obs() if self.source == "llm_obs" else self._apm()
        item = {"id": self.span_id, "type": "span" if self.source == "llm_obs" else "spans", "attributes": attributes}
        own = {self.span_id, self.trace_id, self.parent_id, str(self.start_ns), str(self.duration), attributes["trace_id"]}
        return Case(
            self.group,
            self.source,
            self.profile,
            item,
            tuple(self.planted),
            tuple(self.kept),
            tuple(self.texts),
            self.user_id,
            frozenset(own),
        )

    def _llm_obs(self) -> dict[str, Any]:
        attributes = {
            "span_id": self.span_id,
            "trace_id": self.trace_id,
            "parent_id": self.parent_id,
            "name": self.name,
            "ml_app": self.app,
            "span_kind": self.rng.choice(_KINDS),
            "status": "error" if self.error else "ok",
            "start_ns": self.start_ns,
            "duration": float(self.duration),
            "model_name": self.model,
            "model_provider": self.provider,
            "tags": self.tags,
            "metadata": self.metadata,
            "metrics": self.metrics,
            "input": self.input,
            "output": self.output,
            "evaluation": self.evaluation,
        }
        if self.error:
            attributes["error"] = self.error
        return attributes | self.extra

    def _apm(self) -> dict[str, Any]:
        started = self.start_ns // 1_000_000
        custom = self.custom | {"llmobs_trace_id": self.trace_id}
        if self.error:
            custom["error"] = self.error
        return {
            "span_id": self.span_id,
            "trace_id": str(int(self.trace_id[16:], 16)),
            "parent_id": self.parent_id,
            "resource_name": "POST /chat",
            "type": "web",
            "service": f"{self.app}-api",
            "env": "prod",
            "host": "ip-10-0-4-8.internal",
            "status": "error",
            "start_timestamp": _iso(started),
            "end_timestamp": _iso(started + self.duration // 1_000_000),
            "ingestion_reason": "auto",
            "retained_by": "diversity_sampling",
            "resource_hash": f"{self.rng.getrandbits(64):016x}",
            "single_span": False,
            "tags": self.tags,
            "custom": custom,
        } | self.extra


def _iso(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
