"""A helper with a name that the other version of the model has too; it notes each import."""

import os
from pathlib import Path

OFFSET = 100.0

if "IMPORT_LOG" in os.environ:
    with Path(os.environ["IMPORT_LOG"]).open("a") as stream:
        stream.write(__file__ + "\n")
