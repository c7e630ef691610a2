"""`python -m apercu` is `apercu`."""

import sys

from apercu.cli import main

if __name__ == "__main__":
    sys.exit(main())
