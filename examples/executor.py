"""Code for `concurrent.futures` on MPI ranks: the longest Collatz sequences below a number, in blocks.

mpiexec -n 4 python -m swiftpy examples/executor.py 300000
python examples/executor.py 300000                            # the same with a job that the executor starts
"""

import sys
from concurrent.futures import as_completed

import swiftpy

BLOCK = 20_000


def longest(first: int, last: int) -> tuple[int, int]:
    """The length of the longest sequence that begins from `first` to before `last`, and where it begins."""
    best = (0, 0)
    for start in range(first, last):
        number, length = start, 1
        while number != 1:
            number = 3 * number + 1 if number % 2 else number // 2
            length += 1
        best = max(best, (length, start))
    return best


def main() -> None:
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    best = (0, 0)
    with swiftpy.Executor(max_workers=2) as executor:
        blocks = [executor.submit(longest, max(1, n), min(n + BLOCK, limit)) for n in range(0, limit, BLOCK)]
        for done, block in enumerate(as_completed(blocks), 1):
            best = max(best, block.result())
            print(f"{done} of {len(blocks)} blocks: {best[0]} steps from {best[1]}")


if __name__ == "__main__":
    main()
