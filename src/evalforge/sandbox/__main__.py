"""`python -m evalforge.sandbox`: a local Datadog on a port."""

from __future__ import annotations

import argparse
import sys

from evalforge.sandbox.limits import DEFAULT_LIMITS, RateLimit
from evalforge.sandbox.samples import DEFAULT_SEED
from evalforge.sandbox.server import serve
from evalforge.sandbox.state import Sandbox


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m evalforge.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8126, help="0 picks a free one")
    parser.add_argument("--empty", action="store_true", help="start without the sample traces")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the sample traces")
    parser.add_argument("--apm-limit", type=int, default=DEFAULT_LIMITS["apm"].limit, help="APM searches an hour")
    parser.add_argument("--allow-remote", action="store_true", help="serve on a host that is not loopback")
    given = parser.parse_args(arguments)
    sandbox = Sandbox(limits={"apm": RateLimit(given.apm_limit, 3600)})
    try:
        serve(
            given.host,
            given.port,
            samples=not given.empty,
            seed=given.seed,
            allow_remote=given.allow_remote,
            sandbox=sandbox,
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
