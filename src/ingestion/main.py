"""`python -m src.ingestion.main`, from the repository root: serves the ingestion API on HOST and PORT."""

import sys

from evalforge.service.app import serve

if __name__ == "__main__":
    sys.exit(serve())
