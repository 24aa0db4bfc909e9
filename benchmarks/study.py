"""The study's shape, made up, for the benchmarks of training: 0.6 M responses, 770 drugs, 1,000 cells.

`big` is the study's network, `small` has towers of 3 x 128 and 5 x 128 joint units.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environment import environment
from hed import arrays, synthetic
from hed.uno import data
from hed.uno.hyper import Hyper, read_hyper

SPEC = synthetic.Spec(drugs=770, cells=1000, genes=958, descriptors=1613, responses=600_000)
SMALL = {"hyperparam_space": "block", "canc_arch": [128] * 3, "drug_arch": [128] * 3, "interaction_arch": [128] * 5}
NETWORKS = {"big": {}, "small": SMALL}
PARTITION = {"partition": "by_drug", "index": 0, "partition_seed": 1}


def load(source, work):
    """What a RUN reads of the data in `source`."""
    return data.load({"input_dir": str(source), "node_dir": str(work / "node"), "partition_files": False, **PARTITION})


def split(source, work):
    """The rows of the RUN's train, val and test sets."""
    return arrays.split(arrays.open_arrays(source, arrays.columns({}), work / "node"), source, PARTITION)


@dataclass
class Subject:
    """A network, what it learns from, and ours of it: compiled, with the features on the device."""

    hyper: Hyper
    table: Any
    ours: Any
    features: tuple[Any, Any]
    threads: Any


def subject(options, source, work, **given):
    from hed.devices import cfg_threads
    from hed.uno import compiled

    threads = cfg_threads()
    given = {**NETWORKS[options.network], **given}
    hyper, table = read_hyper(given), load(source, work)
    ours = compiled.compiled_for(given, hyper, SPEC.genes, SPEC.descriptors)
    features = compiled.on_device(table.cells), compiled.on_device(table.drugs)
    return Subject(hyper, table, ours, features, threads)


def main(doc, parts, add_arguments):
    """Command line: make the data, run one part, print what it returns as JSON."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--data", type=Path, help="where the made-up data is, or is to be kept")
    add_arguments(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        source = options.data or work / "study"
        synthetic.generate(source, SPEC)
        report = parts[options.part](options, source, work)
    if report is not None:
        print(json.dumps({**report, **environment("tensorflow-cpu", "keras", "numpy", "pandas")}, indent=1))
