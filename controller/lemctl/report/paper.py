"""Tables of a report for a paper: LaTeX (booktabs) and Markdown. The text's columns and figures, costs apart."""

from __future__ import annotations

from collections.abc import Sequence

from lemctl.report.cells import Cell, CellFigure
from lemctl.report.columns import COLUMNS, Column
from lemctl.report.document import Report
from lemctl.report.figures import axis_names, axis_value
from lemctl.report.text import GAIN_NOTE, is_worth_a_column

#: Of LaTeX's special characters, what stands for each in text.
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "—": "--", "…": r"\dots{}",
}  # fmt: skip


def latex(text: str) -> str:
    """The text with every character that LaTeX would take for its own written out."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown(text: str) -> str:
    """The text as a cell of a Markdown table."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    for character in "|`*_<>[]":
        plain = plain.replace(character, "\\" + character)
    return plain


def latex_report(report: Report) -> str:
    """A table float with booktabs' rules and the notes that a reader needs. Needs `\\usepackage{booktabs}`."""
    header, rows, figures = _rows(report)
    spec = "".join("r" if place in figures else "l" for place in range(len(header)))
    lines = [
        f"% lemctl report {report.campaign.label}; needs \\usepackage{{booktabs}}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex(_caption(report))}}}",
        rf"  \label{{tab:{_label(report)}}}",
        rf"  \begin{{tabular}}{{{spec}}}",
        r"    \toprule",
        "    " + " & ".join(latex(text) for text in header) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(latex(text) for text in row) + r" \\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def markdown_report(report: Report) -> str:
    """A table with the same notes."""
    header, rows, figures = _rows(report)
    rule = ["---:" if place in figures else "---" for place in range(len(header))]
    table = [header, *rows]
    lines = ["| " + " | ".join(markdown(text) for text in row) + " |" for row in table]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:], "", markdown(_caption(report))])


def _rows(report: Report) -> tuple[list[str], list[list[str]], set[int]]:
    keys = list(dict.fromkeys(key for cell in report.cells for key in cell.axes))
    names = axis_names(keys)
    columns = [
        c
        for c in COLUMNS
        if is_worth_a_column(c, report) and any(cell.figures[c.metric].mean is not None for cell in report.cells)
    ]
    lead = [names[key] for key in keys] or ["backend"]
    header = [*lead, "n", *(column.header for column in columns)]
    rows = [
        [
            *([axis_value(cell.axes.get(key)) for key in keys] or [cell.backend]),
            f"{cell.counted}/{cell.planned}",
            *(_with_interval(column, cell.figures[column.metric]) for column in columns),
        ]
        for cell in report.cells
    ]
    numeric = {place for place, key in enumerate(keys) if _is_numeric(report.cells, key)}
    return header, rows, numeric | set(range(len(lead), len(header)))


def _is_numeric(cells: Sequence[Cell], key: str) -> bool:
    values = [cell.axes.get(key) for cell in cells]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _with_interval(column: Column, figure: CellFigure) -> str:
    if figure.half_width is None:
        return column.show(figure.mean)
    return f"{column.show(figure.mean)} ± {column.show(figure.half_width)}"


def _caption(report: Report) -> str:
    simulated = "SIMULATED, no engine ran. " if report.is_simulated else ""
    suspect = "SUSPECT results included" if report.include_suspect else "VALID results only"
    energy = f" Energy: {GAIN_NOTE}." if any(_has_energy(cell) for cell in report.cells) else ""
    return (
        f"{simulated}Campaign {report.campaign.label}: mean ± half-width of the 95 % t-interval between runs;"
        f" n is results averaged of runs planned, {suspect}.{energy}"
    )


def _has_energy(cell: Cell) -> bool:
    return cell.figures["energy_per_output_token"].mean is not None


def _label(report: Report) -> str:
    return "".join(character if character.isalnum() or character == "-" else "-" for character in report.campaign.label)
