"""Makes EXPs as the original Swift/T system leaves them, small for tests and large for benchmarks.

The layout is that of EXP011 in the HED workflow's documentation: no journal, no record of the drug's name, links
to checkpoints that are absolute and may point into another EXP.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

EPOCHS = 20
RANKS = 64
START = datetime(2025, 7, 17, 8)
OLD_EXP = "/lus/flare/projects/candle/out/unorun/Output/EXP283"


def make(exp, runs=12, rows=40, cells=30, epochs=EPOCHS, log_bytes=0, logs=None, seed=0):
    """Write the EXP; returns the frame of all predictions as a dict of columns (for independent computations)."""
    exp = Path(exp)
    chance = np.random.default_rng(seed)
    for name in ("run", "out", "markers"):
        (exp / name).mkdir(parents=True)
    (exp / "jobid.txt").write_text("4711.aurora-pbs-0001.hostmgmt.cm.aurora.alcf.anl.gov\n")
    (exp / "dflts-e20-a6.json").write_text(
        f'{{\n  "epochs": {epochs},\n  "alpha": 6,\n  "input_dir":   "/tmp/wozniak/original"\n}}\n'
    )
    lines = [json.dumps({"id": f"RUN{index:03}", "index": index}) for index in range(runs)]
    (exp / f"hed-gen-{runs}.json").write_text("# GEN JSONS\n" + "\n".join(lines) + "\n")
    facts = {"JOB": 4711, "PROCS": RANKS + 1, "PPN": 12, "WALLTIME": "24:00:00", "SUBMITTED": START}
    (exp / "turbine.log").write_text("".join(f"{key + ':':<19}{value}\n" for key, value in facts.items()))
    (exp / "output.txt").write_text(
        "TURBINE-PBS SCRIPT\nMPIEXEC TIME: 79200.123\nEXIT CODE: 0\nCOMPLETED: 2025-07-18 06:00:00\n"
    )
    names = np.array([f"ACH-{number:06}" for number in range(cells)])
    hard, true_of = chance.random(cells) * 0.3, []
    for index in range(runs):
        cell = np.sort(chance.integers(0, cells, rows)) if rows != cells else np.arange(cells)
        true = np.clip(0.95 - hard[cell] - 0.3 * chance.random() + chance.normal(0, 0.05, rows), 0.05, 1).round(4)
        noise = chance.normal(0.02 * chance.normal(), 0.04 + 0.06 * (index % 17 == 3), rows)
        pred = np.clip(true + noise, 0, 1).round(4)
        _write_run(exp / "run" / f"RUN{index:03}", index, epochs, chance, names[cell], true, pred)
        (exp / "markers" / f"marker-{index:03}.txt").write_text("DONE\n")
        true_of.append((np.full(rows, index), names[cell], true, pred))
    for rank in range(runs + 1 if logs is None else logs):
        (exp / "out" / f"out-{rank:03}.txt").write_bytes(log(rank, epochs, log_bytes))
    run, cell, true, pred = (np.concatenate(column) for column in zip(*true_of, strict=True))
    return {"run": run, "cell": cell, "true": true, "pred": pred}


def _write_run(run, index, epochs, chance, labels, true, pred):
    run.mkdir()
    parameters = [f"canc_layer_{number}_activation='relu'" for number in range(120)]
    parameters += [f"index={index}", f"id='RUN{index:03}'", f"epochs={epochs}", "optimizer=<class 'x'>"]
    (run / "parameters.txt").write_text("\n".join(["[Global Params]", *parameters, "[Monitor Params]", "timeout=3600"]))
    (run / "rank.txt").write_text(f"{index % RANKS + 1}\n")
    level = 0.004 + 0.002 * chance.random()
    losses = [level + 0.01 * 0.7**epoch + 0.0001 * chance.random() for epoch in range(epochs)]
    for epoch in range(1, epochs + 1):
        directory = run / "ckpts" / "epochs" / f"{epoch:03}"
        directory.mkdir(parents=True)
        info = {
            "epoch": epoch,
            "save_best_metric": "val_loss",
            "best_metric_last": min(losses[:epoch]),
            "model_file": "model.h5",
            "checksum": "__DISABLED__",
            "timestamp": str(START + timedelta(minutes=30 * (epoch + epochs * (index // RANKS)), seconds=index)),
            "time_elapsed": "__FIRST__" if epoch == 1 else 1800.0,
            "metadata": None,
        }
        (directory / "ckpt-info.json").write_text(json.dumps(info, indent=2))
        if epoch > epochs - 4:
            (directory / "model.h5").write_bytes(b"m" * 1000)
    (run / "ckpts" / "best").symlink_to(f"{OLD_EXP}/run/{run.name}/ckpts/epochs/{int(np.argmin(losses)) + 1:03}")
    (run / "ckpts" / "last").symlink_to(f"{OLD_EXP}/run/{run.name}/ckpts/epochs/{epochs:03}")
    (run / "history.txt").write_text(json.dumps({"loss": losses[-2:], "val_loss": losses[-2:]}))
    (run / "result.txt").write_text(f"{losses[-1]}\n")
    mse = float(np.mean((true - pred) ** 2))
    (run / "test_scores.json").write_text(json.dumps({"mse": mse, "rmse": mse**0.5}, indent=4))
    with (run / "test_y_data_predicted.csv").open("wb") as file:
        file.write(b"auc_true,auc_pred,labels\n")
        options = csv.WriteOptions(include_header=False, quoting_style="none")
        csv.write_csv(pa.table({"true": true, "pred": pred, "labels": labels}), file, options)


def log(rank, epochs=EPOCHS, size=0):
    """Output of a rank that trained one RUN: about `size` bytes, nearly all of them progress bars of Keras."""
    head = [f"2025-07-17 08:00:0{number} W tensorflow/core: no such device {rank}" for number in (0, 1, 1, 2)]
    head += ["", "2025-07-17 08:00:03 MODEL_RUNNER INFO     run_tensorflow(): pkg.run() ...", ""]
    bar = "{:6}/26740 [=======>......................] - ETA: 31:02 - batch: {:.4f} - size: 32.0000 - loss: 0.0{:03}"
    bars = size // max(1, epochs) // 190
    parts = ["\n".join(head)]
    for epoch in range(epochs):
        parts.append(f"Epoch {epoch + 1}/{epochs}\n")
        parts += [text + "\b" * len(text) + "\r" for n in range(bars) if (text := bar.format(n, n, n % 1000))]
        parts.append("26740/26740 [==============================] - 1900s - loss: 0.0051 - val_loss: 0.0049\n")
    parts.append("2025-07-17 18:00:00 MODEL_RUNNER INFO     run_tensorflow(): pkg.run() done.\n")
    return "".join(parts).encode()
