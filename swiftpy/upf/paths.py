"""What the user's settings name on disk, and where the user stands: it must be there, and where the user may look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from swiftpy.errors import UserError
from swiftpy.sites.settings import PATHS, Setting


def check_paths(settings: Mapping[str, Setting], environ: Mapping[str, str]) -> None:
    """UserError for the first that is wrong. Files need not be there: the RUNs' check looks for them."""
    try:
        Path.cwd()
    except FileNotFoundError:  # another terminal has removed it, and perhaps made it anew
        raise UserError("the current directory is gone: cd to it again if it was made anew, else to another") from None
    for setting in (settings[name] for name in PATHS if settings[name].value):
        with _within_reach(setting):
            if setting.name == "DATA_SOURCE":
                _check_folder(setting, Path(setting.value))
            elif setting.name == "MODEL_PYTHON_DIR":  # another model of the same name would be trained instead
                _check_folder(setting, Path(os.path.expandvars(setting.value)))  # as model_runner does
            else:
                Path(setting.value).exists()
    if software := environ.get("SOFTWARE_SOURCE"):
        said = f"SOFTWARE_SOURCE={software}"
        with _within_reach(said):
            path = os.path.expandvars(software)
            if not Path(os.path.expanduser(path)).exists():  # noqa: PTH111 - Path's raises RuntimeError for `~nobody`
                raise UserError(f"{said}: there is no file of this name")


def _check_folder(setting: Setting, path: Path) -> None:
    if not path.is_dir():
        raise UserError(f"{setting}: there is no such directory")
    os.scandir(path).close()


@contextlib.contextmanager
def _within_reach(what: object) -> Iterator[None]:
    """UserError if something cannot be looked at, such as in a colleague's directory of mode 0700."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: {error.strerror}: choose what you may read, or ask its owner") from error
