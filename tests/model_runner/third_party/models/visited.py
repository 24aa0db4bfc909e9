"""Somebody else's pre and post module: it notes its calls, and answers what the parameters ask for."""

import os
from enum import Enum
from pathlib import Path


class ModelResult(Enum):
    SUCCESS = 1
    SKIP = 2
    ERROR = 3


def note(params, text):
    with Path(params["instance_directory"], "visits.txt").open("a") as stream:
        stream.write(text + "\n")


def pre_run(params):
    here = sorted(path.name for path in Path().iterdir())
    note(params, f"pre {here}")
    params["learning_rate"] = 0.2
    os.chdir("/")
    if "pre_raises" in params:
        raise OSError("no device")
    return ModelResult[params.get("pre_answer", "SUCCESS")]


def post_run(params, output_map):
    here = sorted(path.name for path in Path(params["instance_directory"]).iterdir())
    note(params, f"post {here} {output_map['result']}")
    return ModelResult[params["post_answer"]] if "post_answer" in params else None


def clean_up(params):
    note(params, "clean up")
    if "clean_up_raises" in params:
        raise OSError("its disk is gone")


def check(param_sets, data_dir):
    if data_dir == "broken":
        raise OSError("cannot read the tables")
    return [(i, f"index {p['index']} is too large\nin {data_dir}") for i, p in enumerate(param_sets) if p["index"] > 1]
