"""Made-up IMPROVE data of any size, in which a response can be learned and predicted for a drug never seen.

Cells and drugs have a few hidden factors. Their features are noisy linear mixtures of the factors; the
response is a sigmoid of the factors (of the cell, of the drug, and of both together) plus noise.
"""

import argparse
import dataclasses
import json
import math
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hed import tables

SPEC = "synthetic.json"
FACTORS = 4
FEATURE_NOISE = 0.5  # standard deviation of what in a feature says nothing about the factors
RESPONSE_NOISE = 0.03  # standard deviation, in units of the response (0 to 1)
ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Spec:
    """Numbers of drugs, cells, features of a cell and of a drug, responses; equal specs give equal data."""

    drugs: int = 24
    cells: int = 200
    genes: int = 100
    descriptors: int = 60
    responses: int = 4000
    seed: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 0 if field.name == "seed" else 1
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be at least {least}, not {getattr(self, field.name)}")


def generate(directory: Path, spec: Spec) -> bool:
    """Make `directory` with the three tables; False if it has the same ones already.

    The directory appears complete or not at all. FileExistsError if it holds anything else.
    """
    if _has(directory, spec):
        return False
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} holds something else: choose another directory or remove it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        _write_tables(temporary, spec)
        (temporary / SPEC).write_text(json.dumps(dataclasses.asdict(spec)) + "\n")
        temporary.rename(directory)
    except OSError:
        if not _has(directory, spec):  # or another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _has(directory: Path, spec: Spec) -> bool:
    path = directory / SPEC
    return path.exists() and json.loads(path.read_text()) == dataclasses.asdict(spec)


def _write_tables(directory: Path, spec: Spec) -> None:
    generator = np.random.default_rng(spec.seed)
    cells = generator.standard_normal((spec.cells, FACTORS), np.float32)
    drugs = generator.standard_normal((spec.drugs, FACTORS), np.float32)
    cell_names = [f"CELL-{number:06}" for number in range(spec.cells)]
    drug_names = [f"Drug_{number}" for number in range(spec.drugs)]
    _write_features(directory / tables.GE, tables.CELL, cell_names, cells, "ge.G", spec.genes, generator)
    _write_features(directory / tables.MD, tables.DRUG, drug_names, drugs, "mordred.D", spec.descriptors, generator)
    schema = pa.schema(
        [
            (tables.CELL, pa.string()),
            (tables.DRUG, pa.string()),
            (tables.RESPONSE, pa.float32()),
            ("study", pa.string()),
        ]
    )
    with pq.ParquetWriter(directory / tables.RSP, schema) as writer:
        for start in range(0, spec.responses, ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, spec.responses))
            drug, cell = _pairs(rows, spec)
            response = _response(drugs[drug], cells[cell])
            response += RESPONSE_NOISE * generator.standard_normal(len(rows), np.float32)
            columns = [
                pa.DictionaryArray.from_arrays(cell, cell_names).cast(pa.string()),
                pa.DictionaryArray.from_arrays(drug, drug_names).cast(pa.string()),
                np.clip(response, 0, 1).round(4),
                pa.repeat("SYNTHETIC", len(rows)),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _write_features(
    path: Path,
    column: str,
    names: list[str],
    factors: np.ndarray,
    prefix: str,
    count: int,
    generator: np.random.Generator,
) -> None:
    mixture = generator.standard_normal((FACTORS, count), np.float32) / math.sqrt(FACTORS)
    features = factors @ mixture + FEATURE_NOISE * generator.standard_normal((len(names), count), np.float32)
    columns = {f"{prefix}{number}": features[:, number] for number in range(count)}
    pq.write_table(pa.table({column: names} | columns), path)


def _pairs(rows: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Drug and cell of each row: all pairs, in a scattered order, before any comes again."""
    pairs = spec.drugs * spec.cells
    step = int(pairs * 0.618) | 1
    while math.gcd(step, pairs) > 1:
        step += 2
    pair = rows * step % pairs
    return pair // spec.cells, pair % spec.cells


def _response(drugs: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Expected responses for rows of factors: the cell matters most, then the drug, then how they match."""
    match = (drugs[:, 1:] * cells[:, 1:]).sum(axis=1) / math.sqrt(FACTORS - 1)
    response: np.ndarray = 1 / (1 + np.exp(-(0.8 + 1.0 * cells[:, 0] + 0.6 * drugs[:, 0] + 0.6 * match)))
    return response


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 when the data is there, 1 with one line on stderr when it is not."""
    parser = argparse.ArgumentParser(
        prog="python -m hed.synthetic",
        description=__doc__,
        epilog="example: python -m hed.synthetic data --drugs 24 --cells 200 --responses 4000",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write; must not hold other data")
    for field in dataclasses.fields(Spec):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help="default: %(default)s")
    options = vars(parser.parse_args(arguments))
    directory = options.pop("directory")
    try:
        spec = Spec(**options)
        written = generate(directory, spec)
    except (ValueError, OSError) as error:
        print(f"hed.synthetic: {error}", file=sys.stderr)
        return 1
    print(f"{directory}: {'written' if written else 'is there'}: {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
