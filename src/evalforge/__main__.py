"""`python -m evalforge`: the same as the command `evalforge`."""

import sys

from evalforge.cli import main

if __name__ == "__main__":
    sys.exit(main())
