import { expect, test } from "vitest";
import { type Row, toArrow } from "../fake-kernel.ts";
import { type Frame, frameFrom } from "../src/frames.ts";
import { KeyedRows, type RowSource, SparseRows } from "../src/rows.ts";

const HIDDEN = new Set(["run_id", "row"]);
const WHEN_ANY = new Set(["worker_id"]);
const frame = (rows: Row[]): Frame => frameFrom(toArrow(rows));
const steps = (first: number, count: number, say = "v"): Frame =>
  frame(Array.from({ length: count }, (_, i) => ({ step_index: first + i, action: `${say}${first + i}` })));
const actionAt = (rows: RowSource, number: number): unknown => {
  const held = rows.row(number);
  return held?.frame.columns.get("action")?.at(held.index) ?? null;
};
const sparse = (budget?: number): SparseRows => new SparseRows(HIDDEN, WHEN_ANY, budget);

test("rows are found by number in whatever order blocks came, and holes are holes", () => {
  const rows = sparse();
  rows.insert(10, steps(10, 5), 30);
  rows.insert(0, steps(0, 5), 30);
  rows.insert(20, steps(20, 5), 30);
  expect(rows.total).toBe(30);
  for (const number of [0, 4, 10, 14, 20, 24]) expect(actionAt(rows, number)).toBe(`v${number}`);
  for (const number of [5, 9, 15, 19, 25, 29, 30, -1]) expect(rows.row(number)).toBeNull();
});

test("says what is missing", () => {
  const rows = sparse();
  rows.insert(10, steps(10, 5), 30);
  expect(rows.missing(0, 12)).toEqual({ first: 0, end: 10 });
  expect(rows.missing(10, 15)).toBeNull();
  expect(rows.missing(12, 40)).toEqual({ first: 15, end: 30 });
  expect(rows.missing(-5, 3)).toEqual({ first: 0, end: 3 });
  expect(rows.missing(30, 40)).toBeNull();
});

test("a later copy of rows replaces them, and only them", () => {
  const rows = sparse();
  rows.insert(0, steps(0, 20), 20);
  rows.insert(5, steps(5, 5, "new"), 20);
  expect(Array.from({ length: 20 }, (_, i) => actionAt(rows, i))).toEqual(
    Array.from({ length: 20 }, (_, i) => `${i >= 5 && i < 10 ? "new" : "v"}${i}`),
  );
});

test("agrees with a plain array over any inserts", () => {
  // A small generator of our own, so that a failure comes again.
  let seed = 12345;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed % below;
  };
  const rows = sparse();
  const model: (string | undefined)[] = new Array(400);
  for (let round = 0; round < 300; round++) {
    const [first, count] = [random(360), 1 + random(40)];
    rows.insert(first, steps(first, count, `r${round}-`), 400);
    for (let i = 0; i < count; i++) model[first + i] = `r${round}-${first + i}`;
    if (round % 20 === 0) {
      expect(model.map((_, i) => actionAt(rows, i) ?? undefined)).toEqual(model.map((held) => held));
    }
  }
  for (let i = 0; i < 400; i++) expect(actionAt(rows, i) ?? undefined).toBe(model[i]);
});

test("a slow run does not become a thousand frames of one row", () => {
  const rows = sparse();
  for (let i = 0; i < 1000; i++) rows.insert(i, steps(i, 1), i + 1);
  expect(rows.blockCount).toBeLessThan(20);
  for (let i = 0; i < 1000; i++) expect(actionAt(rows, i)).toBe(`v${i}`);
});

test("keyframes that overlap do not keep each other's buffers alive", () => {
  const rows = sparse();
  const one = steps(0, 500).bytes;
  for (let i = 0; i < 40; i++) rows.insert(i * 5, steps(i * 5, 500), i * 5 + 500);
  expect(rows.bytes).toBeLessThan(4 * one);
});

test("memory is bounded: what was not looked at goes first, the newest rows never", () => {
  const budget = 10 * steps(0, 300).bytes;
  const rows = sparse(budget);
  for (let i = 0; i < 100; i++) {
    rows.insert(i * 300, steps(i * 300, 300), (i + 1) * 300);
    expect(actionAt(rows, 0)).toBe("v0");
  }
  expect(rows.bytes).toBeLessThanOrEqual(budget);
  expect(actionAt(rows, 29_999)).toBe("v29999");
  expect(rows.row(15_000)).toBeNull();

  const tiny = sparse(1);
  tiny.insert(0, steps(0, 300), 600);
  tiny.insert(300, steps(300, 300), 600);
  expect(tiny.row(0)).toBeNull();
  expect(actionAt(tiny, 599)).toBe("v599");
});

test("columns: in order of first sight, not the hidden ones, not those of nulls, a worker only when one is named", () => {
  const rows = sparse();
  rows.insert(0, frame([{ run_id: "r", worker_id: "", step_index: 0, note: null }]), 3);
  expect(rows.columns.map(({ name }) => name)).toEqual(["step_index"]);
  const before = rows.columnsRevision;
  rows.insert(1, frame([{ run_id: "r", worker_id: "w", step_index: 1, note: "late" }]), 3);
  expect(rows.columns.map(({ name }) => name)).toEqual(["step_index", "worker_id", "note"]);
  expect(rows.columnsRevision).toBeGreaterThan(before);
  const after = rows.columnsRevision;
  rows.insert(2, frame([{ step_index: 2 }]), 3);
  expect(rows.columnsRevision).toBe(after);
});

test("a column's kind widens with what comes: int, float, text", () => {
  const rows = sparse();
  const kind = (): string | undefined => rows.columns.find(({ name }) => name === "x")?.kind;
  rows.insert(0, frame([{ step_index: 0, x: 1 }]), 3);
  rows.insert(1, frame([{ step_index: 1, x: 0.5 }]), 3);
  expect(kind()).toBe("float");
  rows.insert(2, frame([{ step_index: 2, x: "many" }]), 3);
  expect(kind()).toBe("text");
});

test("episodes stand under their row number, the latest copy counting", () => {
  const rows = new KeyedRows(HIDDEN, WHEN_ANY);
  rows.insert(
    0,
    frame([
      { row: 0, action: "a" },
      { row: 1, action: "running" },
    ]),
    2,
  );
  rows.insert(
    1,
    frame([
      { row: 1, action: "ended" },
      { row: 4, action: "e" },
    ]),
    5,
  );
  expect([0, 1, 2, 4].map((number) => actionAt(rows, number))).toEqual(["a", "ended", null, "e"]);
  expect(rows.missing(0, 5)).toEqual({ first: 2, end: 4 });
  expect(rows.columns.map(({ name }) => name)).toEqual(["action"]);
});

test("episodes are bounded too; what was not sent again for longest goes", () => {
  const rows = new KeyedRows(HIDDEN, WHEN_ANY, 3);
  for (let row = 0; row < 5; row++) rows.insert(row, frame([{ row, action: `e${row}` }]), 5);
  expect(rows.size).toBe(3);
  expect([0, 4].map((number) => actionAt(rows, number))).toEqual([null, "e4"]);
});
