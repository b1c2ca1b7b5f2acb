// Rows of a table by number, as far as the page holds them. No DOM, no model.

import { type Column, type Frame, joined, type Kind, widened } from "./frames.ts";

/** A row that is held: its frame and its place in it. */
export interface Held {
  frame: Frame;
  index: number;
}

export interface ColumnInfo {
  name: string;
  kind: Kind;
}

export interface RowSource {
  /** How many rows the table has in all, here or not. */
  readonly total: number;
  /** Grows when `columns` changes. */
  readonly columnsRevision: number;
  readonly columns: readonly ColumnInfo[];
  row(number: number): Held | null;
  /** The first stretch in [first, end) that is not held. */
  missing(first: number, end: number): { first: number; end: number } | null;
}

/** Every column that had a value once, in order of first sight, with a kind that shows all of its values. */
export class Columns {
  revision = 0;
  readonly list: ColumnInfo[] = [];
  readonly #byName = new Map<string, ColumnInfo>();

  /** `hidden` are never listed; `whenAny` only once a value is not the empty string. */
  constructor(
    private readonly hidden: ReadonlySet<string>,
    private readonly whenAny: ReadonlySet<string>,
  ) {}

  add(frame: Frame): void {
    for (const column of frame.columns.values()) {
      const { name, kind, empty } = column;
      if (empty || this.hidden.has(name)) continue;
      const held = this.#byName.get(name);
      if (held) {
        const kindOfBoth = widened(held.kind, kind);
        if (kindOfBoth === held.kind) continue;
        held.kind = kindOfBoth;
      } else {
        if (this.whenAny.has(name) && !hasText(column, frame.rows)) continue;
        const info = { name, kind };
        this.list.push(info);
        this.#byName.set(name, info);
      }
      this.revision++;
    }
  }

  clear(): void {
    this.list.length = 0;
    this.#byName.clear();
    this.revision++;
  }
}

function hasText(column: Column, rows: number): boolean {
  for (let i = 0; i < rows; i++) {
    const value = column.at(i);
    if (value !== null && value !== "") return true;
  }
  return false;
}

interface Block {
  first: number;
  count: number;
  frame: Frame;
  /** Where the block's first row is in its frame. */
  offset: number;
  used: number;
}

/** Blocks up to this many rows are joined with their neighbours, so that a slow run is not a thousand frames of one row. */
const JOIN_UP_TO = 256;

/**
 * A sparse table of contiguous blocks. What was looked at least recently goes when `budget` bytes are held; the newest
 * block always stays.
 */
export class SparseRows implements RowSource {
  total = 0;
  readonly #columns: Columns;
  readonly #blocks: Block[] = [];
  #tick = 0;
  #bytes = 0;

  constructor(
    hidden: ReadonlySet<string>,
    whenAny: ReadonlySet<string>,
    private readonly budget = 32_000_000,
  ) {
    this.#columns = new Columns(hidden, whenAny);
  }

  get columns(): readonly ColumnInfo[] {
    return this.#columns.list;
  }

  get columnsRevision(): number {
    return this.#columns.revision;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** How many rows are here. */
  get size(): number {
    return this.#blocks.reduce((sum, block) => sum + block.count, 0);
  }

  get blockCount(): number {
    return this.#blocks.length;
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#bytes = 0;
    this.total = 0;
    this.#columns.clear();
  }

  /** Put a frame's rows at `first`; where rows are held already, the new ones stand (they may be richer copies). */
  insert(first: number, frame: Frame, total: number): void {
    this.total = Math.max(total, first + frame.rows);
    if (frame.rows === 0) return;
    this.#columns.add(frame);
    const block = { first, count: frame.rows, frame, offset: 0, used: ++this.#tick };
    const at = this.#makeRoom(first, first + frame.rows);
    this.#blocks.splice(at, 0, block);
    this.#bytes += frame.bytes;
    this.#joinAround(at);
    this.#evict();
  }

  row(number: number): Held | null {
    const block = this.#blocks[this.#find(number)];
    if (!block || number >= block.first + block.count) return null;
    block.used = ++this.#tick;
    return { frame: block.frame, index: block.offset + (number - block.first) };
  }

  missing(first: number, end: number): { first: number; end: number } | null {
    let from = Math.max(0, first);
    const to = Math.min(end, this.total);
    for (let at = Math.max(0, this.#find(from)); from < to; at++) {
      const block = this.#blocks[at];
      if (!block || block.first >= to) return { first: from, end: to };
      if (block.first + block.count <= from) continue;
      if (block.first > from) return { first: from, end: block.first };
      from = block.first + block.count;
    }
    return null;
  }

  /** The last block that starts at or before a row; -1 when there is none. */
  #find(number: number): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#blocks[middle] as Block).first <= number) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Cut what is held in [first, end) away; return where a block of these rows belongs. */
  #makeRoom(first: number, end: number): number {
    let at = Math.max(0, this.#find(first));
    for (let block = this.#blocks[at]; block && block.first < end; block = this.#blocks[at]) {
      const blockEnd = block.first + block.count;
      if (blockEnd <= first) {
        at++;
        continue;
      }
      const before = first - block.first;
      const after = blockEnd - end;
      const rest: Block[] = [];
      if (before > 0) rest.push(this.#part(block, 0, before));
      if (after > 0) rest.push(this.#part(block, block.count - after, after));
      this.#bytes -= block.frame.bytes;
      for (const part of rest) this.#bytes += part.frame.bytes;
      this.#blocks.splice(at, 1, ...rest);
      if (before > 0) at++;
    }
    return at;
  }

  /** A part of a block; copied out when most of the frame would be kept alive for a few rows. */
  #part(block: Block, from: number, count: number): Block {
    const part = { ...block, first: block.first + from, offset: block.offset + from, count };
    if (count * 2 >= block.frame.rows) return part;
    return { ...part, frame: joined([part]), offset: 0 };
  }

  #joinAround(at: number): void {
    let right = Math.min(at + 1, this.#blocks.length - 1);
    while (right > 0 && right >= at - 1) {
      const a = this.#blocks[right - 1] as Block;
      const b = this.#blocks[right] as Block;
      const small = a.count <= JOIN_UP_TO && b.count <= JOIN_UP_TO;
      // As in a binary counter: a row is copied only so often.
      if (small && a.first + a.count === b.first && a.count <= 2 * b.count) {
        const frame = joined([a, b]);
        this.#bytes += frame.bytes - a.frame.bytes - b.frame.bytes;
        const used = Math.max(a.used, b.used);
        this.#blocks.splice(right - 1, 2, { first: a.first, count: frame.rows, frame, offset: 0, used });
        at = Math.min(at, right - 1);
      }
      right--;
    }
  }

  #evict(): void {
    while (this.#bytes > this.budget && this.#blocks.length > 1) {
      let oldest = 0;
      for (let i = 1; i < this.#blocks.length - 1; i++) {
        if ((this.#blocks[i] as Block).used < (this.#blocks[oldest] as Block).used) oldest = i;
      }
      this.#bytes -= (this.#blocks[oldest] as Block).frame.bytes;
      this.#blocks.splice(oldest, 1);
    }
  }
}

/** Rows that change after they came (an episode runs, then ends): each by its number, the newest copy standing. */
export class KeyedRows implements RowSource {
  total = 0;
  readonly #columns: Columns;
  readonly #rows = new Map<number, Held>();

  constructor(
    hidden: ReadonlySet<string>,
    whenAny: ReadonlySet<string>,
    private readonly most = 50_000,
  ) {
    this.#columns = new Columns(hidden, whenAny);
  }

  get columns(): readonly ColumnInfo[] {
    return this.#columns.list;
  }

  get columnsRevision(): number {
    return this.#columns.revision;
  }

  /** How many rows are here. */
  get size(): number {
    return this.#rows.size;
  }

  clear(): void {
    this.#rows.clear();
    this.total = 0;
    this.#columns.clear();
  }

  /** Take rows in; a frame without a `row` column is numbered from `first`. */
  insert(first: number, frame: Frame, total: number): void {
    const numbers = frame.columns.get("row");
    this.#columns.add(frame);
    let end = total;
    for (let index = 0; index < frame.rows; index++) {
      const number = numbers ? Number(numbers.at(index)) : first + index;
      if (!Number.isSafeInteger(number) || number < 0) continue;
      // Put at the end of the map's order: what was not refreshed for longest is at its start.
      this.#rows.delete(number);
      this.#rows.set(number, { frame, index });
      end = Math.max(end, number + 1);
    }
    this.total = end;
    for (const number of this.#rows.keys()) {
      if (this.#rows.size <= this.most) break;
      this.#rows.delete(number);
    }
  }

  row(number: number): Held | null {
    return this.#rows.get(number) ?? null;
  }

  /** The number of the first held row for which `test` holds. */
  find(test: (held: Held) => boolean): number | null {
    for (const [number, held] of this.#rows) if (test(held)) return number;
    return null;
  }

  missing(first: number, end: number): { first: number; end: number } | null {
    const to = Math.min(end, this.total);
    let from = Math.max(0, first);
    while (from < to && this.#rows.has(from)) from++;
    if (from >= to) return null;
    let stop = from;
    while (stop < to && !this.#rows.has(stop)) stop++;
    return { first: from, end: stop };
  }
}
