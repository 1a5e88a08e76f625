"""How a sample trace fails, and what only looks like a failure. Two tables; every row is planted at least once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evalforge.sandbox.samples.trace import Attributes, Trace
from evalforge.sandbox.spans import Json

Place = Literal["evaluation", "metadata", "metadata.dotted", "metrics", "tags", "custom"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A value under a name in one place, which makes `signal`. For an evaluation, `assessment` may be its verdict."""

    signal: str
    place: Place
    name: str
    value: Json
    assessment: Literal["pass", "fail"] | None = None


FAULTS: tuple[Fault, ...] = (
    Fault("guardrail_failure", "metadata", "llm_obs.guardrails.failed", True),
    Fault("guardrail_failure", "metadata.dotted", "llm_obs.guardrails.failed", "true"),
    Fault("guardrail_failure", "metadata", "guardrails.failed", True),
    Fault("guardrail_failure", "tags", "llm_obs.guardrails.failed", "true"),
    Fault("guardrail_failure", "tags", "guardrails.failed", "True"),
    Fault("guardrail_failure", "custom", "llm_obs.guardrails.failed", "true"),
    Fault("prompt_injection", "evaluation", "prompt_injection", "found"),
    Fault("prompt_injection", "evaluation", "prompt_injection", True),
    Fault("prompt_injection", "evaluation", "prompt_injection", "Jailbreak Attack", "fail"),
    Fault("prompt_injection", "metadata", "prompt_injection", True),
    Fault("prompt_injection", "metadata.dotted", "llm_obs.prompt_injection", "true"),
    Fault("prompt_injection", "metadata", "llm_obs.evaluations.prompt_injection", "found"),
    Fault("prompt_injection", "tags", "llm_obs.evaluations.prompt_injection", "found"),
    Fault("prompt_injection", "custom", "llm_obs.prompt_injection", "true"),
    Fault("toxicity", "evaluation", "toxicity", 0.86),
    Fault("toxicity", "evaluation", "output_toxicity", "toxic"),
    Fault("toxicity", "evaluation", "input_toxicity", "toxic", "fail"),
    Fault("toxicity", "metrics", "toxicity_score", 0.91),
    Fault("toxicity", "metrics", "toxicity_score", 0.7),  # exactly the threshold: at or above it counts
    Fault("toxicity", "metadata", "toxicity_score", "0.88"),
    Fault("toxicity", "metadata.dotted", "llm_obs.toxicity_score", 0.79),
    Fault("toxicity", "metadata", "llm_obs.evaluations.toxicity_score", 0.95),
    Fault("toxicity", "tags", "toxicity_score", 0.93),
    Fault("toxicity", "custom", "llm_obs.toxicity_score", 0.82),
    Fault("hallucination", "evaluation", "hallucination", "hallucination found", "fail"),
    Fault("hallucination", "evaluation", "hallucination", "hallucination found"),
    Fault("hallucination", "evaluation", "hallucination", "Contradiction", "fail"),
    Fault("hallucination", "evaluation", "hallucination", True),
    Fault("hallucination", "metadata", "hallucination", True),
    Fault("hallucination", "metadata", "llm_obs.evaluations.hallucination", "hallucination found"),
    Fault("hallucination", "metadata.dotted", "llm_obs.hallucination", "true"),
    Fault("hallucination", "tags", "hallucination", "true"),
    Fault("hallucination", "custom", "llm_obs.evaluations.hallucination", "hallucination found"),
    Fault("http_error", "metadata", "http.status_code", 503),
    Fault("http_error", "metadata.dotted", "http.status_code", "429"),
    Fault("http_error", "metrics", "http.status_code", 500),
    Fault("http_error", "tags", "http.status_code", 502),
    Fault("http_error", "custom", "http.status_code", "429"),
    Fault("http_error", "custom", "http.status_code", "400"),  # exactly the threshold
    Fault("quality_degradation", "evaluation", "quality_score", 0.31, "fail"),
    Fault("quality_degradation", "evaluation", "quality_score", 0.42),
    Fault("quality_degradation", "evaluation", "quality_score", 0.45, "pass"),  # a pass never overrules the threshold
    Fault("quality_degradation", "metrics", "quality_score", 0.12),
    Fault("quality_degradation", "metrics", "llm_obs.quality_score", 0.44),
    Fault("quality_degradation", "metadata", "quality_score", "0.18"),
    Fault("quality_degradation", "metadata.dotted", "llm_obs.quality_score", 0.41),
    Fault("quality_degradation", "metadata", "llm_obs.evaluations.quality_score", 0.37),
    Fault("quality_degradation", "tags", "quality_score", 0.29),
    Fault("quality_degradation", "custom", "llm_obs.quality_score", 0.35),
    Fault("quality_degradation", "custom", "llm_obs.evaluations.quality_score", "0.2"),
    Fault("evaluation_failure", "evaluation", "failure_to_answer", "failed to answer"),
    Fault("evaluation_failure", "evaluation", "language_mismatch", "mismatched"),
    Fault("evaluation_failure", "evaluation", "topic_relevancy", "irrelevant"),
    Fault("evaluation_failure", "evaluation", "tool_selection", "wrong tool", "fail"),
    Fault("evaluation_failure", "evaluation", "goal_completeness", 0.2, "fail"),
    Fault("evaluation_failure", "evaluation", "helpfulness-check", 2, "fail"),
    Fault("evaluation_failure", "evaluation", "policy_compliance", "violates refund policy", "fail"),
    Fault("evaluation_failure", "evaluation", "policy_compliance", False, "fail"),
    Fault("evaluation_failure", "evaluation", "brand_voice", {"tone": 1, "facts": 3}, "fail"),
)
"""Values that make a failure. `execution_error` is not a value in a place: see `break_down`."""

HARMLESS: tuple[Fault, ...] = (
    Fault("", "evaluation", "output_toxicity", "not toxic", "pass"),
    Fault("", "evaluation", "toxicity", "not toxic"),
    Fault("", "evaluation", "hallucination", "no hallucination", "pass"),
    Fault("", "evaluation", "hallucination", False),
    Fault("", "evaluation", "prompt_injection", "not found"),
    Fault("", "evaluation", "failure_to_answer", "answered", "pass"),
    Fault("", "evaluation", "topic_relevancy", "irrelevant", "pass"),  # a pass overrules a label
    Fault("", "evaluation", "quality_score", 0.5),  # exactly the threshold: only below it counts
    Fault("", "evaluation", "quality_score", 0.93, "pass"),
    Fault("", "evaluation", "policy_compliance", True, "pass"),
    Fault("", "evaluation", "csat", 2),  # a score without a verdict: nobody can tell which way is bad
    Fault("", "evaluation", "rubric", {"tone": 1, "facts": 3}),
    Fault("", "metadata", "quality_score", "0.50"),
    Fault("", "metadata", "quality_score", "n/a"),
    Fault("", "metadata", "llm_obs.guardrails.failed", False),
    Fault("", "metadata.dotted", "llm_obs.guardrails.failed", "false"),
    Fault("", "metadata", "http.status_code", 399),
    Fault("", "metadata", "llm_obs.evaluations.hallucination", "no hallucination"),
    Fault("", "metrics", "toxicity_score", 0.69),
    Fault("", "tags", "prompt_injection", "false"),
    Fault("", "tags", "http.status_code", "304"),
    Fault("", "custom", "llm_obs.toxicity_score", "0.05"),
    Fault("", "custom", "llm_obs.guardrails.failed", "false"),
    Fault("", "custom", "http.status_code", "399"),
)
"""Values that look like failures and are none."""


def plant(trace: Trace, fault: Fault) -> None:
    """Put a fault's value where it belongs, and note its signal."""
    if fault.signal:
        trace.signals.add(fault.signal)
        if fault.signal != "http_error":
            worsen(trace)
    span = trace.answer
    match fault.place:
        case "evaluation":
            reasoning = trace.scenario.verdict if fault.signal else "The answer is supported by the excerpts."
            on = trace.root if fault.name in ("goal_completeness", "csat") else span
            on.setdefault("evaluation", {})[fault.name] = verdict(fault, trace.say(reasoning))
        case "metadata":
            _nest(span["metadata"], fault.name, fault.value)
        case "metadata.dotted":
            span["metadata"][fault.name] = fault.value
        case "metrics":
            span["metrics"][fault.name] = fault.value
        case "tags":
            span["tags"].append(f"{fault.name}:{fault.value}")
        case "custom":
            _nest(trace.entry["custom"], fault.name, fault.value)


def verdict(fault: Fault, reasoning: str) -> Json:
    """Return an evaluation as the export shows it."""
    kinds = {bool: "boolean", str: "categorical", int: "score", float: "score"}
    written: dict[str, Json] = {
        "eval_metric_type": kinds.get(type(fault.value), "json"),
        "value": fault.value,
        "status": "OK",
        "reasoning": reasoning,
        "tags": ["judge:rubric-v2"],
    }
    return written | ({"assessment": fault.assessment} if fault.assessment else {})


def worsen(trace: Trace) -> None:
    """Let the application give the scenario's bad answer, everywhere where the answer is recorded."""
    bad = trace.say(trace.scenario.bad)
    trace.answer["output"] = {"messages": [{"role": "assistant", "content": bad}], "value": bad}
    for span in (trace.root, trace.agent):
        span["output"] = {"value": bad}


def fail_evaluator(trace: Trace) -> None:
    """Let an evaluator fail itself: what it left behind reads like a failure, and is no verdict."""
    broken = Fault("", "evaluation", "hallucination", "hallucination found", "fail")
    error = {
        "type": "ProviderError",
        "message": f"judge refused: {trace.person.email} in prompt",
        "recommended_resolution": "Try again later.",
    }
    left = verdict(broken, trace.say("No answer from the judge for {name}."))
    trace.answer.setdefault("evaluation", {})["hallucination"] = {**left, "status": "ERROR", "error": error}


def break_tool(trace: Trace) -> None:
    """Fail the tool; the agent copes, and everything above stays ok."""
    _raise(trace, trace.tool)
    trace.signals.add("execution_error")


def break_llm(trace: Trace) -> None:
    """Fail the model's call, which leaves an empty message behind; the application apologises with 200."""
    _raise(trace, trace.answer)
    trace.answer["output"] = {"messages": [{"content": "", "role": ""}]}
    for unknown in ("input_tokens", "output_tokens", "total_tokens", "estimated_total_cost"):
        trace.answer["metrics"].pop(unknown, None)
    trace.signals.add("execution_error")


def break_down(trace: Trace) -> None:
    """Let the tool's exception rise through agent and workflow to the web server, which answers 500."""
    for span in (trace.tool, trace.agent, trace.root):
        _raise(trace, span)
    error = trace.errors[trace.tool["span_id"]]
    trace.entry["status"] = "error"
    trace.entry["custom"]["error"] = dict(error)
    trace.entry["custom"]["http"]["status_code"] = "500"
    trace.signals |= {"execution_error", "http_error"}


BREAKDOWNS: tuple[Callable[[Trace], None], ...] = (break_tool, break_llm, break_down)


def _raise(trace: Trace, span: Attributes) -> None:
    kind, _, message = trace.say(trace.scenario.error).partition(": ")
    span["status"] = "error"
    span["output"] = {}
    span["tags"] = ["error:1" if tag == "error:0" else tag for tag in span["tags"]] + [f"error_type:{kind}"]
    stack = f'Traceback (most recent call last):\n  File "/app/{trace.app.service}/run.py", line 88\n{kind}: {message}'
    error = trace.errors[span["span_id"]] = {"type": kind, "message": message, "stack": stack}
    for twin in trace.apm:  # APM has the model's calls and the whole request; it exports what failed
        if twin["attributes"]["span_id"] == span["span_id"]:
            twin["attributes"]["status"] = "error"
            twin["attributes"]["custom"]["error"] = dict(error)


def _nest(target: Attributes, path: str, value: Json) -> None:
    *parents, leaf = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[leaf] = value
