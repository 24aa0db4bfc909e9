"""Run an external program for each combination of parameters, and collect what it wrote.

The program here is `awk`, which computes how far a ball flies; yours is a simulation. Results are kept in DIR/memo:
killed and started again, or with more angles, the script only runs what is missing.

    mpiexec -n 4 python -m swiftpy examples/sweep.py sweep 10 80
"""

import itertools
import sys
from pathlib import Path

import swiftpy

PROGRAM = """BEGIN {
    x = 0; y = 0; a = angle * 3.14159265 / 180; vx = speed * cos(a); vy = speed * sin(a); dt = 0.001
    while (y >= 0) { v = sqrt(vx*vx + vy*vy); vx -= 0.01*v*vx*dt; vy -= (9.81 + 0.01*v*vy)*dt; x += vx*dt; y += vy*dt }
    print x
}"""

directory, low, high = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
memo = swiftpy.memo(directory / "memo")


@memo
@swiftpy.task
def distance(output: Path) -> float:
    return float(output.read_text())


def fly(speed: int, angle: int) -> swiftpy.Future:
    """The future distance. The program's output is a file, which is made only if it is not there."""
    output = directory / f"{speed}-{angle}.txt"
    if output.exists():  # whole: a program that failed or was killed leaves none
        return distance(output)
    return distance(swiftpy.app(["awk", "-v", f"speed={speed}", "-v", f"angle={angle}", PROGRAM], stdout=output))


speeds, angles = [20, 40, 80], range(low, high + 1, 10)
flights = {(speed, angle): fly(speed, angle) for speed, angle in itertools.product(speeds, angles)}
for speed in speeds:
    best = max(angles, key=lambda angle: flights[speed, angle].result())
    print(f"at {speed} m/s, {best} degrees are best: {flights[speed, best].result():.1f} m")
