"""The report of an evaluation: scores as text, and one HTML page that needs nothing else."""

import base64
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

Form = str | Callable[[float], str]  # a format, or a function
Columns = Mapping[str, tuple[str, Form]]  # score -> (title, format)


def text_of(scores: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Scores as text, with their 95 % intervals where they are known; a dash where there is no number.

    >>> scores = pd.DataFrame({"share": [0.5, None], "share_low": [0.4, None], "share_high": [0.625, None]})
    >>> text_of(scores, {"share": ("share", ".0%")})["share"].tolist()
    ['50 % [40 %, 62 %]', '-']
    """
    return pd.DataFrame({name: cells(scores, name, form) for name, (_, form) in columns.items()})


def cells(scores: pd.DataFrame, name: str, form: Form) -> pd.Series:
    """A column as text."""
    text = scores[name].map(lambda value: _formatted(value, form))
    if f"{name}_low" in scores:
        low, high = (scores[f"{name}_{end}"].map(lambda value: _formatted(value, form)) for end in ("low", "high"))
        text = text.where(low == "-", text + " [" + low + ", " + high + "]")
    return text


def by_method(scores: pd.DataFrame, name: str, form: Form, *, index: Columns, methods: Sequence[str]) -> pd.DataFrame:
    """A score as text: one row for each value of the index columns, one column for each method."""
    frame = text_of(scores, index).assign(method=scores["method"], cell=cells(scores, name, form))
    wide = frame.pivot_table(index=list(index), columns="method", values="cell", aggfunc="first", sort=False)
    wide = wide.reindex(columns=[method for method in methods if method in wide.columns]).fillna("-")
    return wide.reset_index().rename(columns={column: title for column, (title, _) in index.items()})


def sentences(text: pd.DataFrame, template: str, *, preferred: Sequence[str], baseline: str) -> list[str]:
    """A template filled for each group of rows; ``ours`` is the first preferred method that is there.

    The columns before that of the method tell the group.
    """
    lines = []
    for _, own in text.groupby(list(text.columns[: text.columns.get_loc("method")]), sort=False):
        rows = own.set_index("method", drop=False)
        ours = next(name for name in preferred if name in rows.index)
        base = rows.reindex([baseline]).fillna("-").iloc[0]
        lines.append(template.format(ours=rows.loc[ours], base=base))
    return lines


def share(rate: float) -> str:
    """A missing rate in per cent.

    >>> share(0.225)
    '22.5 %'
    """
    return f"{100 * rate:g} %"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(markdown_table(("a", "b"), [(1, 2)]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def render(title: str, pictures: Mapping[str, bytes], **parts: object) -> str:
    """Write the page as HTML from ``report.html.j2``; pictures (PNG by name) are stored inside, all text is escaped."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["rows"] = _rows
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    encoded = {name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()}
    return template.render(title=title, pictures=encoded, **parts)


def _rows(table: pd.DataFrame, strong: Collection[str] = ()) -> Iterator[tuple[str, Sequence[str]]]:
    """Class and cells of every row: ``strong`` where the second cell is, ``first`` where the first cell changes."""
    before, grouped = None, table.iloc[:, 0].duplicated().any()
    for row in table.astype(str).itertuples(index=False, name=None):
        classes = ["strong"] if row[1] in strong else []
        classes += ["first"] if grouped and before not in (None, row[0]) else []
        before = row[0]
        yield " ".join(classes), row


def _formatted(value: object, form: Form) -> str:
    """A value as text; per cent with a space before its sign."""
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    return form(value) if callable(form) else f"{value:{form}}".replace("%", " %")  # type: ignore[arg-type]
