"""`export.sh`: what is needed to work with an EXP elsewhere, in one archive.

The same EXP gives the same bytes: entries are sorted and carry no user, group or time of packing. Links are not
followed, so that nothing from outside the EXP gets in.
"""

import gzip
import os
import re
import stat
import tarfile
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from analysis.command import AnalysisError, Ticker, add_exp, exp_path, notes, replacing, size_text, write_lines
from analysis.exp import run_directories
from analysis.extract import read_scores, score_lines
from analysis.job import inputs

_JOB_FILES = re.compile(
    r"(jobid|output|restart|turbine-env|epochs|progress)\.txt|turbine\.log|journal\.jsonl|scores\.csv|.*\.sh"
)
_RUN_FILES = re.compile(
    r".*scores\.json|.*predicted\.csv|(parameters|result|history)\.txt|partition\.json|stop\.marker"
)
_LEVEL = 6


def export(parser: ArgumentParser, arguments: list[str]) -> None:
    """`export.sh D`: D/EXPnnn.tgz."""
    add_exp(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the archive: D/NAME.tgz")
    parser.add_argument("--list", action="store_true", help="only say what would be packed")
    options = parser.parse_args(arguments)
    exp = exp_path(options.exp).resolve()
    if not options.list and not (exp / "scores.csv").exists():
        write_lines(exp / "scores.csv", score_lines(read_scores(exp, "mse")[0]))
    files = list(find(exp))
    if options.list:
        print("\n".join(str(path.relative_to(exp.parent)) for path in files))
        return
    output = options.output or exp / f"{exp.name}.tgz"
    problems = pack(exp, files, output)
    notes(problems)
    print(f"{len(files) - len(problems)} files -> {output} ({size_text(output.stat().st_size)})")


def find(exp: Path) -> Iterator[Path]:
    """The files to pack, in order."""
    wanted = {path.name for path in inputs(exp) if path}
    for entry in sorted(os.scandir(exp), key=lambda entry: entry.name):
        if (entry.name in wanted or _JOB_FILES.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
    if not wanted:
        yield from sorted(exp.glob("*.json"))
    yield from sorted(exp.glob("out/summary-*.txt"))
    for run in run_directories(exp):
        if not run.is_symlink():
            yield from (path for path in sorted(run.iterdir()) if _RUN_FILES.fullmatch(path.name))


def pack(exp: Path, files: list[Path], output: Path) -> list[str]:
    """Write the archive; a message for each file that could not be packed. OSError: the archive not written."""
    sizes = [path.lstat().st_size for path in files]
    ticker = Ticker(f"packing {len(files)} files, {size_text(sum(sizes))}", sum(sizes))
    problems, done = [], 0
    with (
        replacing(output, "wb") as target,
        gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, size in zip(files, sizes, strict=True):
            try:
                _add(archive, exp, path)
            except AnalysisError as error:
                problems.append(str(error))
            done += size
            ticker(done)
    ticker.close()
    return problems


def _add(archive: tarfile.TarFile, exp: Path, path: Path) -> None:
    try:
        # A RUN may replace the file at this moment: what was opened stays whole.
        file = open(path, "rb", opener=_open)  # noqa: SIM115
    except OSError as error:
        raise AnalysisError(f"{path}: not packed: {'a link' if path.is_symlink() else error.strerror}") from error
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise AnalysisError(f"{path}: not packed: no file")
        member = tarfile.TarInfo(str(path.relative_to(exp.parent)))
        member.size, member.mtime, member.mode = status.st_size, int(status.st_mtime), 0o644
        archive.addfile(member, file)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
