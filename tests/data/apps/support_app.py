"""A small support desk, instrumented as its authors would: real `ddtrace.llmobs`, nothing that knows of EvalForge.

It answers one ticket for each scenario, evaluates the answers, and prints the LLM Observability trace id of each scenario's
ticket as one line of JSON. Everything personal in it is invented.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ddtrace import tracer
from ddtrace.llmobs import LLMObs
from ddtrace.llmobs.decorators import agent, llm, tool, workflow

CUSTOMER = {"id": "u-8841", "name": "Maria Lopez", "email": "maria.lopez@example.com", "phone": "+1 415-555-0132"}
CARD = "4111 1111 1111 1111"
QUESTION = f"Where is my refund? I'm {CUSTOMER['name']}, {CUSTOMER['email']}, {CUSTOMER['phone']}"


@tool
def lookup_order(order_id: str, email: str) -> dict[str, str]:
    LLMObs.annotate(metadata={"backend": "orders-v2"})
    return {"status": "shipped", "address": "12 Elm St, Springfield"}


@tool
def charge_card(card: str) -> None:
    raise ValueError(f"payment declined for card {card} (user {CUSTOMER['email']})")


@llm(model_name="gpt-4o-mini", model_provider="openai")
def generate_answer(question: str, answers: dict[str, Any]) -> str:
    answer = "Your refund was approved and $900 was sent to you."
    LLMObs.annotate(
        input_data=[{"role": "system", "content": "You are a support agent."}, {"role": "user", "content": question}],
        output_data=[{"role": "assistant", "content": answer}],
        metadata={"temperature": 0.2, "max_tokens": 512, "user_id": CUSTOMER["id"]},
        metrics={"input_tokens": 312, "output_tokens": 27, "total_tokens": 339},
        tags={"feature": "refunds", "usr.id": CUSTOMER["id"]},
    )
    answers["llm"] = LLMObs.export_span()
    return answer


@agent
def support_agent(question: str, scenario: str, answers: dict[str, Any]) -> str:
    lookup_order("A-1009", CUSTOMER["email"])
    if scenario == "exception":
        charge_card(CARD)
    prompt = {"id": "refund", "version": "3", "template": "Answer {{question}}", "variables": {"question": question}}
    with LLMObs.annotation_context(prompt=prompt):
        return generate_answer(question, answers)


@workflow
def handle_ticket(scenario: str, answers: dict[str, Any]) -> str:
    answers["workflow"] = LLMObs.export_span()
    LLMObs.annotate(
        input_data={"question": QUESTION, "user": {"id": CUSTOMER["id"], "email": CUSTOMER["email"]}},
        metadata={"channel": "chat", **({"guardrails": {"failed": True}} if scenario == "guardrail" else {})},
        tags={"ticket": f"T-{scenario}", "user.id": CUSTOMER["id"], "session_id": f"s-{scenario}"},
    )
    answer = support_agent(QUESTION, scenario, answers)
    LLMObs.annotate(output_data=answer)
    return answer


def serve(scenario: str) -> dict[str, Any]:
    """Answer one ticket as a web server does: the web request is APM's, the workflow below it LLM Observability's."""
    answers: dict[str, Any] = {}
    with tracer.trace("web.request", service="support-api", resource="POST /tickets", span_type="web") as request:
        request.set_tag("http.status_code", "500" if scenario == "exception" else "200")
        request.set_tag("usr.email", CUSTOMER["email"])
        try:
            handle_ticket(scenario, answers)
        except ValueError:
            request.set_exc_info(*sys.exc_info())
    evaluate(scenario, answers)
    return answers


def evaluate(scenario: str, answers: dict[str, Any]) -> None:
    """Submit what a judge would find: one failing metric of each type, each in a scenario of its own."""
    quote = f"it tells {CUSTOMER['name']} of a refund that nobody approved"
    metrics: dict[str, dict[str, Any]] = {
        "categorical": {"label": "hallucination", "value": "hallucination found", "span": answers.get("llm")},
        "score": {"label": "quality_score", "value": 0.31, "span": answers["workflow"]},
        "boolean": {"label": "is_helpful", "value": False, "span": answers["workflow"]},
        "json": {"label": "rubric", "value": {"facts": 0, "tone": 3}, "span": answers["workflow"], "eval_scope": "trace"},
        "tagged": {"label": "csat", "value": 2, "span_with_tag_value": {"tag_key": "ticket", "tag_value": "T-tagged"}},
        "healthy": {"label": "quality_score", "value": 0.93, "span": answers["workflow"], "assessment": "pass"},
    }
    if (metric := metrics.get(scenario)) is not None:
        kind = {"tagged": "score", "healthy": "score"}.get(scenario, scenario)
        LLMObs.submit_evaluation(**{"metric_type": kind, "assessment": "fail", "reasoning": quote, **metric})
    if scenario == "healthy":
        LLMObs.submit_feedback(
            label="thumbs",
            metric_type="categorical",
            value="down",
            assessment="fail",
            session_id="s-healthy",
            submitter={"id": CUSTOMER["id"], "type": "end_user"},
        )


def main() -> None:
    LLMObs.enable()
    scenarios = ("healthy", "exception", "categorical", "score", "boolean", "json", "tagged", "guardrail")
    seen = {scenario: serve(scenario)["workflow"]["trace_id"] for scenario in scenarios}
    LLMObs.flush()
    tracer.flush()
    print(json.dumps(seen))  # noqa: T201


if __name__ == "__main__":
    main()
