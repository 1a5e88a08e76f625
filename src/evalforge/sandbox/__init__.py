"""A local Datadog: takes what applications send, keeps it in memory, and answers both searches as Datadog does.

It judges nothing and imports nothing of the rest of the package, so that what ingestion finds in it is ingestion's own
finding. `server.serve` and `server.BackgroundServer` run it, `app.create_app` is its ASGI application, `intake`
takes spans and evaluations, `samples` makes traces to find.
"""
