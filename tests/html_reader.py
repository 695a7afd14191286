"""Reads HTML strictly, for the tests of reports."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Every tag has to be closed in order; keeps tags, texts, and whatever an address may stand in."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts, self.targets = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.targets += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag):
        """The attributes of every tag of this name."""
        return [attributes for name, attributes in self.tags if name == tag]


def is_self_contained(page):
    """Nothing is fetched: links lead inside the page, pictures are data, the style sheet names no address."""
    targets = Reader(page).targets
    inside = all(target.startswith(("#", "data:image/png;base64,")) for target in targets)
    return inside and "url(" not in page and "@import" not in page
