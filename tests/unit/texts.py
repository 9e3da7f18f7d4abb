"""Texts for properties: in a fresh clone, `st.text` builds a table of Unicode for seconds."""

from hypothesis import strategies as st

SURROGATES = range(0xD800, 0xE000)

#: Any character there is, half of them from where the control characters are.
characters = (
    (st.integers(0, 0x2FFF) | st.integers(0, 0x10FFFF))
    .filter(lambda number: number not in SURROGATES)
    .map(chr)
)


def texts(alphabet: str | None = None, *, min_size: int = 0) -> st.SearchStrategy[str]:
    """Return texts of these characters; None: of any."""
    each = characters if alphabet is None else st.sampled_from(alphabet)
    return st.lists(each, min_size=min_size, max_size=30).map("".join)
