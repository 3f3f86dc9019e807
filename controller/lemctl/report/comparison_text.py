"""Comparisons as text: one row for each pair, the work beside it, and where it differed that instead of figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lemctl.report.columns import COLUMNS
from lemctl.report.comparison import Contrast, Pair
from lemctl.report.figures import ABSENT, axes_line, number
from lemctl.report.table import table

_HEADERS = {column.metric: column.header for column in COLUMNS}
NOTE = "with 95 % intervals; better or worse where p, Holm-adjusted over all of them, is below 0.05"


def comparison_text(pairs: Sequence[Pair], *, with_names: bool = False) -> str:
    """The pairs as a table for each two names, in the order in which they come. `with_names`: each row tells its
    experiments, too."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.first.name, pair.second.name), []).append(pair)
    return "\n\n".join("\n".join(_group(names, group, with_names)) for names, group in groups.items())


def work_line(pair: Pair) -> str:
    """What was the same, in a few words, or what differed."""
    if pair.differences:
        return f"REFUSED, not the same work: {'; '.join(pair.differences)}"
    texts = pair.texts
    if texts is None:
        return "same work"
    said = f"same work, texts agree {texts.agreed}/{texts.compared}"
    if pair.texts_judge:
        return f"{said} (float32, greedy)"
    return f"{said}, {number(texts.common_tokens)} tokens in common on average: told, not judged"


def contrast_text(contrast: Contrast | None) -> str:
    """`1.52x [1.49, 1.55] better`."""
    if contrast is None or contrast.comparison.ratio is None:
        return ABSENT
    made = contrast.comparison
    if made.interval is None:
        return f"{_ratio(made.ratio)} ({made.reason})"
    interval = f"[{_ratio(made.interval.low)}, {_ratio(made.interval.high)}]"
    return f"{_ratio(made.ratio)} {interval} {contrast.verdict}"


def _group(names: tuple[str, str], pairs: Sequence[Pair], with_names: bool) -> Iterator[str]:
    yield f"comparison {names[1]} / {names[0]}"
    metrics = list(dict.fromkeys(name for pair in pairs for name in pair.contrasts))
    header = ["setting", *(["experiments"] if with_names else []), "blocks", *(_HEADERS.get(m, m) for m in metrics)]
    rows = []
    for pair in pairs:
        lead = [axes_line(pair.setting)]
        if with_names:
            ids = (pair.first.experiment[:8], pair.second.experiment[:8])
            lead.append(ids[0] if ids[0] == ids[1] else " ".join(ids))
        blocks = max((contrast.comparison.blocks for contrast in pair.contrasts.values()), default=0)
        figures = [contrast_text(pair.contrasts.get(metric)) for metric in metrics]
        rows.append([*lead, str(blocks) if blocks else ABSENT, *figures, work_line(pair)])
    yield table([*header, "work"], rows, right=(len(header) - len(metrics) - 1,))


def _ratio(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}x" if value < 10 else f"{value:.1f}x"
