"""Our feed and training against the original's: two pandas merges for each batch, Keras' fit, Keras' Adam.

Learning curves of both, each with several seeds, agree within the noise between seeds.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_up_tables import tables, write_input

keras = pytest.importorskip("keras")

from hed.uno import data, network, unorun  # noqa: E402
from hed.uno.hyper import read_hyper  # noqa: E402
from hed.uno.optimizer import Start  # noqa: E402

GDSC = Path(__file__).parents[2] / "../shared/data/gdsc"
SEEDS = (1, 2, 3)
GIVEN = {
    "hyperparam_space": "block",
    "canc_arch": [16],
    "drug_arch": [16],
    "interaction_arch": [16],
    "learning_rate": 1e-4,
    "batch_size": 32,
    "warmup_epochs": 0,
    "reduce_lr_patience": 99,
    "epochs": 4,
}


def original(folder):
    """val_loss of each epoch, for each of SEEDS."""
    read = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("ge_merged_data", "md_merged_data")}
    ge, md = read.values()
    sets = {stage: pd.read_parquet(folder / f"rsp_{stage}_data.parquet") for stage in ("train", "val")}

    def batches(rows, shuffle, seed=0):
        while True:
            order = np.random.default_rng(seed).permutation(len(rows)) if shuffle else np.arange(len(rows))
            for start in range(0, len(rows), 32):
                batch = rows.iloc[order[start : start + 32]]
                merged = batch.merge(ge, on="improve_sample_id").merge(md, on="improve_chem_id")
                inputs = merged.filter(regex=r"^ge\.").to_numpy(), merged.filter(regex=r"^mordred\.").to_numpy()
                yield inputs, merged["auc"].to_numpy()

    model = network.build(read_hyper(GIVEN), ge.shape[1] - 1, md.shape[1] - 1)
    model.compile(optimizer=keras.optimizers.Adam(GIVEN["learning_rate"] * 32), loss="mse")
    model.optimizer.build(model.trainable_variables)
    starts = network.Start(model), Start(model.optimizer)  # to have `fit` compiled once
    steps = {stage: -(-len(rows) // 32) for stage, rows in sets.items()}
    curves = []
    for seed in SEEDS:
        starts[0].again(seed + 100)
        starts[1].again()
        history = model.fit(
            batches(sets["train"], True, seed),
            steps_per_epoch=steps["train"],
            validation_data=batches(sets["val"], False),
            validation_steps=steps["val"],
            epochs=GIVEN["epochs"],
            verbose=0,
        )
        curves.append(history.history["val_loss"])
    return curves


def ours(folder, work, seed):
    params = {**unorun.initialize_parameters(), **GIVEN, "input_dir": str(folder), "output_dir": str(work / f"{seed}")}
    (work / f"{seed}").mkdir()
    return unorun.run({**params, "seed": seed}).history["val_loss"]


def some_of_gdsc(folder):
    """Responses of 15 drugs, with their features."""
    rsp = pq.read_table(GDSC / "rsp_merged.parquet").to_pandas()
    drugs = rsp["improve_chem_id"].unique()[:15]
    rsp = rsp[rsp["improve_chem_id"].isin(drugs)].sample(1500, random_state=1)
    ge, md = (pd.read_parquet(GDSC / f"{name}_merged_data.parquet") for name in ("ge", "md"))
    folder.mkdir()
    for stage, part in (("train", rsp[300:]), ("val", rsp[:300]), ("test", rsp[:100])):
        part.to_parquet(folder / f"rsp_{stage}_data.parquet", index=False)
    ge.to_parquet(folder / "ge_merged_data.parquet", index=False)
    md[md["improve_chem_id"].isin(drugs)].to_parquet(folder / "md_merged_data.parquet", index=False)


@pytest.mark.skipif(not network.REUSABLE, reason="Keras 2: a new network for each RUN")
@pytest.mark.parametrize("source", ["planted signal", "gdsc"])
def test_learning_curves_agree(tmp_path, source):
    folder = tmp_path / "input"
    if source == "gdsc":
        if not GDSC.exists():
            pytest.skip("the real data is not here")
        some_of_gdsc(folder)
    else:
        ge, md, rsp = tables()
        write_input(folder, ge, md, pd.concat([rsp] * 10))
    assert len(data.load({"input_dir": str(folder)}).train) >= 1200
    theirs = np.array(original(folder))
    mine = np.array([ours(folder, tmp_path, seed) for seed in SEEDS])
    noise = np.sqrt((theirs.std(axis=0, ddof=1) ** 2 + mine.std(axis=0, ddof=1) ** 2) / len(SEEDS))
    distance = np.abs(theirs.mean(axis=0) - mine.mean(axis=0))
    assert (distance < 4 * noise + 0.02 * theirs.mean(axis=0)).all(), (theirs, mine)
    assert (mine[:, -1] < 0.9 * mine[:, 0]).all()  # there was something to learn
