"""The diagnosis as one page of HTML that needs nothing else."""

from html import escape
from pathlib import Path

from hf_contrastive.diagnosis.result import Diagnosis
from hf_contrastive.diagnosis.table import Table, tables


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.problem b { color: #b00020; } .warning b { color: #a15c00; } .good b { color: #1b6e3c; }
"""


def write_page(diagnosis: Diagnosis, folder: str | Path) -> Path:
    """Write `index.html` with the findings and tables of a diagnosis.

    Returns:
        The file.
    """
    about = f"{diagnosis.rows} rows" + (f" of the {diagnosis.dataset}" if diagnosis.dataset else "")
    parts = [f"<h1>{escape(diagnosis.name)}</h1>", f"<p>{escape(about)}, width {diagnosis.width}.</p>"]
    for one in diagnosis.all:
        parts += [f"<h2>Findings: {escape(one.name)}</h2>", "<ul>"]
        parts += [
            f'<li class="{f.severity}"><b>{f.severity}</b>: {escape(f.says)} {escape(f.advice)}</li>'
            for f in one.findings
        ]
        parts += ["</ul>"]
    parts += [_as_html(table) for table in tables(diagnosis)]
    page = Path(folder) / "index.html"
    page.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Diagnosis of {escape(diagnosis.name)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n",
        encoding="utf-8",
    )
    return page


def _as_html(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>'
        f"\n<p>{escape(table.note)}</p>"
    )
