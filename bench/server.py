"""A lean Datadog for benchmarks: makes spans by offset from a seed, so that a million of them need no memory.

    python -m bench.server --spans 100000 --failing 0.05 --span-bytes 4000

prints its URL, and serves the LLM-Observability search: ascending pages, a cursor that is an offset, and a query or none
(any query at all means "only the failing ones": matching is not what is measured).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn

WORDS = (
    "the order was shipped late and our agent told a customer that refunds take some days after approval by support".split()
)
HOURS_24_MS = 86_400_000


@dataclass(frozen=True)
class Workload:
    """What is in the window: how many spans, which share fails, and how big one is."""

    spans: int
    failing: float
    span_bytes: int
    seed: int
    end_ms: int

    @property
    def every(self) -> int:
        """One span in so many fails."""
        return max(1, round(1 / self.failing))

    def span(self, number: int) -> dict[str, Any]:
        """The span at an offset, the same at each call."""
        rng = random.Random(self.seed * 1_000_003 + number)
        start_ms = self.end_ms - HOURS_24_MS + number * HOURS_24_MS // self.spans
        text = " ".join(rng.choices(WORDS, k=self.span_bytes // 6))
        failing = number % self.every == 0
        kind = rng.randrange(3) if failing else None
        evaluation = {
            "hallucination": {"eval_metric_type": "categorical", "value": "no hallucination", "assessment": "pass"}
        }
        if kind == 1:
            evaluation = {
                "hallucination": {"eval_metric_type": "categorical", "value": "hallucination found", "assessment": "fail"}
            }
        return {
            "id": str(10**15 + number),
            "type": "span",
            "attributes": {
                "span_id": str(10**15 + number),
                "trace_id": f"{start_ms // 1000:08x}{self.seed:08x}{number:016x}",
                "parent_id": "undefined",
                "name": "generate_answer",
                "ml_app": "support-bot",
                "span_kind": "llm",
                "status": "error" if kind == 0 else "ok",
                "start_ns": start_ms * 1_000_000,
                "duration": rng.randrange(10**8, 10**10),
                "model_name": "gpt-4o-mini",
                "model_provider": "openai",
                "tags": [
                    "env:prod",
                    "service:support-api",
                    "ml_app:support-bot",
                    f"session_id:s-{number}",
                    f"user_id:u-{number % 997}",
                ],
                "metadata": {"temperature": 0.2, "max_tokens": 512, "quality_score": 0.2 if kind == 2 else 0.9},
                "metrics": {"input_tokens": rng.randrange(4000), "output_tokens": rng.randrange(800)},
                "input": {"messages": [{"role": "user", "content": text}]},
                "output": {"messages": [{"role": "assistant", "content": text[: len(text) // 4]}]},
                "evaluation": evaluation,
            },
        }


class App:
    """The ASGI application. `busy_s` is the CPU time spent on making pages, to be taken from nobody's figures."""

    def __init__(self, workload: Workload, latency_s: float) -> None:
        self.workload = workload
        self.latency_s = latency_s
        self.requests = 0
        self.busy_s = 0.0
        self.cache: dict[tuple[int, int, bool], bytes] = {}

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/bench/stats":
            answer = orjson.dumps({"requests": self.requests, "busy_s": self.busy_s})
        else:
            self.requests += 1
            began = time.process_time()
            answer = self.page(orjson.loads(body)["data"]["attributes"])
            self.busy_s += time.process_time() - began
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": answer})

    def page(self, asked: dict[str, Any]) -> bytes:
        """One page; the same page twice is made once, so that a warmed server costs next to nothing."""
        load = self.workload
        only_failing = "query" in asked["filter"]
        step = load.every if only_failing else 1
        limit = asked["page"].get("limit", 10)
        from_ms, to_ms = int(asked["filter"]["from"]), int(asked["filter"]["to"])
        window_from = load.end_ms - HOURS_24_MS
        first = max(0, -((window_from - from_ms) * load.spans // HOURS_24_MS)) if from_ms > window_from else 0
        last = min(load.spans, (to_ms - window_from) * load.spans // HOURS_24_MS)
        begin = int(asked["page"].get("cursor") or first)
        begin += -begin % step
        key = (begin, min(begin + limit * step, last), only_failing)
        if key not in self.cache:
            self.cache[key] = b",".join(orjson.dumps(load.span(number)) for number in range(begin, key[1], step))
        end = begin + limit * step
        page = orjson.dumps({"after": str(end)} if end < last else None)
        return b'{"data":[' + self.cache[key] + b'],"meta":{"status":"done","page":' + page + b"}}"


def main() -> None:
    """Serves until interrupted; prints the URL first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--failing", type=float, default=0.05)
    parser.add_argument("--span-bytes", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    workload = Workload(given.spans, given.failing, given.span_bytes, given.seed, int(time.time() * 1000) - 60_000)
    print(f"http://127.0.0.1:{given.port}", flush=True)
    app = App(workload, given.latency_ms / 1000)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
