"""A made-up data set in IMPROVE's layout: 20 cells, 10 drugs, responses that follow from the features."""

import numpy as np
import pandas as pd

CELLS, DRUGS = 20, 10


def tables(seed=0):
    """(ge, md, rsp) as data frames."""
    rng = np.random.default_rng(seed)
    genes, descriptors = rng.normal(size=(CELLS, 6)), rng.normal(size=(DRUGS, 4))
    ge = pd.DataFrame(genes, columns=[f"ge.G{i}" for i in range(6)]).astype("float32")
    md = pd.DataFrame(descriptors, columns=[f"mordred.D{i}" for i in range(4)]).astype("float32")
    ge.insert(0, "improve_sample_id", [f"ACH-{i:03}" for i in range(CELLS)])
    md.insert(0, "improve_chem_id", [f"Drug_{i}" for i in range(DRUGS)])
    rsp = ge[["improve_sample_id"]].merge(md[["improve_chem_id"]], how="cross")
    signal = np.repeat(genes[:, 0], DRUGS) + np.tile(descriptors[:, 0], CELLS)
    rsp["auc"] = (1 / (1 + np.exp(-signal))).astype("float32")
    return ge, md, rsp.sample(frac=1, random_state=1).reset_index(drop=True)


def write_input(folder, ge, md, rsp):
    """The first drug is the test set, a fifth of the rest the val set."""
    folder.mkdir(parents=True, exist_ok=True)
    test = rsp["improve_chem_id"] == "Drug_0"
    rest = rsp[~test]
    parts = {"test": rsp[test], "val": rest[: len(rest) // 5], "train": rest[len(rest) // 5 :]}
    for stage, part in parts.items():
        part.to_parquet(folder / f"rsp_{stage}_data.parquet", index=False)
    ge.to_parquet(folder / "ge_merged_data.parquet", index=False)
    md.to_parquet(folder / "md_merged_data.parquet", index=False)
    return parts
