"""The report: what it gathers of EXPs, and the one file that it writes."""

import base64
import json
import re
import xml.etree.ElementTree as ET

import original_exp
import pandas as pd
from scipy import stats
from test_original import command

from analysis.cli import main


def test_report(tmp_path, capsys):
    exps = [tmp_path / name for name in ("EXP <1>", "EXP002")]
    for seed, exp in enumerate(exps):
        original_exp.make(exp, 12, 20, 20, epochs=6, seed=seed)
    (exps[0] / "run/RUN001/result.txt").write_text("RUN_EXCEPTION\n")
    drugs = [f"GDSC:{number}" for number in range(12)]
    pd.DataFrame({"improve_chem_id": drugs}).to_parquet(tmp_path / "rsp.parquet")
    (tmp_path / "drug_info.tsv").write_text("improve_chem_id\tname\nGDSC:3\tElesclomol\n")
    options = ["--rsp", tmp_path / "rsp.parquet", "--drug-info", tmp_path / "drug_info.tsv"]
    assert command("report", *exps, *options) == [str(exps[0] / "report" / "report.html")]
    page = (exps[0] / "report" / "report.html").read_text()
    ET.fromstring(re.sub("<!DOCTYPE html>|<(meta|img) [^>]*>", "", page))  # every tag is closed
    assert "EXP &lt;1&gt;" in page and "<EXP" not in page and "1 failed RUN<" in page
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)', page), "it needs nothing else"
    assert "Elesclomol" in page, "the drug with the noise of index 3 has a high error"
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", page)]
    files = {path.read_bytes() for path in (exps[0] / "report").glob("*.png")}
    assert len(pictures) == 13 and set(pictures) == files and all(data.startswith(b"\x89PNG") for data in pictures)
    first, second = (json.loads("\n".join(command("scores", "--json", exp))) for exp in exps)
    pairs = [(x["rmse"], y["rmse"]) for x, y in zip(first, second, strict=True)]
    assert f"<td>{stats.wilcoxon(*zip(*pairs)).pvalue:.2g}</td>" in page
    empty = tmp_path / "EXP009"
    (empty / "run" / "A").mkdir(parents=True)
    assert main(["report", str(empty)]) == 0
    assert "has no test predictions (yet)" in capsys.readouterr().err
