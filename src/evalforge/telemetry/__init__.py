"""What the project tells of itself: one table of instruments, and two ways out with the same names.

`instruments` is the table; `recorder` takes every number and holds it to the table; `prometheus` shows what was taken as
text, `otlp` sends it. Whoever counts knows only the port (`core.ports.Telemetry`).
"""
