// DataView -> columns of a table. The only file that knows Arrow.

import { type Column as ArrowColumn, tableFromIPC } from "@uwdata/flechette";

export type Kind = "int" | "float" | "bool" | "text" | "time" | "list";

export interface Column {
  readonly name: string;
  readonly kind: Kind;
  /** Whether every value is null. */
  readonly empty: boolean;
  /** The value at a row: number, bigint (only where a number would not be exact), boolean, string, list or null. Time is milliseconds since 1970. */
  at(row: number): unknown;
}

export interface Frame {
  readonly rows: number;
  /** What it costs to keep. */
  readonly bytes: number;
  readonly columns: ReadonlyMap<string, Column>;
}

/** Read an Arrow IPC stream. The view's part of its buffer is copied, so that a kept frame does not keep the message it came in. */
export function frameFrom(view: DataView): Frame {
  const bytes = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength).slice();
  const table = tableFromIPC(bytes, { useBigInt: true, useDate: false });
  const columns = new Map<string, Column>();
  for (const name of table.names as string[]) {
    const held = table.getChild(name) as ArrowColumn<unknown>;
    columns.set(name, wrap(name, held, table.numRows));
  }
  return { rows: table.numRows, bytes: bytes.byteLength, columns };
}

/** Return rows of frames, one after another, as one frame of their own, which keeps nothing else alive. */
export function joined(parts: readonly { frame: Frame; offset: number; count: number }[]): Frame {
  const rows = parts.reduce((sum, part) => sum + part.count, 0);
  const names = new Map<string, Kind>();
  for (const { frame } of parts) {
    for (const { name, kind } of frame.columns.values()) {
      const held = names.get(name);
      names.set(name, held === undefined ? kind : widened(held, kind));
    }
  }
  const columns = new Map<string, Column>();
  for (const [name, kind] of names) {
    const values: unknown[] = [];
    for (const { frame, offset, count } of parts) {
      const column = frame.columns.get(name);
      for (let i = 0; i < count; i++) values.push(column ? column.at(offset + i) : null);
    }
    const empty = values.every((value) => value === null);
    columns.set(name, { name, kind, empty, at: (row) => values[row] ?? null });
  }
  return { rows, bytes: rows * names.size * 24, columns };
}

/** The narrowest kind that shows the values of both. */
export function widened(left: Kind, right: Kind): Kind {
  if (left === right) return left;
  const numbers = (left === "int" || left === "float") && (right === "int" || right === "float");
  return numbers ? "float" : "text";
}

// Arrow's own numbers of its types (Schema.fbs, union Type); flechette keeps them as typeId, with -1 for a dictionary.
const KINDS: Record<number, Kind> = {
  2: "int",
  3: "float",
  6: "bool",
  7: "float",
  8: "time",
  10: "time",
  12: "list",
  16: "list",
  21: "list",
};
const DICTIONARY = -1;

function wrap(name: string, column: ArrowColumn<unknown>, rows: number): Column {
  let type = column.type as { typeId: number; dictionary?: { typeId: number } };
  if (type.typeId === DICTIONARY && type.dictionary) type = type.dictionary;
  return {
    name,
    kind: KINDS[type.typeId] ?? "text",
    empty: column.nullCount >= rows,
    at: (row) => plain(column.at(row)),
  };
}

function plain(value: unknown): unknown {
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  return value === undefined ? null : value;
}
