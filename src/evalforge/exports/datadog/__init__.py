"""Back to Datadog: captures as records of a dataset, and their traces into an annotation queue, through its public API.

Built on recordings of that API in dd-trace-py's tests, on the models of datadog-api-client 2.62 and on the documentation.
Nothing of it was ever run against a live Datadog.
"""
