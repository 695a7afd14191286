"""A report as one HTML file that needs nothing else: escaped text, tables, and pictures stored inside the file."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #222; background: #fff;
  max-width: 1320px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.7em; margin: 0 0 .2em; } h2 { font-size: 1.25em; margin: 2em 0 .4em; border-bottom: 1px solid #ddd; }
p { max-width: 62em; margin: .5em 0; } .lead { font-size: 1.1em; max-width: none; }
nav a { margin-right: 1.1em; color: #0072b2; text-decoration: none; }
table { border-collapse: collapse; margin: .7em 0 .3em; font-variant-numeric: tabular-nums; font-size: .88em; }
caption { text-align: left; color: #555; padding-bottom: .3em; }
th { text-align: right; font-weight: 600; border-bottom: 2px solid #888; padding: .25em .6em; vertical-align: bottom; }
td { text-align: right; padding: .18em .6em; border-bottom: 1px solid #eee; white-space: nowrap; }
th.text, td.text { text-align: left; } tr.strong td { font-weight: 600; background: #fdf3ec; }
tr.first td { border-top: 2px solid #bbb; }
figure { margin: 1em 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #555; max-width: 60em; }
details { margin: .8em 0; } summary { cursor: pointer; color: #0072b2; }
code { background: #f4f4f4; padding: .1em .3em; overflow-wrap: anywhere; } .note { color: #555; }
.scroll { overflow-x: auto; }
"""


class Report:
    """The body of a page, written from top to bottom; every text is escaped.

    Parameters
    ----------
    title
        Of the page.

    Examples
    --------
    >>> page = Report("Fills & gaps")
    >>> page.paragraph("a < b")
    >>> "<p>a &lt; b</p>" in page.html()
    True
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._sections: list[str] = []
        self._parts: list[str] = []

    def section(self, title: str) -> None:
        """Begin a section; the head of the page links to it."""
        self._sections.append(title)
        self._parts.append(f'<h2 id="s{len(self._sections)}">{escape(title)}</h2>')

    def paragraph(self, text: str, *, kind: str = "") -> None:
        """Add a paragraph; kinds: ``lead`` (large), ``note`` (grey)."""
        self._parts.append(f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        caption: str = "",
        text_columns: int = 1,
        strong: Iterable[int] = (),
        group: bool = False,
        folded: str = "",
    ) -> None:
        """Add a table.

        Parameters
        ----------
        header, rows
            Names of the columns; cells, row by row.
        caption
            A line over the table.
        text_columns
            How many columns from the left hold text; the others hold numbers, aligned to the right.
        strong
            Numbers of the rows to be set off.
        group
            Draw a line where the first cell changes.
        folded
            Fold the table away under these words.
        """
        marked, lines, before = set(strong), [], None
        for number, row in enumerate(rows):
            classes = ["strong"] if number in marked else []
            classes += ["first"] if group and before is not None and row[0] != before else []
            before = row[0]
            attribute = f' class="{" ".join(classes)}"' if classes else ""
            lines.append(f"<tr{attribute}>{_cells('td', row, text_columns)}</tr>")
        named = f"<caption>{escape(caption)}</caption>" if caption else ""
        body = "\n".join(lines)
        head = f"<thead><tr>{_cells('th', header, text_columns)}</tr></thead>"
        html = f'<div class="scroll"><table>{named}{head}\n<tbody>\n{body}\n</tbody></table></div>'
        self._parts.append(f"<details><summary>{escape(folded)}</summary>\n{html}\n</details>" if folded else html)

    def picture(self, png: bytes, *, alt: str, caption: str) -> None:
        """Add a PNG, stored inside the page."""
        data = base64.b64encode(png).decode("ascii")
        image = f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        self._parts.append(f"<figure>{image}\n<figcaption>{escape(caption)}</figcaption></figure>")

    def code(self, label: str, text: str) -> None:
        """Add a line of code after a label."""
        self._parts.append(f"<p>{escape(label)} <code>{escape(text)}</code></p>")

    def html(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, title in enumerate(self._sections, 1))
        title, body = escape(self._title), "\n".join(self._parts)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n"
            f"<body>\n<h1>{title}</h1>\n<nav>{links}</nav>\n{body}\n</body></html>\n"
        )


def _cells(tag: str, cells: Sequence[object], text_columns: int) -> str:
    """The cells of one row."""
    return "".join(
        f'<{tag} class="text">{escape(str(cell))}</{tag}>'
        if i < text_columns
        else f"<{tag}>{escape(str(cell))}</{tag}>"
        for i, cell in enumerate(cells)
    )
