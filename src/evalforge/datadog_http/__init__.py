"""What everybody who talks to Datadog over HTTP shares: keys, pacing by its rate limits, and bounded, tolerant reading.

It decides nothing about what is asked; the adapters that search and the one that writes back do.
"""
