"""What the golden cases of tests/contract/query.json cannot say: limits, other tables than it was made for, and any text whatever."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_telemetry_widget import query
from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.schema import LABEL

TABLE = pa.table({"steps": [1, 2, None], "who": pa.array(["a", "b", None], LABEL)})


@pytest.mark.parametrize(
    "text",
    [
        "steps > 1 and " * 300 + "steps > 1",
        "(" * 100 + "steps > 1" + ")" * 100,
        "not " * 900 + "steps > 1",
        "-" * 3000 + "1 > steps",
        "steps > 1" + " " * 9000,
    ],
    ids=["many", "deep", "not", "minus", "long"],
)
def test_what_is_too_large_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match=r"longer than|nested deeper|characters long"):
        query.compile(text, TABLE.schema)


def test_largest_list_and_chain_are_taken() -> None:
    assert query.compile(f"steps in [{', '.join(map(str, range(900)))}]", TABLE.schema).filter(TABLE).num_rows == 2
    assert query.compile(" or ".join(["steps == 2"] * 140), TABLE.schema).filter(TABLE).num_rows == 1


def test_long_chains_are_taken_wherever_they_are_asked() -> None:
    def deep(frames: int, text: str) -> list[int]:
        if frames:
            return deep(frames - 1, text)
        made = query.compile(text, TABLE.schema)
        assert made == query.compile(text, TABLE.schema)
        return [at for at, held in enumerate(made.mask(TABLE).to_pylist()) if held]

    assert deep(400, "steps < " + " + ".join(["1"] * 440)) == deep(0, "steps < 440")
    assert deep(400, " or ".join(["steps < 2"] * 140)) == deep(0, "steps < 2")
    assert deep(400, "not " * 440 + "steps < 2") == deep(0, "steps < 2")
    assert deep(400, "steps < " + "- " * 440 + "10") == deep(0, "steps < 10")
    with pytest.raises(QueryError, match="fewer brackets"):
        deep(800, "(" * 48 + "steps < 2" + ")" * 48)


def test_a_table_whose_types_have_changed() -> None:
    made = query.compile("steps < 2 and who == 'a'", TABLE.schema)
    later = pa.table({"who": ["a", "a"], "steps": [1.5, 2.5]})
    assert made.columns == ("steps", "who")
    assert made.mask(later).to_pylist() == [True, False]
    with pytest.raises(QueryError, match="steps is text, 2 is a number"):
        made.mask(pa.table({"who": ["a"], "steps": ["1"]}))
    with pytest.raises(QueryError, match="there is no column 'who'"):
        made.mask(later.select(["steps"]))


def test_a_table_of_no_rows() -> None:
    nothing = TABLE.slice(0, 0)
    for text in ("steps < 2", "who == 'a'", "true", "who contains 'a' or len(who) > 1", "steps in []"):
        assert query.compile(text, TABLE.schema).mask(nothing).to_pylist() == []
        assert query.compile(text, TABLE.schema).mask(TABLE.schema.empty_table()).to_pylist() == []


def test_error_points_at_the_place_and_survives_pickling() -> None:
    with pytest.raises(QueryError) as caught:
        query.compile("steps > 1\nand whom == 'a'", TABLE.schema)
    line, pointer = str(caught.value).splitlines()[1:]
    assert line[pointer.index("^") :].startswith("whom")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (str(again), again.near) == (str(caught.value), ("who",))


WORDS = ["steps", "who", "and", "or", "not", "in", "is", "null", "true", "contains", "len", "abs", "'a'", "1", "2.5"]
SIGNS = ["==", "!=", "<", ">=", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", "`", "'", "\\"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS + SIGNS), max_size=12).map(" ".join)))
def test_any_text_is_an_expression_or_a_query_error(text: str) -> None:
    refused = mask = None
    try:
        mask = query.compile(text, TABLE.schema).mask(TABLE)
    except QueryError as error:
        refused = error
    assert mask is not None or (refused is not None and 0 <= refused.position <= len(text))
    assert mask is None or (len(mask) == TABLE.num_rows and mask.null_count == 0)


_leaf = st.sampled_from(["steps > 1", "steps == 2", "who == 'a'", "who is null", "true", "false", "null"])
_tree = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: "({}) {} ({})".format(*parts)),
    ),
    max_leaves=12,
)


def _kleene(text: str, steps: int | None, who: str | None) -> bool | None:
    """Return what an expression of the tree is, by Python's own words on three values."""
    known = {
        "steps > 1": None if steps is None else steps > 1,
        "steps == 2": None if steps is None else steps == 2,
        "who == 'a'": None if who is None else who == "a",
        "who is null": who is None,
        "true": True,
        "false": False,
        "null": None,
    }
    if text in known:
        return known[text]
    if text.startswith("not ("):
        inner = _kleene(text[5:-1], steps, who)
        return None if inner is None else not inner
    at = depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    at -= 1
    left, word, right = text[1:at], text[at + 2 :].split(" ", 1)[0], text[at + 2 :].split("(", 1)[1][:-1]
    values = {_kleene(left, steps, who), _kleene(right, steps, who)}
    decisive = word == "or"
    return decisive if decisive in values else None if None in values else not decisive


@settings(max_examples=60, deadline=None)
@given(_tree)
def test_and_or_not_are_of_three_values(text: str) -> None:
    want = [_kleene(text, steps, who) is True for steps, who in ((1, "a"), (2, "b"), (None, None))]
    assert query.compile(text, TABLE.schema).mask(TABLE).to_pylist() == want
