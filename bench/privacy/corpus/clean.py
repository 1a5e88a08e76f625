"""Group "clean": nothing personal at all. What a payload keeps, ordinary telemetry, and harmless texts must survive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from bench.privacy.case import ALLOWED, DEFAULT, Case
from bench.privacy.corpus.drafts import Draft, texts

GROUP = "clean"

KEPT_TAGS = {
    "env": ("prod", "staging", "dev", "qa", "production", "preprod"),
    "service": ("support-api", "checkout", "llm-gateway", "rag-worker", "orders-service"),
    "version": ("1.4.2", "2026.11.0", "v3.0.0-rc1", "0.9.17", "4f2a91c"),
    "ddtrace.version": ("4.16.0", "3.12.1", "2.9.3"),
    "language": ("python", "javascript", "java", "go", "ruby"),
    "source": ("integration", "otel", "sdk"),
    "integration": ("openai", "langchain", "anthropic", "bedrock", "litellm"),
    "error": ("0", "1"),
    "error.type": ("openai.RateLimitError", "ValueError", "httpx.ReadTimeout", "botocore.exceptions.ClientError"),
    "http.status_code": ("500", "429", "502", "404"),
    "region": ("us-east-1", "eu-west-3", "europe-west4", "ap-southeast-2", "westeurope"),
    "availability-zone": ("us-east-1a", "eu-west-1b", "europe-west4-c"),
    "git.commit.sha": ("9d3f2c1ab04e5f6a7b8c9d0e1f2a3b4c5d6e7f80", "4be1c1a9d2f3e4a5b6c7d8e9f0a1b2c3d4e5f607"),
    "kube_namespace": ("checkout", "ml-serving", "default", "rag-prod"),
    "team": ("payments", "search", "ml-platform", "trust-and-safety"),
    "release": ("2026.47", "1.8.0", "canary"),
}
KEPT_METADATA: dict[str, tuple[Any, ...]] = {
    "temperature": (0.0, 0.2, 1, 0.7),
    "top_p": (0.9, 1.0, 0.95),
    "max_tokens": (256, 512, 4096, 128000),
    "finish_reason": ("stop", "length", "tool_calls", "content_filter", "end_turn"),
    "tokenizer": ("cl100k_base", "o200k_base"),
    "tool_choice": ("auto", "none", "required"),
    "prompt_version": ("3", "v12", "2026-10-01"),
    "request_id": ("req_011CQaZ3kXyW8fN2hT5mB7cD", "3f2b8c1e-9a4d-4c6e-8f10-2b7d5e9a1c34", "chatcmpl-9xYzA1b2C3d4E5f6G7h8"),
    "created_at": ("2026-11-23T06:26:00Z", "2026-11-22T23:59:59.123Z", "2026-11-23T06:26:00+00:00"),
    "retry_attempt": (0, 1, 3),
    "cache_hit": (True, False),
    "queue_wait_ms": (3, 120, 48_000, 1_234_567),
    "elapsed_ns": (1_200_000_000, 98_000_000),
    "chunk_count": (4, 12, 300_000),
    "context_tokens": (1_900, 131_072, 250_000),
    "stream": (True, False),
    "mode": ("hybrid", "dense", "keyword"),
    "stage": ("retrieval", "rerank", "generation"),
    "strategy": ("map reduce", "refine", "fallback"),
    "started_at": ("2026-11-23T06:26:00.813Z",),
}
METRICS = tuple(
    "input_tokens output_tokens total_tokens time_to_first_token estimated_total_cost quality_score "
    "cache_read_input_tokens".split()
)
EVALUATIONS: tuple[tuple[str, str, Any], ...] = (
    ("hallucination", "categorical", "no hallucination"),
    ("failure_to_answer", "categorical", "answered"),
    ("language_mismatch", "categorical", "matched"),
    ("helpfulness-check", "score", 0.42),
    ("is_grounded", "boolean", False),
    ("harmfulness", "score", 8),
    ("tool_selection", "categorical", "correct"),
    ("rubric", "json", {"tone": 3, "facts": 0}),
    ("topic_relevancy", "categorical", "irrelevant"),
    ("output_sentiment", "categorical", "negative"),
)
TOOLS = ("lookup_order", "search_documents", "get_weather", "run_sql", "send_notification", "create_ticket")

TELEMETRY: dict[str, tuple[Any, ...]] = {
    "component": ("fastapi", "openai", "langchain", "httpx", "flask", "django", "aiohttp", "celery", "grpc", "redis"),
    "span.kind": ("server", "client", "consumer", "producer", "internal"),
    "http.method": ("GET", "POST", "PUT"),
    "http.status_code": ("200", "429", "500", "503"),
    "http.route": ("/chat", "/v1/chat/completions", "/api/orders/{order_id}", "/health", "/api/v2/search"),
    "http.request.method": ("GET", "POST"),
    "http.response.status_code": (200, 502),
    "http.version": ("1.1", "2"),
    "http.flavor": ("1.1",),
    "http.request.body.size": (1_024, 18_233),
    "http.response.body.size": (120, 9_001),
    "url.scheme": ("https", "http"),
    "url.path": ("/v1/embeddings", "/chat", "/api/search"),
    "network.protocol.name": ("http", "grpc"),
    "network.protocol.version": ("1.1", "2"),
    "network.transport": ("tcp",),
    "server.port": (443, 8080, 5432),
    "server.address": ("api.openai.com", "api.anthropic.com", "bedrock-runtime.us-east-1.amazonaws.com"),
    "out.host": ("api.openai.com", "redis", "postgres"),
    "network.destination.port": (443, 6379, 5432),
    "peer.service": ("openai", "orders-db", "vector-store"),
    "db.system": ("postgresql", "redis", "mongodb", "mysql"),
    "db.type": ("postgres", "redis"),
    "db.name": ("orders", "inventory", "vectors"),
    "db.operation": ("SELECT", "INSERT", "GET", "find"),
    "db.row_count": (0, 12, 350),
    "db.sql.table": ("orders", "products", "chunks"),
    "messaging.system": ("kafka", "rabbitmq", "sqs"),
    "messaging.operation": ("publish", "receive"),
    "messaging.destination.name": ("orders.created", "embedding-jobs"),
    "messaging.kafka.partition": (0, 7),
    "rpc.system": ("grpc", "aws-api"),
    "rpc.service": ("inventory.StockService", "BedrockRuntime"),
    "rpc.method": ("GetStock", "InvokeModel", "Converse"),
    "rpc.grpc.status_code": (0, 4, 14),
    "gen_ai.system": ("openai", "anthropic", "aws.bedrock", "vertex_ai"),
    "gen_ai.provider.name": ("openai", "azure.ai.openai"),
    "gen_ai.operation.name": ("chat", "embeddings", "execute_tool", "text_completion"),
    "gen_ai.request.model": ("gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"),
    "gen_ai.response.model": ("gpt-4o-mini-2024-07-18", "claude-sonnet-4-5-20250929"),
    "gen_ai.request.temperature": (0.2, 1.0),
    "gen_ai.request.max_tokens": (512, 4096),
    "gen_ai.request.top_p": (0.95,),
    "gen_ai.request.frequency_penalty": (0.0, 0.5),
    "gen_ai.usage.input_tokens": (312, 15_002),
    "gen_ai.usage.output_tokens": (27, 800),
    "gen_ai.response.finish_reasons": (["stop"], ["tool_calls"]),
    "gen_ai.response.id": ("chatcmpl-AbC123dEf456GhI789", "msg_01XFDUDYJgAACzvnptvVoYEL"),
    "gen_ai.tool.name": ("lookup_order", "web_search"),
    "gen_ai.tool.type": ("function",),
    "gen_ai.agent.name": ("support_agent", "planner"),
    "gen_ai.token.type": ("input", "output"),
    "gen_ai.output.type": ("text", "json"),
    "openai.request.model": ("gpt-4o",),
    "openai.request.endpoint": ("/v1/chat/completions",),
    "openai.request.stream": (True, False),
    "openai.response.usage.total_tokens": (339, 4000),
    "langchain.request.type": ("chat_model", "chain", "retriever"),
    "langchain.request.provider": ("openai",),
    "faas.trigger": ("http", "pubsub"),
    "faas.coldstart": (True, False),
    "faas.name": ("summarize-invoice", "rag-handler"),
    "cloud.provider": ("aws", "gcp", "azure"),
    "cloud.region": ("us-east-1", "europe-west4"),
    "cloud.availability_zone": ("us-east-1a", "europe-west4-b"),
    "cloud.platform": ("aws_lambda", "gcp_cloud_run", "aws_ecs"),
    "k8s.namespace.name": ("ml-serving", "default"),
    "k8s.deployment.name": ("rag-worker", "llm-gateway"),
    "k8s.container.name": ("app", "worker"),
    "k8s.pod.name": ("rag-worker-6d8f7c9b5d-x2x7k", "llm-gateway-0"),
    "container.runtime": ("containerd", "docker"),
    "container.image.tag": ("1.4.2", "latest", "sha-9d3f2c1"),
    "container_id": ("a5818728-ea66-4c17-551e-20ed", "4f66ad9a8b2e1c3d5e7f90123456789abcdef0123456789abcdef0123456789a"),
    "runtime-id": ("86b009f1beab4a8786e6414ef5a59462", "7f72e2a1c0de4b5fa1b2c3d4e5f60718"),
    "runtime.name": ("python", "nodejs", "CPython"),
    "runtime.version": ("3.11.7", "20.11.1"),
    "process.runtime.name": ("cpython", "OpenJDK Runtime Environment"),
    "process.runtime.version": ("3.12.1", "17.0.9"),
    "process_id": (31_937, 1, 48),
    "thread.id": (48, 140_023),
    "thread.name": ("MainThread", "http-nio-8080-exec-5", "ThreadPoolExecutor-0_3", "asyncio_2"),
    "telemetry.sdk.name": ("opentelemetry", "datadog"),
    "telemetry.sdk.language": ("python", "nodejs", "java"),
    "telemetry.sdk.version": ("1.27.0", "4.16.0"),
    "otel.scope.name": ("opentelemetry.instrumentation.fastapi", "io.opentelemetry.tomcat-7.0"),
    "otel.status_code": ("ERROR", "OK", "STATUS_CODE_UNSET"),
    "otel.scope.version": ("0.48b0", "1.2.3"),
    "_dd.p.dm": ("-0", "-3", "-4"),
    "_dd.top_level": (1,),
    "_dd.measured": (1,),
    "_dd.agent_psr": (1.0, 0.5),
    "_sampling_priority_v1": (1, 2, -1),
    "_dd.base_service": ("support-api",),
    "error.type": ("TimeoutError", "openai.APIConnectionError"),
    "exception.type": ("ValueError", "java.lang.NullPointerException"),
    "exception.escaped": ("False", "true"),
    "code.function": ("handle_ticket", "invoke", "run_step"),
    "code.namespace": ("app.agents.support", "rag.pipeline"),
    "code.lineno": (120, 8),
    "flask.version": ("3.0.2",),
    "flask.endpoint": ("chat", "static"),
    "django.view": ("orders.views.detail", "chat_view"),
    "celery.action": ("run", "apply_async"),
    "celery.state": ("SUCCESS", "RETRY", "FAILURE"),
    "celery.task_name": ("tasks.embed_documents", "app.tasks.summarize"),
    "redis.args_length": (2, 3),
    "redis.raw_command": ("GET", "HGETALL"),
    "aws.operation": ("InvokeModel", "PutObject"),
    "aws.region": ("us-east-1", "eu-central-1"),
    "aws.service": ("bedrock-runtime", "s3", "dynamodb"),
    "retries": (0, 3),
    "feature_flag.key": ("new-ranker", "long-context"),
    "feature_flag.variant": ("on", "control", "treatment"),
    "graphql.operation.type": ("query", "mutation"),
    "deployment.environment": ("production", "staging"),
    "service.version": ("1.4.2", "2026.11.0"),
    "service.namespace": ("checkout", "ml"),
    "git.repository_url": ("github.com/acme/support-bot",),
    "guardrail.name": ("no_financial_advice", "pii-filter", "toxicity"),
    "guardrail.score": (0.91, 0.12),
    "retriever.top_k": (4, 20),
    "vector_db.collection": ("products-v3", "manuals"),
    "vector_db.distance": ("cosine", "dot"),
    "chunk_overlap": (50, 200),
    "routing.decision": ("fallback", "primary"),
    "cache.status": ("hit", "miss", "stale"),
    "queue.name": ("default", "embeddings", "high-priority"),
    "ab_test": ("B", "control"),
    "locale": ("en-US", "de-DE", "pt-BR"),
    "channel": ("chat", "voice", "slack", "widget"),
    "tenant_tier": ("enterprise", "free"),
}


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many spans without anything personal: every third one allow-listed, every fourth one from APM."""
    lines = [("reasoning", line) for line in texts("reasoning")] + [("error message", line) for line in texts("errors")]
    for number in range(count):
        source = "apm" if number % 4 == 3 else "llm_obs"
        draft = Draft(rng, GROUP, source=source, profile=ALLOWED if number % 3 == 0 else DEFAULT)
        if draft.profile == ALLOWED:
            draft.metadata["user_id"] = "u-100"
        _telemetry(draft)
        if source == "llm_obs":
            _what_a_payload_keeps(draft)
            kind, line = lines[number * 7 % len(lines)]
            if kind == "reasoning":
                draft.reasoning(line)
            else:
                draft.error_message(line)
            kind, line = lines[(number * 7 + 155) % len(lines)]
            if kind == "reasoning":
                draft.reasoning(line)
        yield draft.case()


def _what_a_payload_keeps(draft: Draft) -> None:
    rng = draft.rng
    what = "what a payload keeps"
    for field, value in (("name", draft.name), ("ml_app", draft.app), ("model_name", draft.model)):
        draft.keep(what, (field,), value)
    draft.keep(what, ("model_provider",), draft.provider)
    draft.keep(what, ("start_ns",), draft.start_ns)
    draft.keep(what, ("duration",), float(draft.duration))
    for key in rng.sample(sorted(KEPT_TAGS), k=8):
        value = rng.choice(KEPT_TAGS[key])
        draft.tags = [tag for tag in draft.tags if not tag.startswith(f"{key}:")] + [f"{key}:{value}"]
        draft.keep(what, ("tags", key), value)
    for key in rng.sample(sorted(KEPT_METADATA), k=8):
        value = draft.metadata[key] = rng.choice(KEPT_METADATA[key])
        draft.keep(what, ("metadata", key), value)
    for key in rng.sample(METRICS, k=4):
        number = draft.metrics[key] = rng.choice((rng.randrange(10**6), round(rng.random(), 4)))
        draft.keep(what, ("metrics", key), number)
    for name, kind, verdict in rng.sample(EVALUATIONS, k=3):
        entry = {"eval_metric_type": kind, "value": verdict, "assessment": rng.choice(("pass", "fail")), "status": "OK"}
        draft.evaluation[name] = entry
        for key, part in entry.items():
            if isinstance(part, dict):
                for below, number in part.items():
                    draft.keep(what, ("evaluation", name, key, below), number)
            else:
                draft.keep(what, ("evaluation", name, key), part)
    tool = rng.choice(TOOLS)
    call_id = rng.choice((f"call_{rng.getrandbits(96):024x}", "call_1", "toolu_01A09q90qw90lq917835lq9"))
    call = {"name": tool, "arguments": {}, "tool_id": call_id, "type": "function"}
    draft.output["messages"].append({"role": "assistant", "content": "", "tool_calls": [call]})
    place = ("output", "messages", 0)
    draft.keep(what, (*place, "role"), "assistant")
    for key, part in (("name", tool), ("tool_id", call_id), ("type", "function")):
        draft.keep(what, (*place, "tool_calls", 0, key), part)


def _telemetry(draft: Draft) -> None:
    rng = draft.rng
    for key in rng.sample(sorted(TELEMETRY.keys() - KEPT_TAGS.keys()), k=24):
        value = rng.choice(TELEMETRY[key])
        if draft.source == "apm":
            if key in ("span.kind", "http.method", "http.status_code"):
                continue  # the draft has its own
            parts = key.split(".") if not key.startswith("_") else [key]
            if _nest(draft.custom, parts, value):
                draft.keep("ordinary telemetry", ("attributes", *parts), value)
        elif isinstance(value, str) and rng.random() < 0.4 and not any(tag.startswith(f"{key}:") for tag in draft.tags):
            draft.tags.append(f"{key}:{value}")
            draft.keep("ordinary telemetry", ("tags", key), value)
        else:
            draft.metadata[key] = value
            draft.keep("ordinary telemetry", ("metadata", key), value)


def _nest(document: dict[str, Any], parts: list[str], value: Any) -> bool:
    target: Any = document
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            return False
    if parts[-1] in target:
        return False
    target[parts[-1]] = value
    return True
