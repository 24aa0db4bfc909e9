"""Makes the helpers that lie beside the tests (simulator, job, reference) importable."""

import sys
from pathlib import Path

for folder in ("", "core", "jobs"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
