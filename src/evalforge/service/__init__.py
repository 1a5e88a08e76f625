"""The HTTP service: run once, health, exports. `app.create_app` builds it, `app.serve` runs it."""
