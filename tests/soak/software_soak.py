"""Bring a whole environment with TensorFlow to pretended nodes, and import it there in every worker.

    python tests/soak/software_soak.py [--env .venv] [--nodes 3]

The environment (by default the one that runs this) is packed, staged and unpacked on each node, and every worker
imports TensorFlow, in a RUN, from its own node's copy; then the same without packing, from the directory itself. At the
end of a job its copies are gone. Needs as much disk as so many copies of the environment.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
from job import Workplace

MODEL = """
import sys, time
from pathlib import Path
def initialize_parameters(): return {}
def run(params):
    began = time.perf_counter()
    import tensorflow as tf
    product = float(tf.reduce_sum(tf.ones([3, 4]) @ tf.ones([4, 5])))
    Path("import.txt").write_text(f"{time.perf_counter() - began:.1f}")
    Path("tensorflow.txt").write_text(tf.__file__)
    Path("python.txt").write_text(sys.executable)
    time.sleep(10)  # until every worker has begun one
    return {"val_loss": product}
"""


def check(place, source, nodes, number):
    """One job; AssertionError unless every node's workers computed from its copy."""
    root, workers = place.root, 2 * nodes - 1
    local = {"SOFTWARE_SOURCE": str(source), "SOFTWARE_TARGET": str(root / "node$SWIFTPY_NODE" / "software")}
    options = ["--hook", "hooks.prelaunch:stage_software", "--ranks-per-node", "2"]
    result = place.run(*options, procs=2 * nodes, timeout=900, **local)
    assert result.returncode == 0, result.stdout + result.stderr
    runs = [place.exp(number) / "run" / f"R{worker}" for worker in range(workers)]
    homes = [Path((run / name).read_text()) for run in runs for name in ("tensorflow.txt", "python.txt")]
    assert {home.relative_to(root).parts[0] for home in homes} == {f"node{node}" for node in range(nodes)}
    assert not [path for path in root.glob("node*/*") if path.name.startswith("software")], "a copy was left behind"
    out = next((place.exp(number) / "out").glob("out-0*0.txt")).read_text()
    imports = [float((run / "import.txt").read_text()) for run in runs]
    staged = [line for line in out.splitlines() if line.startswith(("staged", "hook time"))]
    return {"staged": staged, "workers": workers, "import_seconds": sorted(imports)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, default=Path(sys.prefix))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak ", dir=options.folder) as directory:
        place = Workplace(directory)
        (place.root / "tf_train_improve.py").write_text(MODEL)
        place.env |= {"MODEL_NAME": "tf", "MODEL_PYTHON_DIR": str(place.root)}
        place.output = place.root / "out" / "tf" / "Output"
        place.write([{"id": f"R{worker}"} for worker in range(2 * options.nodes - 1)])
        archive = place.root / "env.tar.zst"
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "swiftpy.cli", "stage", "pack", options.env, archive], check=True)
        print(f"packed in {time.monotonic() - began:.0f} s", flush=True)
        for number, source in enumerate((archive, options.env.absolute())):
            print(json.dumps(check(place, source, options.nodes, number)), flush=True)


if __name__ == "__main__":
    main()
