"""`python -m authserver`: the same as the console script `authserver`."""

import sys

from authserver.cli import main

sys.exit(main())
