"""What spark-submit is given as its file: what follows it is as `evalforge scale` takes it, `judge gs://bucket/spans`."""

from __future__ import annotations

import sys

from evalforge.cli import main

if __name__ == "__main__":
    sys.exit(main(["scale", *sys.argv[1:]]))
