"""Commands of the analysis beside shell pipelines that do the same, on an EXP in the layout of the original system.

    python benchmarks/analysis.py                         770 RUNs x 800 predictions, 770 logs of 550 KB
    python benchmarks/analysis.py --large                 10,000 RUNs x 1,000 rows: ours only, for its memory

The pipelines are of the form that the users' scripts have (find | xargs | cut | sort), without their defects where
those would make them faster. Both sides run in alternation, with the files in the page cache; medians are printed.
score_all_cells.sh calls top_drugs.sh twice a cell: its time is that of one cell, multiplied. No pipeline draws a
report: beside its time stands that of score_all_cells.sh, which yields one of its pictures. Where others are at work
on the machine, trust the CPU seconds.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment

ROOT = Path(__file__).parents[1]
CELL = "ACH-000123"
TOP_DRUGS = (
    "find $D/run -name test_y_data_predicted.csv | xargs -n 8 -- grep -H {cell}"
    " | sed 's|.*/\\(RUN[0-9]*\\)/[^:]*:|\\1 |' | tr ',' ' '"
    " | sort -n -k {field} | awk '!seen[$1]++' | column -t | head -n 10"
)
# The rule of the original, for which a process is started for each log.
SHRINK_AWK = (
    "function flush() { for (i = n - 2; i <= n; i++) if (i > 3) print held[i % 4]; n = 0 } /^$/ { next }"
    " /^ *[0-9]+\\// { n++; held[n % 4] = $0; if (n <= 3) print; else if (n > 6 && (n - 3) % 100 == 0)"
    " print held[(n - 3) % 4]; next } { flush(); if ($0 != last) print; last = $0 } END { flush() }"
)
FOR_EACH_CELL = "the pipeline of score_cell.sh, once for each cell"
PIPELINES = {
    "shrink-logs.sh --force $D/out": (
        "ls $D/out/out-*.txt | AWK='"
        + SHRINK_AWK
        + '\' xargs -P 4 -I{} sh -c \'tr "\\r" "\\n" < {} | tr -d "\\b" | awk "$AWK" > {}.summary\''
        "; rm $D/out/*.summary"
    ),
    "epochs.sh $D 1": "find $D/run -name ckpt-info.json | sed 's|.*/run/||' | cut -d / -f 1 | sort | uniq -c",
    "progress.sh $D": (
        "ls $D/run | wc -l; ls $D/markers | wc -l; cat $D/out/out-*.txt | grep -a -c 'run_tensorflow.*pkg.*\\.\\.\\.';"
        " cat $D/out/out-*.txt | grep -a -c 'run_tensorflow.*done'; tail $D/output.txt | grep TIME"
    ),
    "extract.py $D": (
        "for R in $D/run/RUN*; do printf '%s,' ${R##*/RUN}; grep -o '\"mse\": [0-9.e-]*' $R/test_scores.json"
        " | cut -d ' ' -f 2; done > $D/scores.shell; rm $D/scores.shell"
    ),
    "list_cells.sh $D": (
        "find $D/run -name test_y_data_predicted.csv | xargs -n 8 -- cat | tr ':,' ' ' | cut -d ' ' -f 3"
        " | sort -u | grep -v labels"
    ),
    f"top_drugs.sh $D true {CELL} 10": TOP_DRUGS.format(cell=CELL, field=2),
    f"score_cell.sh $D {CELL}": " ; ".join(TOP_DRUGS.format(cell=CELL, field=field) for field in (2, 3)),
    "score_all_cells.sh $D": FOR_EACH_CELL,
    "collect $D -o $D/all.parquet": (
        "find $D/run -name test_y_data_predicted.csv | sort | while read F; do R=${F%/*}; grep -v labels $F"
        ' | sed "s|^|${R##*/},|"; done > $D/all.csv; rm $D/all.csv'
    ),
    "scores --by run $D": (
        "find $D/run -name test_y_data_predicted.csv | sort | while read F; do awk -F, 'NR > 1 {n++; d = $1 - $2;"
        " s += d * d} END {print s / n}' $F; done"
    ),
    "scores --by all $D": None,
    "clean-ckpts.sh --dry-run $D 3": (
        "for R in $D/run/*; do bash -c 'cd $0/ckpts/epochs; M=( $( ls ) ); for (( i=0 ; i < ${#M[@]}-3 ; i++ ));"
        " do [[ -f ${M[$i]}/model.h5 ]] && echo ${M[$i]}; done; true' $R; done"
    ),
    "analyze_convergence $D": None,
    "runs $D": None,
    "index $D/..": None,
    "progress.sh --watch --once $D": None,
    "export.sh $D": (
        "cd $D/..; F=$( find EXP011 -name '*scores.json' -or -name parameters.txt -or -name '*predicted.csv' | sort );"
        " tar cfz $D/shell.tgz EXP011/jobid.txt EXP011/*.json EXP011/turbine.log $F; rm $D/shell.tgz"
    ),
    "report $D": FOR_EACH_CELL,
}


def make(exp, runs, rows, logs, options):
    sys.path.insert(0, str(ROOT / "tests" / "analysis"))
    import original_exp

    original_exp.make(exp, runs, rows, rows, 5 if options.large else original_exp.EPOCHS, 0, logs)
    for rank in range(logs):
        (exp / "out" / f"out-{rank:03}.txt").write_bytes(original_exp.log(rank, options.log_epochs, 490_000))


def measure(arguments, exp):
    """Seconds, CPU seconds and largest memory (MiB) of a command of ours and its processes."""
    command = [sys.executable, "-m", "analysis", *(text.replace("$D", str(exp)) for text in arguments.split())]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def shell(pipeline, exp):
    """Seconds and CPU seconds."""
    start, before = time.perf_counter(), os.times()
    env = {**os.environ, "D": str(exp), "LC_ALL": "C"}
    subprocess.run(["bash", "-c", pipeline], stdout=subprocess.DEVNULL, env=env, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


def compare(exp, arguments, pipeline, rounds, cells):
    times = 1
    if pipeline == FOR_EACH_CELL:
        pipeline, times = PIPELINES[f"score_cell.sh $D {CELL}"], cells
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(measure(arguments, exp))
        if pipeline:
            theirs.append([times * figure for figure in shell(pipeline, exp)])
    seconds, cpu, memory = zip(*ours, strict=True)
    result = {"s": statistics.median(seconds), "CPU s": statistics.median(cpu), "MiB": max(memory)}
    if theirs:
        seconds, cpu = (statistics.median(figures) for figures in zip(*theirs, strict=True))
        result |= {"shell s": seconds, "shell CPU s": cpu, "times faster": seconds / result["s"]}
    return {name: round(figure, 2) for name, figure in result.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="10,000 RUNs x 1,000 rows, no logs, ours only")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--log-epochs", type=int, default=4, help="epochs in a log: each leaves 7 lines of progress")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="commands that begin so")
    parser.add_argument("--in", dest="parent", help="directory for the EXP (a temporary one is made in it)")
    options = parser.parse_args()
    runs, rows = options.runs or (10_000 if options.large else 770), options.rows or (1000 if options.large else 800)
    with tempfile.TemporaryDirectory(dir=options.parent) as parent:
        exp = Path(parent) / "EXP011"
        logs = 0 if options.large else runs
        maker = multiprocessing.Process(target=make, args=(exp, runs, rows, logs, options))
        maker.start()  # a process of its own: what it needs would count as memory of the commands started later
        maker.join()
        if maker.exitcode:
            sys.exit(maker.exitcode)
        print(f"made {runs} RUNs x {rows} rows, {logs} logs", file=sys.stderr)
        results = {}
        for arguments, pipeline in PIPELINES.items():
            if arguments.startswith(options.only) and (logs or "shrink" not in arguments):
                pipeline = None if options.large else pipeline
                results[arguments] = compare(exp, arguments, pipeline, 1 if options.large else options.rounds, rows)
                print(arguments, results[arguments], file=sys.stderr)
        sizes = [sum(path.stat().st_size for path in exp.glob(f"out/{name}-*.txt")) for name in ("out", "summary")]
        about = {"runs": runs, "rows": rows, "logs": logs, "log bytes": sizes[0]}
        if sizes[1]:
            about["logs are smaller by %"] = round(100 - 100 * sizes[1] / sizes[0], 2)
    print(json.dumps({**environment("numpy", "pyarrow", "matplotlib"), **about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
