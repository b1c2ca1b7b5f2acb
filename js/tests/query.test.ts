// The expressions of tests/contract/query.json, which query.py is held to as well.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compileQuery, type QueryColumn, QueryError, type QueryKind } from "../src/query.ts";

interface Case {
  expression: string;
  matches?: number[];
  error?: string;
  position?: number;
  near?: string[];
}
interface Golden {
  columns: [name: string, kind: string][];
  rows: unknown[][];
  cases: Case[];
}

// What JSON cannot hold as a number is read as what it says.
const text = readFileSync(new URL("../../tests/contract/query.json", import.meta.url), "utf-8");
const golden = JSON.parse(text.replace(/(?<=[[ ,])(\d{16,})(?=,)/g, '"$1n"')) as Golden;

const KINDS: Record<string, QueryKind> = {
  int64: "number",
  uint64: "number",
  float64: "number",
  bool: "truth",
  label: "text",
  text: "text",
  json: "json",
  "json label": "json",
  list: "list",
  timestamp: "time",
  null: "nothing",
};

const columns = new Map<string, QueryColumn>(
  golden.columns.map(([name, kind], place) => [
    name,
    {
      kind: KINDS[kind] as QueryKind,
      at(row) {
        const value = golden.rows[row]?.[place] ?? null;
        if (kind === "timestamp") return value === null ? null : Date.parse(String(value));
        return kind === "uint64" && typeof value === "string" ? BigInt(value.slice(0, -1)) : value;
      },
    },
  ]),
);

describe("an expression", () => {
  it("is held to cases of both sorts", () => {
    expect(golden.cases.filter((one) => one.matches).length).toBeGreaterThan(50);
    expect(golden.cases.filter((one) => one.error).length).toBeGreaterThan(20);
    expect(columns.get("episode_seed")?.at(3)).toBe(18446744073709551615n);
  });

  it.each(golden.cases.filter((one) => one.matches))("selects the rows: $expression", ({ expression, matches }) => {
    const selects = compileQuery(expression, columns);
    expect(golden.rows.map((_, row) => row).filter(selects)).toEqual(matches);
  });

  it.each(golden.cases.filter((one) => one.error))(
    "is refused: $expression",
    ({ expression, error, position, near }) => {
      let caught: unknown;
      try {
        compileQuery(expression, columns);
      } catch (thrown) {
        caught = thrown;
      }
      expect(caught).toBeInstanceOf(QueryError);
      const { reason, position: at, near: names } = caught as QueryError;
      expect({ reason, at, names }).toEqual({ reason: error, at: position, names: near });
    },
  );
});
