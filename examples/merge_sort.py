"""Sort numbers by recursion: a task that has much to sort submits two tasks for its halves, and waits for them.

While a task waits, its worker runs other tasks, so a recursion may be deeper than there are workers.

    mpiexec -n 4 python -m swiftpy examples/merge_sort.py 100000
"""

import heapq
import random
import sys

import swiftpy

SMALL = 5_000


@swiftpy.task
def merge_sort(numbers: list[float]) -> list[float]:
    if len(numbers) <= SMALL:
        return sorted(numbers)
    middle = len(numbers) // 2
    left, right = merge_sort(numbers[:middle]), merge_sort(numbers[middle:])
    return list(heapq.merge(left.result(), right.result()))


rng = random.Random(1)
numbers = [rng.random() for _ in range(int(sys.argv[1]))]
result = merge_sort(numbers).result()
print(f"{len(result)} numbers from {result[0]:.6f} to {result[-1]:.6f}")
if result != sorted(numbers):
    sys.exit("they are not sorted")
