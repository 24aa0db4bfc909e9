"""EXP directories as text: one line per path, so that a whole tree is one readable literal in a test."""

from pathlib import Path


def make(root: Path, text: str) -> Path:
    """From lines `path = content`, `path -> target` (a link) and `path/` (a directory)."""
    for line in text.strip().splitlines():
        line = line.strip()
        if " -> " in line:
            name, target = line.split(" -> ")
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)
        elif line.endswith("/"):
            (root / line).mkdir(parents=True, exist_ok=True)
        else:
            name, _, content = line.partition(" = ")
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
    return root


def listing(root: Path, other: Path | None = None) -> str:
    """The inverse, sorted; ` (linked)` where a file is the same one as in `other`."""
    lines = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_symlink():
            lines.append(f"{name} -> {path.readlink()}")
        elif path.is_dir():
            if not any(path.iterdir()):
                lines.append(f"{name}/")
        else:
            same = other is not None and (other / name).exists() and path.samefile(other / name)
            lines.append(f"{name} = {path.read_text().strip()}{' (linked)' if same else ''}")
    return "\n".join(lines)


def snapshot(root: Path) -> dict[str, tuple]:
    """Everything of a tree that must stay as it was: types, contents, modes, modification times."""
    result = {}
    for path in [root, *root.rglob("*")]:
        info = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        result[str(path.relative_to(root))] = (info.st_mode, info.st_mtime_ns, content)
    return result


def names(directory: Path) -> list[str]:
    """What lies in a directory, hidden things too."""
    return sorted(path.name for path in directory.iterdir())


def text(lines: str) -> str:
    """A literal listing without its indentation."""
    return "\n".join(line.strip() for line in lines.strip().splitlines())
