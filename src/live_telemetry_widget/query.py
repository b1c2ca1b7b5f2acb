"""The one language in which rows are selected: ``outcome == 'Failed' and steps < 10``.

A small grammar of our own, read by recursive descent: nothing of it is ever evaluated as Python. ``js/src/query.ts`` is its twin;
both are held to ``tests/contract/query.json``.

::

    or:          and ("or" and)*
    and:         not ("and" not)*
    not:         "not" not | comparison
    comparison:  sum (("==" | "!=" | "<" | "<=" | ">" | ">=" | "contains") sum | ["not"] "in" "[" value, ... "]" | "is" ["not"] "null")?
    sum:         product (("+" | "-") product)*
    product:     sign (("*" | "/" | "%") sign)*
    sign:        "-" sign | "(" or ")" | "len" "(" or ")" | "abs" "(" or ")" | value | column
    value:       number | 'text' | "text" | true | false | null (or True, False, None)
    column:      name | `odd name`

Where a value is missing, a comparison is neither true nor false, and the row is not selected; ``x is null`` (or ``x == null``) selects it.
Integers are compared as what they are, up to 64 bits; numbers are calculated with as float64, ``%`` has the sign of its right side. Columns of JSON (``action``, ``observation``) are
compared as what they hold: ``action == 2``, ``action == 'left'``; a document that is no string is compared with text as it is written.
A time is compared with a text such as ``'2026-11-25T10:00:00Z'``. Texts are compared letter by letter, case counts.

Examples
--------
>>> import pyarrow as pa
>>> table = pa.table({"episode": [0, 1, 2], "steps": [12, 7, 3], "outcome": ["Failed", "Failed", "Success"]})
>>> query = compile("outcome == 'Failed' and steps < 10", table.schema)
>>> query.filter(table)["episode"].to_pylist()
[1]
>>> compile("outcom == 'Failed'", table.schema)
Traceback (most recent call last):
    ...
live_telemetry_widget.errors.QueryError: there is no column 'outcom'; did you mean 'outcome'?
  outcom == 'Failed'
  ^
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from live_telemetry_widget import _expression
from live_telemetry_widget._expression import Call, Column, In, IsNull, Literal, Operation
from live_telemetry_widget.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from live_telemetry_widget._expression import Node, Value

#: Longest expression, in characters, and longest number; how deep its brackets may be nested; and how many comparisons it may hold.
LONGEST: Final = 8_000
LONGEST_NUMBER: Final = 300
DEEPEST: Final = 50
MOST: Final = 150

_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "contains"})
_FUNCTIONS: Final = frozenset({"len", "abs"})
_VALUES: Final[dict[str, bool | None]] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None
}  # fmt: skip
_WORDS: Final = frozenset({"or", "and", "not", "in", "is", "contains", *_VALUES})
#: What people write who come from elsewhere.
_MEANT: Final = {
    "=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "~": "not", "!": "not", "<>": "!=", "===": "==",
    "TRUE": "true", "FALSE": "false", "NULL": "null", "NaN": "null", "AND": "and", "OR": "or", "NOT": "not",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<odd>`[^`]+`)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>===|==|!=|<>|<=|>=|&&|\|\||[-+*/%<>()\[\],=&|~!])
      | (?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t"}


@dataclasses.dataclass(frozen=True)
class Query:
    """An expression that fits some columns; made by :func:`compile`.

    Attributes
    ----------
    text
        The expression as given.
    columns
        The columns that it reads, each once, in order.
    """

    text: str
    columns: tuple[str, ...]
    _node: Node = dataclasses.field(repr=False, compare=False)
    _schema: pa.Schema = dataclasses.field(repr=False, compare=False)
    _run: _expression.Compiled = dataclasses.field(repr=False, compare=False)

    def mask(self, table: pa.Table) -> pa.BooleanArray:
        """Return for each row whether it is selected; nothing is null.

        Parameters
        ----------
        table
            Has at least :attr:`columns`. Where their types are not those that the query was made for, it is made again for these.

        Raises
        ------
        QueryError
            It does not fit the columns of this table.
        """
        run = self._run
        with _within_the_stack(self.text):
            if any(_field(table.schema, name) != _field(self._schema, name) for name in self.columns):
                run = _expression.build(self._node, table.schema, self.text)
            return _expression.mask(run, table)

    def filter(self, table: pa.Table) -> pa.Table:
        """Return the rows that are selected; raises as :meth:`mask`."""
        return table.filter(self.mask(table))


def _field(schema: pa.Schema, name: str) -> tuple[pa.DataType, bool] | None:
    at = schema.get_field_index(name)
    return None if at < 0 else (schema.field(at).type, _expression.is_json(schema.field(at)))


def compile(text: str, schema: pa.Schema) -> Query:  # noqa: A001 - the name that was agreed on; used as query.compile
    """Return an expression ready to be asked of tables with these columns.

    Parameters
    ----------
    text
        As the module describes it.
    schema
        The columns, with their types.

    Raises
    ------
    QueryError
        `text` is no expression, names a column that is not there, or compares what cannot be compared.
    """
    node = parse(text)
    with _within_the_stack(text):
        return Query(text, tuple(_expression.columns(node)), node, schema, _expression.build(node, schema, text))


def parse(text: str) -> Node:
    """Return the expression as a tree, whatever columns there are; raises :class:`~live_telemetry_widget.errors.QueryError`."""
    if len(text) > LONGEST:
        msg = f"the expression is {len(text)} characters long; {LONGEST} is the most"
        raise QueryError(msg, text[:60], 0)
    with _within_the_stack(text):
        return _Parser(text).whole()


@contextlib.contextmanager
def _within_the_stack(text: str) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        msg = "the expression is nested deeper than calls may be where it is used; give it fewer brackets"
        raise QueryError(msg, text, 0) from None


def outcomes_in(text: str) -> list[str]:
    """Return the texts with which an expression compares the column ``outcome``.

    >>> outcomes_in("steps < 3 and (outcome == 'failed' or outcome in ['x'])")
    ['failed', 'x']
    """
    found: list[str] = []
    left: list[object] = [parse(text)]
    while left:
        node = left.pop()
        if not dataclasses.is_dataclass(node):
            continue
        parts = [part for field in dataclasses.fields(node) for part in _flat(getattr(node, field.name))]
        if any(isinstance(part, Column) and part.name == "outcome" for part in parts):
            found += [part.value for part in parts if isinstance(part, Literal) and isinstance(part.value, str)]
        left += reversed(parts)
    return found


def _flat(part: object) -> tuple[object, ...]:
    return part if isinstance(part, tuple) else (part,)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._cut()
        self._next = 0
        self._depth = 0
        self._signs = 0

    def _cut(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            found = _TOKEN.match(self._text, at)
            if found is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                letter = self._text[at]
                closed = (
                    "the text is not closed" if letter in "'\"" else "the name is not closed" if letter == "`" else ""
                )
                self._fail(closed or f"{letter!r} has no meaning here", at)
            kind = found.lastgroup or "end"
            tokens.append(_Token(kind, found[kind], found.start(kind)))
            at = found.end()
        return tokens

    def _fail(self, reason: str, at: int) -> NoReturn:
        raise QueryError(reason, self._text, at)

    # -- tokens ------------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        # Numbers and commas are cheap: a list may be long.
        self._signs += token.kind in {"sign", "word"} and token.text != ","
        if self._signs > 3 * MOST:
            self._fail(f"the expression is longer than {MOST} comparisons", token.at)
        if token.kind != "end":
            self._next += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._token.kind in {"sign", "word"} and self._token.text in texts

    def _takes(self, text: str) -> bool:
        return bool(self._is(text) and self._take())

    def _expect(self, text: str, after: str) -> None:
        if not self._takes(text):
            self._fail(f"{text} is missing after {after}", self._token.at)

    def _unexpected(self, wanted: str) -> NoReturn:
        token = self._token
        if token.kind == "end":
            self._fail(f"{wanted} is missing at the end" if self._text.strip() else "the expression is empty", token.at)
        meant = _MEANT.get(token.text)
        self._fail(f"write {meant} for {token.text}" if meant else f"{wanted} is missing before {token.text}", token.at)

    # -- grammar -----------------------------------------------------------------------------------------------------

    def whole(self) -> Node:
        node = self._or()
        if self._token.kind != "end":
            self._unexpected("and, or or a comparison")
        return node

    def _or(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            self._fail(f"the expression is nested deeper than {DEEPEST}", self._token.at)
        node = self._and()
        while self._is("or"):
            node = Operation(self._take().at, "or", node, self._and())
        self._depth -= 1
        return node

    def _and(self) -> Node:
        node = self._not()
        while self._is("and"):
            node = Operation(self._take().at, "and", node, self._not())
        return node

    def _not(self) -> Node:
        signs = []
        while self._is("not"):
            signs.append(self._take().at)
        node = self._comparison()
        for at in reversed(_few(signs)):
            node = Call(at, "not", node)
        return node

    def _comparison(self) -> Node:
        left = self._sum()
        token = self._token
        if self._is(*_COMPARISONS):
            self._take()
            right = self._sum()
            if self._is(*_COMPARISONS):
                self._fail("one comparison at a time: write 1 < x and x < 3", self._token.at)
            return Operation(token.at, token.text, left, right)
        if self._is("is"):
            self._take()
            negated = self._takes("not")
            if not self._takes("null"):
                self._unexpected("null")
            return _negated(negated, token.at, IsNull(token.at, left))
        if self._is("in", "not"):
            negated = self._takes("not")
            if not self._takes("in"):
                self._unexpected("in")
            return _negated(negated, token.at, In(token.at, left, self._list()))
        return left

    def _list(self) -> tuple[Literal, ...]:
        self._expect("[", "in")
        values: list[Literal] = []
        while not self._takes("]"):
            if values:
                self._expect(",", "a value of the list")
            sign = -1 if self._takes("-") else 1
            at = self._token.at
            found = self._value()
            value = found and found.value
            if sign < 0 and isinstance(value, int | float) and not isinstance(value, bool):
                found = Literal(at, -value)
            elif found is None or sign < 0:
                self._fail("a list holds numbers, texts, true, false or null", at)
            values.append(found)
        return tuple(values)

    def _sum(self) -> Node:
        node = self._product()
        while self._is("+", "-"):
            token = self._take()
            node = Operation(token.at, token.text, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._sign()
        while self._is("*", "/", "%"):
            token = self._take()
            node = Operation(token.at, token.text, node, self._sign())
        return node

    def _sign(self) -> Node:
        signs = []
        while self._is("-"):
            signs.append(self._take().at)
        node = self._primary()
        for at in reversed(_few(signs)):
            node = Call(at, "-", node)
        return node

    def _primary(self) -> Node:
        token = self._token
        value = self._value()
        if value is not None:
            return value
        if self._takes("("):
            node = self._or()
            self._expect(")", "what is in brackets")
            return node
        if token.kind == "odd":
            return Column(self._take().at, token.text[1:-1])
        if token.kind == "word" and token.text not in _WORDS and token.text not in _MEANT:
            self._take()
            if self._takes("("):
                if token.text not in _FUNCTIONS:
                    self._fail(f"there is no function {token.text}; there are len and abs", token.at)
                node = self._or()
                self._expect(")", f"what {token.text} is of")
                return Call(token.at, token.text, node)
            return Column(token.at, token.text)
        return self._unexpected("a column or a value")

    def _value(self) -> Literal | None:
        token = self._token
        if token.kind == "number":
            if len(token.text) > LONGEST_NUMBER:
                self._fail(f"a number of {len(token.text)} characters; {LONGEST_NUMBER} is the most", token.at)
            whole = token.text.isdigit()
            value: Value = int(token.text) if whole else float(token.text)
        elif token.kind == "text":
            value = _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), token.text[1:-1])
        elif token.kind == "word" and token.text in _VALUES:
            value = _VALUES[token.text]
        else:
            return None
        self._take()
        return Literal(token.at, value)


def _few(signs: list[int]) -> list[int]:
    """Return one or two of signs that undo each other, or none; the last, where an error would be told of."""
    return signs[-2 + len(signs) % 2 :]


def _negated(negated: bool, at: int, node: Node) -> Node:  # noqa: FBT001 - the one thing it is about
    return Call(at, "not", node) if negated else node
