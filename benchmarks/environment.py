"""What a figure depends on besides the code that it measures."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


def environment(*packages):
    """Host, cores, commit, and the versions of Python and of `packages`."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "host": f"{platform.node()} {platform.machine()}",
        "cores": os.cpu_count(),
        "commit": commit or None,
        "versions": {"python": platform.python_version(), **versions},
    }
