"""`python -m analysis report D [D2 ...]`: pictures and tables, in one HTML file that needs nothing else."""

import base64
import html
import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from analysis import figures
from analysis.command import add_exp, count_text, exp_path, note, notes, number_text, positive, replacing
from analysis.convergence import PATTERNS, recommendations
from analysis.summary import RunScore, Summary, read_drug_info, summarize
from analysis.tables import drug_names

MOST_ROWS = 20
MOST_CHANGES = 10
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.7em; } h2 { border-bottom: 2px solid #2f6db3; padding-bottom: .2em; margin-top: 2.2em; }
h3 { margin: 1.8em 0 .2em; } p { margin: .3em 0; } img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .6em 0; font-size: .92em; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { background: #f2f5f9; } .path { color: #777; }
nav a { margin-right: 1.2em; } .text { text-align: left; white-space: normal; }
"""


def report(parser: ArgumentParser, arguments: list[str]) -> None:
    """`report D [D2 ...]`: report.html and its pictures in D/report."""
    add_exp(parser, nargs="+")
    parser.add_argument("-o", "--output", type=Path, metavar="DIRECTORY", help="where to write (report in the first D)")
    parser.add_argument("--drug-info", type=Path, metavar="FILE", help="table with improve_chem_id and name (TSV, CSV)")
    parser.add_argument(
        "--rsp", type=Path, help="response table, for the drugs' ids in EXPs that record the index only"
    )
    parser.add_argument("--top", type=positive, metavar="K", help="recall of the top K drugs (10, or fewer)")
    options = parser.parse_args(arguments)
    exps = list(dict.fromkeys(exp_path(exp) for exp in options.exp))
    names = read_drug_info(options.drug_info) if options.drug_info else {}
    drugs = drug_names(options.rsp) if options.rsp else []
    output = options.output or exps[0] / "report"
    output.mkdir(parents=True, exist_ok=True)
    summaries = [summarize(exp, names, options.top, drugs) for exp in exps]
    for summary, name in zip(summaries, distinct_names(exps), strict=True):
        summary.name = name
    with replacing(output / "report.html") as file:
        file.writelines(f"{line}\n" for line in page(summaries, output))
    for summary in summaries:
        notes(summary.problems)
        if not summary.scores:
            note(f"{summary.name} has no test predictions (yet): the report shows only how far it has come")
    print(output / "report.html")


def distinct_names(exps: Sequence[Path]) -> list[str]:
    """The EXPs' names, with as much of their paths before them as tells them apart.

    Each model has an EXP000: the second one's pictures would be written over the first one's, and its scores as well.
    """
    depth = 1
    while len({exp.parts[-depth:] for exp in exps}) < len(exps):
        depth += 1
    return ["/".join(exp.parts[-depth:]) for exp in exps]


def page(summaries: Sequence[Summary], output: Path) -> Iterator[str]:
    """The lines of the HTML file; the pictures are written to `output` on the way."""
    title = "Report: " + ", ".join(summary.name for summary in summaries)
    yield f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
    yield from _table([_overview(summary) for summary in summaries])
    yield "<nav>"
    yield from (f'<a href="#exp-{n}">{html.escape(s.name)}</a>' for n, s in enumerate(summaries))
    yield ('<a href="#comparison">Comparison</a></nav>' if len(summaries) > 1 else "</nav>")
    for number, summary in enumerate(summaries):
        yield from _section(number, summary, output)
    if len(summaries) > 1:
        yield '<h2 id="comparison">Comparison</h2>'
        yield "<p>RUNs with the same id and the same test set, in pairs. p: Wilcoxon's signed-rank test, two-sided.</p>"
        yield from _comparison(summaries, output)
    yield "</body></html>"


def _overview(summary: Summary) -> dict[str, str]:
    counts = Counter(run.status for run in summary.runs)
    recalls = [cell.recall for cell in summary.cells]
    top = f" (top {max(cell.top for cell in summary.cells)})" if summary.cells else ""
    ranked = [drug.scc for drug in summary.drugs() if drug.scc is not None]
    return {
        "EXP": summary.name,
        "RUNs": str(len(summary.runs)),
        "status": ", ".join(f"{count} {status}" for status, count in counts.most_common()),
        "test rows": f"{int(summary.overall.get('rows', 0)):,}",
        **{name: number_text(summary.overall.get(name)) for name in ("mse", "rmse", "pcc", "r2")},
        "median scc per drug": number_text(float(np.median(ranked)) if ranked else None),
        "mean recall per cell": number_text(float(np.mean(recalls)) if recalls else None) + top,
        "utilization": f"{100 * summary.timeline.utilization():.0f} %" if summary.timeline else "-",
    }


def _section(number: int, summary: Summary, output: Path) -> Iterator[str]:
    yield f'<h2 id="exp-{number}">{html.escape(summary.name)}</h2>'
    yield f'<p class="path">{html.escape(str(summary.exp))}</p>'
    for draw, title, about in figures.PICTURES:
        figure = draw(summary)
        if figure is None:
            continue
        yield f"<h3>{title}</h3><p>{html.escape(about)}</p>"
        if draw is figures.timeline and summary.timeline and summary.timeline.estimated:
            yield "<p>Estimated from the times of the checkpoints: this EXP has no journal.</p>"
        yield _picture(
            output / f"{_file_name(summary)}-{draw.__name__.replace('_', '-')}.png", figures.png(figure), title
        )
        yield from _details(draw.__name__, summary)
    failed = [run for run in summary.runs if run.status == "failed"]
    if failed:
        yield f"<h3>{count_text(len(failed), 'failed RUN')}</h3>"
        yield from _table([{"RUN": run.id, "reason": run.reason or run.result or ""} for run in failed[:MOST_ROWS]])
        yield from _more(failed)
    if summary.problems:
        yield "<h3>Left out</h3>"
        yield from (f"<p>{html.escape(problem)}</p>" for problem in summary.problems[:MOST_ROWS])
        yield from _more(summary.problems)


def _more(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > MOST_ROWS:
        yield f"<p>... and {len(rows) - MOST_ROWS} more.</p>"


def _details(picture: str, summary: Summary) -> Iterator[str]:
    if picture == "error_per_drug":
        high = summary.high_error()
        chosen = high or sorted(summary.drugs(), key=lambda drug: -drug.rmse)[:5]
        yield f"<p>{'High-error drugs' if high else 'No outliers; the largest errors'}:</p>"
        yield from _table([_drug_row(drug) for drug in chosen[:MOST_ROWS]])
        yield from _more(chosen)
    elif picture == "cells":
        ranked = sorted((c for c in summary.cells if c.scc is not None), key=lambda c: (c.scc, c.cell))
        shown = ranked if len(ranked) <= 10 else [*ranked[:5], *ranked[-5:]]
        yield "<p>The cells whose rankings agree least, and most:</p>" if shown else ""
        yield from _table(
            {
                "cell": c.cell,
                "drugs": str(c.drugs),
                "rank correlation": number_text(c.scc),
                f"top {c.top} hits": str(c.hits),
            }
            for c in shown
        )
    elif picture == "learning_curves":
        counts = Counter(run.pattern for run in summary.convergence)
        yield from _table(
            {"pattern": kind, "RUNs": str(counts[kind]), "meaning": about}
            for kind, about in PATTERNS.items()
            if counts[kind]
        )
        yield from (f"<p>{html.escape(advice)}.</p>" for advice in recommendations(summary.convergence, []))


def _drug_row(drug: RunScore) -> dict[str, str]:
    row = {"drug": drug.label, "id": drug.name or "-", "RUN": drug.run, "rows": str(drug.rows)}
    return row | {name: number_text(getattr(drug, name)) for name in ("rmse", "mse", "pcc", "scc", "r2")}


def _comparison(summaries: Sequence[Summary], output: Path) -> Iterator[str]:
    from scipy import stats  # here, because it is slow to import, and one EXP needs none of it

    first, rows, pictures = summaries[0], [], []
    for second in summaries[1:]:
        found = pairs(first, second)
        name = f"{first.name}, {second.name}"
        row = {"pair": name, "common RUNs": str(len(found))}
        if found:
            x, y = (np.array([pair[side].rmse for pair in found]) for side in (0, 1))
            row |= {
                f"median rmse, {side}": number_text(float(np.median(values)))
                for side, values in (("first", x), ("second", y))
            }
            row |= {"mean difference": f"{np.mean(y - x):+.5f}", "second better": f"{100 * np.mean(y < x):.0f} %"}
            row["p"] = f"{stats.wilcoxon(x, y).pvalue:.2g}" if np.any(x != y) else "- (equal)"
            figure = figures.comparison(first, second, found)
            assert figure is not None
            path = output / f"{_file_name(first)}-{_file_name(second)}-comparison.png"
            pictures.append(_picture(path, figures.png(figure), name))
            pictures += ["<p>The RUNs that have changed most:</p>", *_table(_changes(first, second, found))]
        rows.append(row)
    yield from _table(rows)
    yield from pictures


def _changes(first: Summary, second: Summary, found: list[tuple[RunScore, RunScore]]) -> Iterator[dict[str, str]]:
    for x, y in sorted(found, key=lambda pair: -abs(pair[1].rmse - pair[0].rmse))[:MOST_CHANGES]:
        errors = {f"rmse, {side.name}": number_text(run.rmse) for side, run in ((first, x), (second, y))}
        yield {"held out": x.label, "RUN": x.run, **errors, "difference": f"{y.rmse - x.rmse:+.4f}"}


def pairs(first: Summary, second: Summary) -> list[tuple[RunScore, RunScore]]:
    """The scores of RUNs that are in both EXPs; of different drugs or cells under one id neither."""
    other = {score.run: score for score in second.scores}
    both = [(score, other[score.run]) for score in first.scores if score.run in other]
    return [(x, y) for x, y in both if x.same_test_set(y)]


def _file_name(summary: Summary) -> str:
    return re.sub(r"[^\w.-]", "_", summary.name)


def _picture(path: Path, data: bytes, title: str) -> str:
    with replacing(path, "wb") as file:
        file.write(data)
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _table(rows: Iterable[dict[str, str]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    heads = list(dict.fromkeys(head for row in rows for head in row))
    yield (
        '<div class="scroll"><table><tr>'
        + "".join(f"<th{_class(head)}>{html.escape(head)}</th>" for head in heads)
        + "</tr>"
    )
    for row in rows:
        cells = (f"<td{_class(head)}>{html.escape(row.get(head, '-'))}</td>" for head in heads)
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def _class(head: str) -> str:
    return ' class="text"' if head in ("reason", "meaning", "status") else ""
