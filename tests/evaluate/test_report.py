"""The page: escaped, well-formed, and in need of nothing else."""

import base64

import pytest

from html_reader import Reader, is_self_contained
from lacunar.evaluate.report import Report

EVIL = "<script>alert(\"x\")</script> & 'more'"


@pytest.fixture
def page():
    page = Report(EVIL)
    page.section(EVIL)
    page.paragraph(EVIL, kind="lead")
    page.table((EVIL, "b"), [(EVIL, EVIL), ("x", 2), ("x", 3)], caption=EVIL, strong=[1], group=True, folded=EVIL)
    page.picture(b"\x89PNG...", alt=EVIL, caption=EVIL)
    page.code(EVIL, EVIL)
    return page.html()


def test_every_text_is_escaped_and_reads_back(page):
    read = Reader(page)
    assert not read.named("script")
    assert "<script" not in page
    # title, h1, link, section, paragraph, head, two cells, caption, summary, figcaption, label and code
    assert sum(EVIL in text for text in read.texts) == 13
    assert read.named("img")[0]["alt"] == EVIL


def test_the_page_needs_nothing_else(page):
    assert is_self_contained(page)
    assert not is_self_contained(page.replace("#s1", "https://example.org"))
    (image,) = Reader(page).named("img")
    assert base64.b64decode(image["src"].partition(",")[2]) == b"\x89PNG..."


def test_links_lead_to_sections(page):
    read = Reader(page)
    assert [link["href"] for link in read.named("a")] == ["#" + title["id"] for title in read.named("h2")] == ["#s1"]


def test_rows_are_set_off_and_grouped(page):
    assert [row.get("class") for row in Reader(page).named("tr")] == [None, None, "strong first", None]
    assert [cell.get("class") for cell in Reader(page).named("td")] == ["text", None] * 3
