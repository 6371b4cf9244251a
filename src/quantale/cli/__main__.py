"""`python -m quantale.cli`: the command without its script."""

import sys

from quantale.cli.app import main

sys.exit(main())
