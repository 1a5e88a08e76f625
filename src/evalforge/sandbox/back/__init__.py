"""What teams keep in Datadog besides spans: projects with datasets and their records, and annotation queues.

Source: https://docs.datadoghq.com/llm_observability/experiments/api/ and the models of datadog-api-client 2.62 (paths,
bodies, statuses); requests and answers recorded in dd-trace-py's tests (projects, datasets, records, `batch_update`).
"""
