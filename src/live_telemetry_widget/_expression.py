"""An expression of :mod:`~live_telemetry_widget.query` as a tree, what kind each of its parts is, and its values over a table's columns.

Labels (dictionaries) are compared by their few distinct texts, not row by row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _json
from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.schema import CORE, JSON_KIND, OUTCOMES, TEXT, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Value: TypeAlias = float | str | bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class Literal:
    """A value that was written down."""

    at: int
    value: Value


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column by its name."""

    at: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """Two parts with a sign or word between them."""

    at: int
    sign: str
    left: Node
    right: Node


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """``not``, ``-``, ``len`` or ``abs`` of something."""

    at: int
    name: str
    inner: Node


@dataclasses.dataclass(frozen=True, slots=True)
class In:
    """Whether something is one of some values."""

    at: int
    item: Node
    values: tuple[Literal, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class IsNull:
    """Whether a value is missing."""

    at: int
    inner: Node


Node: TypeAlias = Literal | Column | Operation | Call | In | IsNull


class Kind(enum.Enum):
    """What a part of an expression is; the value is its name for people."""

    NUMBER = "a number"
    TEXT = "text"
    TRUTH = "true or false"
    TIME = "a time"
    JSON = "JSON"
    LIST = "a list"
    NOTHING = "null"


@dataclasses.dataclass(frozen=True, slots=True)
class Compiled:
    """A part of an expression: what it is, and how its values come about: a chunked array, or a scalar that holds for all rows."""

    kind: Kind
    values: Callable[[pa.Table], Any]
    said: str


_SIGNS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "and": pc.and_kleene,
    "or": pc.or_kleene,
    "+": pc.add,
    "-": pc.subtract,
    "*": pc.multiply,
    "/": pc.divide,
    "%": lambda left, right: pc.subtract(left, pc.multiply(pc.floor(pc.divide(left, right)), right)),
}
#: So many columns are named in an error.
_MOST_NAMES: Final = 20
_EQUALITY: Final = frozenset({"==", "!="})
_LOGIC: Final = frozenset({"and", "or"})
_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%"})
#: Holds all values of all types of integers.
_WIDEST: Final = pa.decimal128(20, 0)
_FLOAT: Final = pa.float64()
_JSON_NUMBER: Final = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
#: What nanoseconds since 1970 reach, in 64 bits.
_TIMES: Final = "1677-09-21 to 2262-04-11"
_TYPES: Final = {Kind.NUMBER: _FLOAT, Kind.TEXT: TEXT, Kind.TRUTH: pa.bool_(), Kind.TIME: TIMESTAMP}


def is_json(field: pa.Field) -> bool:
    """Whether a column's texts are JSON documents."""
    return bool(field.metadata) and (field.metadata.get(b"kind") == JSON_KIND[b"kind"])


def columns(node: Node) -> Iterator[str]:
    """Yield the names of the columns that a tree reads, each once, in order."""
    return iter(dict.fromkeys(_names(node)))


def _names(node: Node) -> Iterator[str]:
    # Not by recursion: a chain of hundreds of terms is a tree as deep.
    left: list[Node] = [node]
    while left:
        node = left.pop()
        if isinstance(node, Column):
            yield node.name
        elif isinstance(node, Operation):
            left += (node.right, node.left)
        elif isinstance(node, Call | IsNull):
            left.append(node.inner)
        elif isinstance(node, In):
            left.append(node.item)


def mask(compiled: Compiled, table: pa.Table) -> pa.BooleanArray:
    """Return for each row whether the expression is true of it."""
    found = compiled.values(table)
    if isinstance(found, pa.Scalar):
        return pa.repeat(pa.scalar(found.as_py() is True), table.num_rows)
    found = pc.fill_null(found, fill_value=False)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def build(node: Node, schema: pa.Schema, text: str) -> Compiled:
    """Return the whole expression for tables of some columns; raises QueryError where it does not fit them."""
    compiled = _Builder(schema, text).part(node)
    if compiled.kind not in {Kind.TRUTH, Kind.NOTHING}:
        if compiled.kind is not Kind.JSON:
            msg = f"{compiled.said} is {compiled.kind.value}, not a condition; compare it with something"
            raise QueryError(msg, text, node.at)
        compiled = _as(compiled, Kind.TRUTH)
    return compiled


class _Builder:
    def __init__(self, schema: pa.Schema, text: str) -> None:
        self._schema, self._text = schema, text

    def _refuse(self, reason: str, at: int, near: tuple[str, ...] = ()) -> NoReturn:
        raise QueryError(reason, self._text, at, near)

    def part(self, node: Node) -> Compiled:
        match node:
            case Literal():
                made = _literal(node.value)
            case Column():
                made = self._column(node)
            case Call():
                made = self._call(node)
            case IsNull():
                made = _is_null(self.part(node.inner))
            case In():
                made = self._in(node)
            case Operation():
                made = self._operation(node)
        return made

    def _operation(self, node: Operation) -> Compiled:
        if node.sign in _LOGIC:
            return self._chain(node, _LOGIC, Kind.TRUTH)
        if node.sign in _ARITHMETIC:
            return self._chain(node, _ARITHMETIC, Kind.NUMBER)
        left, right = self.part(node.left), self.part(node.right)
        return self._contains(node, left, right) if node.sign == "contains" else self._compare(node, left, right)

    def _chain(self, node: Operation, signs: frozenset[str], kind: Kind) -> Compiled:
        """Return ``a + b - c ...``, calculated from the left: term by term, as a chain may be longer than calls may be nested."""
        chain = [node]
        while isinstance(inner := chain[-1].left, Operation) and inner.sign in signs:
            chain.append(inner)
        chain.reverse()
        made = _as_float if kind is Kind.NUMBER else lambda part: part
        first = self.part(chain[0].left)
        said = [first.said]
        steps: list[tuple[Callable[[Any, Any], Any], Compiled]] = []
        for at, operation in enumerate(chain):
            right = self.part(operation.right)
            if not at:
                first = made(self._needs(first, kind, operation))
            steps.append((_SIGNS[operation.sign], made(self._needs(right, kind, operation))))
            said += [operation.sign, right.said]

        def values(table: pa.Table) -> Any:  # noqa: ANN401 - an array or scalar of Arrow's
            found = first.values(table)
            for function, right in steps:
                found = function(found, right.values(table))
            return found

        return Compiled(kind, values, " ".join(said))

    def _column(self, node: Column) -> Compiled:
        at = self._schema.get_field_index(node.name)
        if at < 0:
            names = self._schema.names
            if names.count(node.name) > 1:
                self._refuse(f"there are {names.count(node.name)} columns of the name {node.name!r}", node.at)
            lower = {name.lower(): name for name in names}
            near = tuple(lower[found] for found in difflib.get_close_matches(node.name.lower(), lower, 3))
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {_some(names)}"
            if node.name in OUTCOMES:
                hint = f"for the text write '{node.name}'"
            self._refuse(f"there is no column {node.name!r}; {hint}", node.at, near)
        field = self._schema.field(at)
        kind = _kind(field)
        if kind is None:
            self._refuse(f"column {node.name!r} holds {field.type}, which cannot be compared", node.at)
        name = node.name
        return Compiled(kind, lambda table: table.column(name), name)

    def _needs(self, part: Compiled, kind: Kind, node: Operation | Call) -> Compiled:
        if part.kind is kind:
            return part
        if part.kind in {Kind.JSON, Kind.NOTHING}:
            return _as(part, kind)
        sign = node.sign if isinstance(node, Operation) else node.name
        return self._refuse(f"{sign} needs {kind.value}; {part.said} is {part.kind.value}", node.at)

    def _call(self, node: Call) -> Compiled:
        inner = self.part(node.inner)
        if node.name == "not":
            return _not(self._needs(inner, Kind.TRUTH, node))
        if node.name == "len":
            if inner.kind is Kind.LIST:
                return Compiled(
                    Kind.NUMBER, lambda table: pc.list_value_length(inner.values(table)), f"len({inner.said})"
                )
            text = inner if inner.kind is Kind.JSON else self._needs(inner, Kind.TEXT, node)
            return Compiled(
                Kind.NUMBER, lambda table: _by_text(pc.utf8_length, text.values(table)), f"len({inner.said})"
            )
        number = _as_float(self._needs(inner, Kind.NUMBER, node))
        function = pc.negate if node.name == "-" else pc.abs
        said = f"-{inner.said}" if node.name == "-" else f"abs({inner.said})"
        return Compiled(Kind.NUMBER, lambda table: function(number.values(table)), said)

    def _contains(self, node: Operation, left: Compiled, right: Compiled) -> Compiled:
        if not isinstance(node.right, Literal) or not isinstance(node.right.value, str):
            self._refuse(f"contains is followed by a text in quotes; {right.said} is none", node.right.at)
        # JSON is looked through as it is written.
        text = left if left.kind is Kind.JSON else self._needs(left, Kind.TEXT, node)
        part = node.right.value

        def values(table: pa.Table) -> Any:  # noqa: ANN401 - an array of Arrow's
            return _by_text(lambda texts: pc.match_substring(texts, part), text.values(table))

        return Compiled(Kind.TRUTH, values, f"{left.said} contains {right.said}")

    def _in(self, node: In) -> Compiled:
        item = self.part(node.item)
        same = [self._compare(Operation(v.at, "==", node.item, v), item, _literal(v.value)) for v in node.values]

        def values(table: pa.Table) -> Any:  # noqa: ANN401 - an array or scalar of Arrow's
            found = pa.scalar(value=False)
            for part in same:
                found = pc.or_kleene(found, part.values(table))
            return found

        return Compiled(Kind.TRUTH, values, f"{item.said} in [...]")

    def _compare(self, node: Operation, left: Compiled, right: Compiled) -> Compiled:
        sign = node.sign
        for part, other in ((left, node.right), (right, node.left)):
            if isinstance(other, Literal) and other.value is None:
                if sign not in _EQUALITY:
                    self._refuse("null is neither less nor greater; write is null or is not null", node.at)
                missing = _is_null(part)
                return missing if sign == "==" else _not(missing)
        left, right = self._matched(node, left, right)
        if left.kind is Kind.TRUTH and sign not in _EQUALITY:
            self._refuse(f"true and false have no order; compare {left.said} with == or !=", node.at)
        return _compared(sign, left, right)

    def _matched(self, node: Operation, left: Compiled, right: Compiled) -> tuple[Compiled, Compiled]:
        """Return both sides as the same kind."""
        if left.kind is Kind.TIME or right.kind is Kind.TIME:
            left, right = self._time(left, node.left), self._time(right, node.right)
        kinds = [part.kind for part in (left, right) if part.kind not in {Kind.JSON, Kind.NOTHING}]
        kind = kinds[0] if kinds else Kind.TEXT
        if Kind.LIST in kinds:
            said = left.said if left.kind is Kind.LIST else right.said
            self._refuse(f"{said} is a list; compare len({said})", node.at)
        if set(kinds) - {kind} or (kind is Kind.TIME and Kind.JSON in {left.kind, right.kind}):
            told = f"{left.said} is {left.kind.value}, {right.said} is {right.kind.value}"
            self._refuse(f"{told}: they cannot be compared", node.at)
        return _as(left, kind), _as(right, kind)

    def _time(self, part: Compiled, node: Node) -> Compiled:
        if part.kind is not Kind.TEXT or not isinstance(node, Literal):
            return part
        text = str(node.value)
        # A day alone, and a time without a zone, are in UTC.
        whole = text if len(text) > len("2026-11-25") else f"{text}T00:00:00"
        whole = whole.replace(" ", "T")
        clock = whole.partition("T")[2]
        zoned = whole if whole.endswith("Z") or "+" in clock or "-" in clock else f"{whole}Z"
        try:
            value = pa.scalar(zoned).cast(TIMESTAMP)
        except pa.ArrowInvalid:
            if _is_moment(zoned):
                self._refuse(f"{part.said} is beyond the times that are known here, {_TIMES}", node.at)
            self._refuse(f"{part.said} is no time; write it like '2026-11-25T10:00:00Z'", node.at)
        return Compiled(Kind.TIME, lambda _: value, part.said)


def _some(names: list[str]) -> str:
    """Return the names of columns, the run's own first; of many, how many more there are."""
    usual = {name for core in CORE.values() for name in core.names}
    ordered = sorted(names, key=lambda name: name in usual)
    more = len(ordered) - _MOST_NAMES
    return ", ".join(ordered[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _is_moment(text: str) -> bool:
    """Whether a text says a time, be it one that nanoseconds since 1970 reach or not."""
    try:
        pa.scalar(text).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        return False
    return True


def _kind(field: pa.Field) -> Kind | None:
    held = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_null(held):
        return Kind.NOTHING
    if pa.types.is_string(held) or pa.types.is_large_string(held):
        return Kind.JSON if is_json(field) else Kind.TEXT
    if pa.types.is_integer(held) or pa.types.is_floating(held):
        return Kind.NUMBER
    if pa.types.is_boolean(held):
        return Kind.TRUTH
    if pa.types.is_timestamp(held):
        return Kind.TIME
    return Kind.LIST if pa.types.is_list(held) else None


def _literal(value: Value) -> Compiled:
    if value is None:
        return Compiled(Kind.NOTHING, lambda _: pa.scalar(None), "null")
    if isinstance(value, bool):
        return Compiled(Kind.TRUTH, lambda _: pa.scalar(value), "true" if value else "false")
    if isinstance(value, str):
        return Compiled(Kind.TEXT, lambda _: pa.scalar(value), repr(value))
    return Compiled(Kind.NUMBER, lambda _: _number(value), f"{value}")


def _number(value: float) -> Any:  # noqa: ANN401 - a scalar of Arrow's
    if isinstance(value, int):
        for kind in (pa.int64(), pa.uint64()):
            with contextlib.suppress(OverflowError, pa.ArrowInvalid):
                return pa.scalar(value, kind)
    return pa.scalar(float(value), _FLOAT)


def _is_null(part: Compiled) -> Compiled:
    return Compiled(Kind.TRUTH, lambda table: pc.is_null(part.values(table)), f"{part.said} is null")


def _not(part: Compiled) -> Compiled:
    return Compiled(Kind.TRUTH, lambda table: pc.invert(part.values(table)), f"not {part.said}")


def _as_float(part: Compiled) -> Compiled:
    return dataclasses.replace(part, values=lambda table: _float(part.values(table)))


def _float(values: Any) -> Any:  # noqa: ANN401 - an array or scalar of Arrow's
    return values if values.type == _FLOAT else values.cast(_FLOAT, safe=False)


def _as(part: Compiled, kind: Kind) -> Compiled:
    """Return JSON, or nothing, as the kind that it is compared with; missing where it is another."""
    if part.kind is Kind.NOTHING:
        return Compiled(kind, lambda table: part.values(table).cast(_TYPES[kind]), part.said)
    if part.kind is Kind.JSON:
        read = {Kind.NUMBER: _json_numbers, Kind.TEXT: _json_strings, Kind.TRUTH: _json_truths}[kind]
        return Compiled(kind, lambda table: _by_text(read, part.values(table)), part.said)
    return part


def _compared(sign: str, left: Compiled, right: Compiled) -> Compiled:
    function = _SIGNS[sign]

    def values(table: pa.Table) -> Any:  # noqa: ANN401 - an array or scalar of Arrow's
        a, b = left.values(table), right.values(table)
        if left.kind is Kind.NUMBER:
            return function(*_alike(a, b))
        if left.kind is Kind.TEXT:
            if isinstance(b, pa.Scalar):
                return _by_text(lambda texts: function(texts, b), a)
            if isinstance(a, pa.Scalar):
                return _by_text(lambda texts: function(a, texts), b)
            return function(a.cast(TEXT), b.cast(TEXT))
        return function(a, b)

    return Compiled(Kind.TRUTH, values, f"{left.said} {sign} {right.said}")


def _alike(a: Any, b: Any) -> tuple[Any, Any]:  # noqa: ANN401 - arrays or scalars of Arrow's
    """Return two numbers' values in one type that rounds no integer of a column; float64 where one side is of floats."""
    if a.type == b.type:
        return a, b
    for one, other, turned in ((a, b, False), (b, a, True)):
        if isinstance(other, pa.Scalar) and other.is_valid and pa.types.is_integer(one.type):
            held, fitted = _fitted(one, other)
            if fitted is not None:
                return (fitted, held) if turned else (held, fitted)
    if pa.types.is_integer(a.type) and pa.types.is_integer(b.type):
        return a.cast(_WIDEST), b.cast(_WIDEST)
    return _float(a), _float(b)


def _fitted(column: Any, scalar: Any) -> tuple[Any, Any]:  # noqa: ANN401 - values and a scalar of Arrow's
    """Return integers, and a number to compare them with, in their type; the number None where it is no whole one."""
    value = scalar.as_py()
    if not isinstance(value, int) and not (math.isfinite(value) and value.is_integer()):
        return column, None
    try:
        return column, pa.scalar(int(value), column.type)
    except (OverflowError, pa.ArrowInvalid):
        # Beyond what they can be: then all of them are less, or greater, as nought is.
        nought = pc.if_else(pc.is_valid(column), pa.scalar(0, pa.int64()), pa.scalar(None, pa.int64()))
        return nought, pa.scalar(1 if value > 0 else -1, pa.int64())


def _by_text(function: Callable[[Any], Any], values: Any) -> Any:  # noqa: ANN401 - an array or scalar of Arrow's
    """Return a function of texts, over labels by their distinct texts."""
    if isinstance(values, pa.Scalar) or not pa.types.is_dictionary(values.type):
        return function(values)
    parts = [function(chunk.dictionary).take(chunk.indices) for chunk in values.chunks]
    return pa.chunked_array(parts) if parts else function(values.cast(TEXT))


def _json_numbers(texts: Any) -> Any:  # noqa: ANN401 - an array of Arrow's
    is_number = pc.match_substring_regex(texts, _JSON_NUMBER)
    return pc.if_else(is_number, texts, pa.scalar(None, TEXT)).cast(_FLOAT)


def _json_truths(texts: Any) -> Any:  # noqa: ANN401 - an array of Arrow's
    is_truth = pc.or_kleene(pc.equal(texts, "true"), pc.equal(texts, "false"))
    return pc.if_else(is_truth, pc.equal(texts, "true"), pa.scalar(None, pa.bool_()))


def _json_strings(texts: Any) -> Any:  # noqa: ANN401 - an array of Arrow's
    quoted = pc.starts_with(texts, '"')
    if not pc.any(quoted).as_py():
        return texts
    if isinstance(texts, pa.ChunkedArray):
        return pa.chunked_array([_json_strings(chunk) for chunk in texts.chunks], TEXT)
    return pa.array([_string(text) for text in texts.to_pylist()], TEXT)


def _string(text: str | None) -> str | None:
    if text is None or not text.startswith('"'):
        return text
    return str(_json.read(text))
