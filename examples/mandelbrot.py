"""Compute the Mandelbrot set in tiles, and put them together to a picture (PGM, which most viewers know).

Tiles take very different times, those inside of the set hundreds of times longer than those far from it: workers take
the next tile when they are free, so nobody has to plan for that.

    mpiexec -n 4 python -m swiftpy examples/mandelbrot.py mandelbrot.pgm 512
"""

import sys
from pathlib import Path

import numpy as np

import swiftpy

TILE = 64
LIMIT = 255


@swiftpy.task
def tile(top: int, left: int, size: int) -> np.ndarray:
    """After how many steps each point of a tile escapes, as bytes."""
    y, x = np.mgrid[top : top + TILE, left : left + TILE]
    c = (x / size * 3 - 2.25) + 1j * (y / size * 3 - 1.5)
    z = np.zeros_like(c)
    steps = np.zeros(c.shape, np.uint8)
    for _ in range(LIMIT):
        inside = np.abs(z) < 2
        if not inside.any():
            break
        z[inside] = z[inside] ** 2 + c[inside]
        steps += inside
    return steps


path, size = Path(sys.argv[1]), int(sys.argv[2]) // TILE * TILE
tiles = {(top, left): tile(top, left, size) for top in range(0, size, TILE) for left in range(0, size, TILE)}

picture = np.zeros((size, size), np.uint8)
for (top, left), future in tiles.items():
    picture[top : top + TILE, left : left + TILE] = LIMIT - future.result()
path.write_bytes(b"P5 %d %d 255\n" % (size, size) + picture.tobytes())
print(f"{path}: {size} x {size} points, {(picture == 0).mean():.1%} of them in the set")
