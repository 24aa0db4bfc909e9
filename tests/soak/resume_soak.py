"""Kill a RUN of Uno in training, again and again, and compare it with one that was never killed: bitwise.

    python tests/soak/resume_soak.py [--kills 40] [--seed 0]

Every variant (early stopping, another loss, no within-epoch checkpoints, checkpoints by seconds) is killed `--kills`
times: at a random batch, at once or up to 50 ms later, so that the killed moment is also one of copying, writing,
renaming, linking or cleaning. Every fifth time it is asked to end (SIGTERM) instead. Then it may finish, and its
weights, optimizer state, history.txt, scores and predictions must be those of the straight RUN.

Last result (2 cores, TensorFlow 2.21, Keras 3.15; at most 25 a variant): 66 kills and 31 requests, 68 restarts
within an epoch, no unusable checkpoint, no difference; 3 to 5 minutes.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "uno"))
import killed
from made_up_tables import tables, write_input
from test_kills import HARD

VARIANTS = {
    "early stopping, mae_poly": {"ckpt_save_batches": 3},
    "mse, all epochs": {
        "ckpt_save_batches": 4,
        "custom_loss_module": None,
        "early_stopping_patience": 60,
        "epochs": 40,
    },
    "epochs only": {"ckpt_keep_limit": 1},
    "by seconds": {"ckpt_save_seconds": 0.001, "ckpt_checksum": True, "batch_size": 2, "learning_rate": 5e-3},
    "larger": {"ckpt_save_batches": 2, "canc_arch": [400, 400], "interaction_arch": [400, 400], "epochs": 8},
}


def soak(root: Path, name: str, changes: dict, kills: int, chance: random.Random) -> dict:
    """One variant; AssertionError where anything differs."""
    started = time.monotonic()
    runs = {}
    for kind in ("straight", "killed"):
        runs[kind] = root / f"{name} {kind}"
        runs[kind].mkdir()
    params = {
        kind: {
            **{key: value for key, value in {**HARD, **changes}.items() if value is not None},
            "input_dir": str(root / "input"),
            "instance_directory": str(directory),
            "output_dir": str(directory),
        }
        for kind, directory in runs.items()
    }
    expected = killed.run(params["straight"])
    done, ended, answer = 0, 0, None
    while done < kills and (answer is None or answer["status"] == "interrupted"):
        number = signal.SIGTERM if chance.random() < 0.2 else signal.SIGKILL
        answer = killed.run(params["killed"], chance.randint(1, 6), chance.choice([0, chance.uniform(0, 0.05)]), number)
        done += 1
        ended += answer is not None
    answer = killed.run(params["killed"]) if answer is None or answer["status"] == "interrupted" else answer
    assert answer == expected, (answer, expected)
    killed.assert_same(killed.outcome(runs["killed"]), killed.outcome(runs["straight"]))
    log = (runs["killed"] / "ckpts/ckpt.log").read_text()
    return {
        "variant": name,
        "epochs": expected["epochs"],
        "kills": done - ended,
        "asked": ended,
        "restarts_within_an_epoch": log.count("within the next"),
        "unusable_checkpoints": log.count("cannot be used"),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="at most so many for each variant (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="soak ") as directory:
        root = Path(directory)
        write_input(root / "input", *tables())
        for name, changes in VARIANTS.items():
            print(json.dumps(soak(root, name, changes, options.kills, chance)), flush=True)
    print("every RUN that was killed is, bit by bit, the one that was not")


if __name__ == "__main__":
    main()
