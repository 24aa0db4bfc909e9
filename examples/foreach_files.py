"""Count the words of many files, one task for each file.

mpiexec -n 4 python -m swiftpy examples/foreach_files.py 'docs/*.md' '*.md'
"""

import glob
import sys
from collections import Counter
from pathlib import Path

import swiftpy


@swiftpy.task
def count_words(path: str) -> Counter[str]:
    return Counter(word.strip(".,:;()`").lower() for word in Path(path).read_text().split())


@swiftpy.task
def most_common(counts: list[Counter[str]], n: int) -> list[tuple[str, int]]:
    return sum(counts, Counter()).most_common(n)


paths = sorted(path for pattern in sys.argv[1:] for path in glob.glob(pattern))
if not paths:
    sys.exit("usage: foreach_files.py PATTERN...   (no files found)")

counts = {path: count_words(path) for path in paths}  # futures: all files are read at once, on all workers
top = most_common(list(counts.values()), 5)

for path, count in counts.items():
    print(f"{count.result().total():8} words in {path}")
print("most frequent:", ", ".join(f"{word} ({n})" for word, n in top.result()))
