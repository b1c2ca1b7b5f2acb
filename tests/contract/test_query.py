"""The expressions of query.json, which the page's twin is held to as well."""

from __future__ import annotations

import datetime as dt
import json
import pathlib
from typing import Any

import pyarrow as pa
import pytest

from live_telemetry_widget import query
from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.schema import JSON_KIND, LABEL, TEXT, TIMESTAMP

GOLDEN = json.loads(pathlib.Path(__file__).with_name("query.json").read_text(encoding="utf-8"))
TYPES = {
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "label": LABEL,
    "text": TEXT,
    "json": TEXT,
    "json label": LABEL,
    "list": pa.list_(pa.float64()),
    "timestamp": TIMESTAMP,
    "null": pa.null(),
}


def golden_table(rows: list[list[Any]]) -> pa.Table:
    fields = [
        pa.field(name, TYPES[kind], metadata=JSON_KIND if "json" in kind else None) for name, kind in GOLDEN["columns"]
    ]
    arrays = []
    for at, field in enumerate(fields):
        values = [row[at] for row in rows]
        if field.type == TIMESTAMP:
            values = [v and dt.datetime.fromisoformat(v) for v in values]
        arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


TABLE = golden_table(GOLDEN["rows"])
#: The same rows as they lie in memory after a while: in chunks, each with a dictionary of its own.
CHUNKED = pa.concat_tables([golden_table(GOLDEN["rows"][:2]), golden_table(GOLDEN["rows"][2:])])
RIGHT = [case for case in GOLDEN["cases"] if "matches" in case]
WRONG = [case for case in GOLDEN["cases"] if "error" in case]


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case["expression"])
def test_expression_selects_the_rows(case: dict[str, Any]) -> None:
    for table in (TABLE, CHUNKED):
        mask = query.compile(case["expression"], table.schema).mask(table)
        assert mask.type == pa.bool_()
        assert mask.null_count == 0
        assert [at for at, held in enumerate(mask.to_pylist()) if held] == case["matches"]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case["expression"])
def test_expression_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(QueryError) as caught:
        query.compile(case["expression"], TABLE.schema)
    error = caught.value
    assert (error.reason, error.position, list(error.near)) == (case["error"], case["position"], case["near"])
    assert str(error).startswith(case["error"])
