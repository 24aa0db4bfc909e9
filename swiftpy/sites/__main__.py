"""`python -m swiftpy.sites SITE ARGUMENTS...`."""

import sys

from swiftpy.sites.launch import run

sys.exit(run(sys.argv[1:]))
