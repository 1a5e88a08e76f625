"""The pure core: spans, signals, privacy, captures and the ports. No I/O, no clock, no environment, no logging."""
