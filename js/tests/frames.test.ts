import {
  dictionary,
  float64,
  int32,
  int64,
  list,
  tableFromArrays,
  tableToIPC,
  timestamp,
  uint64,
  utf8,
} from "@uwdata/flechette";
import { expect, test } from "vitest";
import { toArrow } from "../fake-kernel.ts";
import { frameFrom, joined } from "../src/frames.ts";

function ipc(columns: Record<string, unknown[]>, types: Record<string, unknown> = {}): DataView {
  const bytes = tableToIPC(tableFromArrays(columns, { types: types as never, useBigInt: true }), {
    format: "stream",
  }) as Uint8Array;
  return new DataView(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

test.each([0, 1, 4, 8, 13])("reads a stream that starts at byte %i of its buffer and ends before it does", (offset) => {
  const whole = ipc({ reward: [1.5, null, -2] }, { reward: float64() });
  const buffer = new Uint8Array(whole.byteLength + offset + 9).fill(0xff);
  buffer.set(new Uint8Array(whole.buffer, whole.byteOffset, whole.byteLength), offset);
  const frame = frameFrom(new DataView(buffer.buffer, offset, whole.byteLength));
  expect(frame.rows).toBe(3);
  expect([0, 1, 2].map((i) => frame.columns.get("reward")?.at(i))).toEqual([1.5, null, -2]);
});

test("a kept frame does not change with the buffer it came in", () => {
  const view = ipc({ action: ["up"] }, { action: utf8() });
  const frame = frameFrom(view);
  new Uint8Array(view.buffer).fill(0);
  expect(frame.columns.get("action")?.at(0)).toBe("up");
});

test("64-bit integers are numbers where that is exact, and exact where it is not", () => {
  const frame = frameFrom(
    ipc({ episode: [3n, -4n], seed: [2n ** 63n + 1n, null] }, { episode: int64(), seed: uint64() }),
  );
  expect(frame.columns.get("episode")?.at(1)).toBe(-4);
  expect(frame.columns.get("seed")?.at(0)).toBe(9223372036854775809n);
  expect(frame.columns.get("seed")?.at(1)).toBeNull();
});

test("time stamps are milliseconds since 1970, whatever their unit", () => {
  const at = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
  for (const unit of [1, 2, 3] as const) {
    const frame = frameFrom(ipc({ timestamp: [at] }, { timestamp: timestamp(unit, "UTC") }));
    expect(frame.columns.get("timestamp")?.kind).toBe("time");
    expect(frame.columns.get("timestamp")?.at(0)).toBeCloseTo(at, 2);
  }
});

test("dictionaries are what they stand for; lists are lists; a column of nulls is empty", () => {
  const frame = frameFrom(
    ipc(
      { agent_id: ["a", "b", "a"], path: [[1, 2], null, []], nothing: [null, null, null] },
      { agent_id: dictionary(utf8(), int32()), path: list(float64()), nothing: float64() },
    ),
  );
  const agent = frame.columns.get("agent_id");
  expect([agent?.kind, agent?.at(1), agent?.empty]).toEqual(["text", "b", false]);
  expect(frame.columns.get("path")?.kind).toBe("list");
  expect(frame.columns.get("nothing")?.empty).toBe(true);
});

test("a table of no rows has its columns, all empty", () => {
  const frame = frameFrom(toArrow([]));
  expect(frame.rows).toBe(0);
});

test("joined frames have the columns of all, and the kind that shows all", () => {
  const a = frameFrom(ipc({ x: [1, 2] }, { x: int32() }));
  const b = frameFrom(ipc({ x: [0.5], y: ["new"] }, { x: float64(), y: utf8() }));
  const both = joined([
    { frame: a, offset: 1, count: 1 },
    { frame: b, offset: 0, count: 1 },
  ]);
  expect(both.rows).toBe(2);
  expect(both.columns.get("x")?.kind).toBe("float");
  expect([0, 1].map((i) => both.columns.get("x")?.at(i))).toEqual([2, 0.5]);
  expect([0, 1].map((i) => both.columns.get("y")?.at(i))).toEqual([null, "new"]);
});
