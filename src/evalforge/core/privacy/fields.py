"""What is kept of a payload: the fields known by name, each with the rules that its value must pass.

The other half of the table, keys whose values are hashed, dropped or closed, is `keys.SENSITIVE_WORDS`. A key that neither
names is unknown: its value stays only as a boolean, a small number, an ISO time or words of the vocabulary.
"""

from __future__ import annotations

from evalforge.core.privacy.rules import Kind
from evalforge.core.privacy.vocabulary import listed
from evalforge.core.signals import SPELLINGS

_K = Kind

# Rows: rules, then keys in the form of `keys.normal_key` (dots, dashes and capitals count as underscores).
FIELD_ROWS: tuple[tuple[tuple[Kind, ...], str], ...] = (
    (
        (_K.NUMBER,),
        "temperature top_p top_k top_a min_p max_tokens max_new_tokens max_completion_tokens max_output_tokens "
        "max_length num_predict num_ctx n best_of frequency_penalty presence_penalty repetition_penalty "
        "repeat_penalty length_penalty top_logprobs timeout retries max_retries retry_count attempt attempts "
        "iteration iterations step turn pid status_code http_status http_status_code http_response_status_code "
        "num_documents documents_count dimensions embedding_dim embedding_count batch_size chunk_size "
        "http_request_body_size http_response_body_size openai_response_usage_total_tokens "
        "openai_response_usage_prompt_tokens openai_response_usage_completion_tokens context_window context_length "
        "max_context_length score similarity relevance confidence",
    ),
    (
        (_K.AMOUNT,),
        "duration latency cost total_cost seed process_id http_request_content_length http_response_content_length",
    ),
    (
        (_K.BOOLEAN, _K.NUMBER),
        "faas_coldstart stream streaming logprobs echo parallel_tool_calls store is_error cached cache_hit truncated",
    ),
    (
        (_K.WORDS, _K.NAME, _K.NUMBER, _K.BOOLEAN),
        "gen_ai_response_finish_reasons gen_ai_token_type finish_reason finish_reasons stop_reason tool_choice "
        "response_format response_format_type reasoning_effort "
        "encoding_format service_tier object modality modalities output_type gen_ai_output_type role status verbosity",
    ),
    (
        (_K.NAME, _K.NUMBER, _K.BOOLEAN),
        "tokenizer channel index index_name retriever reranker embedder backend feature collection_name dataset "
        "dataset_name prompt_name prompt_slug prompt_label content_filter "
        "route route_template path_template cluster lora adapter node graph_node quantization "
        "agent_name agent_service tool_name function_name component integration service service_name env environment "
        "ml_app application app app_name gen_ai_application_name gen_ai_operation_name gen_ai_system "
        "gen_ai_provider_name gen_ai_tool_name gen_ai_agent_name operation operation_name span_kind span_type "
        "span_name http_method http_request_method http_route http_version network_protocol_name rpc_method "
        "rpc_service rpc_system db_system db_operation messaging_system peer_service runtime framework "
        "platform os telemetry_sdk_language telemetry_sdk_name otel_library_name otel_scope_name asgi_version "
        "asgi_spec_version region cloud_region cloud_provider availability_zone kube_namespace kube_deployment "
        "instance_type kube_cluster_name kube_container_name cluster_name container_name "
        "datacenter namespace team squad stage tier source decorator workflow pipeline experiment experiment_name "
        "experiment_variant variant ab_test queue topic event_name judge evaluator failure_type endpoint "
        "prompt_tracking_instrumentation_method model_family ingestion_reason retained_by url_path url_template http_path "
        "http_target cloud_location gcp_location langgraph_triggers faas_trigger "
        "faas_name thread_name server_address process_runtime_name container_runtime git_repository_url "
        "openai_request_endpoint k_8_s_namespace_name k_8_s_deployment_name k_8_s_container_name",
    ),
    (
        (_K.MODEL,),
        "model model_name model_id model_provider model_version engine deployment deployment_name provider embedding_model "
        "judge_model response_model request_model gen_ai_request_model gen_ai_response_model openai_request_model "
        "openai_response_model anthropic_request_model langchain_request_model langchain_request_provider llm_model "
        "llm_request_model gpu accelerator reranker_model tokenizer_model model_slug base_model",
    ),
    (
        (_K.VERSION, _K.CODE, _K.RELEASE, _K.NAME),
        "container_image_tag version prompt_version prompt_template_version template_version agent_version app_version "
        "api_version sdk_version "
        "service_version schema_version dataset_version library_version ddtrace_version tracer_version runtime_version "
        "otel_library_version telemetry_sdk_version release image_tag build language_version python_version",
    ),
    ((_K.POD, _K.NAME), "pod_name kube_pod_name k_8_s_pod_name"),
    ((_K.IMAGE,), "container_image image_name container_image_name image"),
    ((_K.PACKAGE, _K.NAME), "sdk lib library package dependency client_library"),
    ((_K.NUMBER, _K.WORDS, _K.ERROR_CODE), "error_code errno exception_code failure_code"),
    ((_K.IDENTIFIER,), "prompt_template template_name"),
    ((_K.LOCALE, _K.NAME, _K.NUMBER, _K.BOOLEAN), "language"),
    ((_K.NAME, _K.MACHINE_ID, _K.NUMBER), "prompt_id prompt_template_id template_id"),
    ((_K.LOCALE, _K.ZONE), "timezone time_zone tz"),
    ((_K.CODE,), "git_commit_sha git_sha commit_sha commit sha checksum container_id prompt_hash template_hash config_hash"),
    (
        (_K.MACHINE_ID,),
        "request_id x_request_id completion_id response_id gen_ai_response_id run_id batch_id job_id tool_call_id "
        "tool_id call_id generation_id system_fingerprint runtime_id message_id parent_run_id execution_id correlation_id "
        "openai_request_id invocation_id task_id deployment_id experiment_id checkpoint_id",
    ),
    (
        (_K.TRACE_CODE,),
        "llmobs_trace_id llmobs_parent_id trace_id span_id parent_id dd_trace_id dd_span_id apm_trace_id otel_trace_id",
    ),
    (
        (_K.TIME, _K.EPOCH),
        "ts created created_at updated_at started_at finished_at ended_at completed_at timestamp start_time end_time "
        "start_timestamp end_timestamp time date expires_at",
    ),
    ((_K.ERROR_TYPE,), "error_type exception_type exception_class error_class error_name error_kind error_meta_type"),
    ((_K.LOCALE, _K.WORDS), "locale lang country country_code language_code currency"),
    ((_K.NUMBER, _K.BOOLEAN, _K.WORDS, _K.ERROR_TYPE), "error"),
)

KINDS_BY_LAST_WORD: dict[str, tuple[Kind, ...]] = {
    "model": (_K.MODEL, _K.NUMBER, _K.BOOLEAN),
    "version": (_K.VERSION, _K.CODE, _K.RELEASE, _K.WORDS),
    "hash": (_K.CODE,),
    "sha": (_K.CODE,),
}
"""The rules for keys that no row names, by their last word, where they say nothing personal."""

SIGNAL_KINDS = (_K.SCORE, _K.BOOLEAN, _K.LABEL)

FIELDS: dict[str, tuple[Kind, ...]] = {key: kinds for kinds, keys in FIELD_ROWS for key in keys.split()}
FIELDS.update({path.replace(".", "_"): SIGNAL_KINDS for path in SPELLINGS if path.replace(".", "_") not in FIELDS})

BRANCHES: frozenset[str] = frozenset(key[:n] for key in FIELDS for n in range(len(key)) if key[n] == "_") | {
    "gen_ai",
    "error",
    "llm_obs",
}
"""What known keys begin with. A mapping under such a key is entered even where its own name is of a closed kind, as
`response` is in `gen_ai.response.model`; all that is not a known field stays closed there."""

TEXT_FIELDS: frozenset[str] = frozenset({"value", "text", "prompt", "content", "parameters"})
"""Keys of `input` and `output` that are known to hold text."""

EXPLANATIONS: frozenset[str] = listed(
    "error exception err errmsg errors error_message error_msg error_text error_detail error_details error_description "
    "error_reason error_stack error_stacktrace error_stack_trace error_traceback error_meta_message error_meta_stack "
    "exception_message exception_msg exception_stack exception_stacktrace exception_stack_trace exception_traceback "
    "traceback stacktrace stack_trace last_error tool_error failure_message failure_reason"
)
"""Keys, in the form of `keys.normal_key`, whose text says why something failed: scrubbed unless explanations are closed.

Source: Datadog's `error.message` and `error.stack`, OpenTelemetry's `exception.message` and `exception.stacktrace`.
"""

WHOLE_FIELD_KEYS: dict[str, str] = {
    key: whole
    for whole, keys in {
        "input": "input inputs input_value input_messages gen_ai_input gen_ai_input_messages llm_input_messages",
        "output": "output outputs output_value output_messages gen_ai_output gen_ai_output_messages llm_output_messages",
        "prompt": "prompt prompts gen_ai_prompt llm_prompts",
        "response": "response responses gen_ai_completion llm_completions",
    }.items()
    for key in keys.split()
}
"""Keys of metadata and attributes that the allow-list's `input`, `output`, `prompt` and `response` name too.

Source: OpenTelemetry's GenAI conventions, and OpenInference.
"""

ROLES: frozenset[str] = frozenset(
    {"", "system", "developer", "user", "assistant", "tool", "function", "model", "ai", "human", "agent"}
)

TOOL_TYPES: frozenset[str] = frozenset(
    {"function", "function_call", "function_call_output", "tool_result", "tool_use", "tool", "mcp", ""}
)

DROPPED_TAG_PREFIXES: frozenset[str] = listed(
    "pii phi user users usr usrs username userid usrid enduser customer customers customerid session sessions sessionid "
    "client clients clientip person member visitor subscriber patient"
)
"""First words of tag keys that are dropped whatever follows and whatever the value."""
