// A table in another order, or only some of its rows: the kernel arranges, the page asks for what it shows. No DOM.

import { frameFrom } from "./frames.ts";
import type { Answer, Clock, Link } from "./link.ts";
import type { TableName } from "./messages.ts";
import { type ColumnInfo, type Held, type RowSource, SparseRows } from "./rows.ts";
import { HIDDEN, WHEN_ANY } from "./run-state.ts";

export interface Wish {
  readonly where: string;
  /** A column, or "": as they came. */
  readonly sort: string;
  readonly descending: boolean;
}

export const AS_IT_IS: Wish = { where: "", sort: "", descending: false };

/** Why the kernel cannot do what is wished for. */
export interface Fault {
  reason: string;
  position: number;
  near: string[];
}

/** While rows come, what is shown is asked for anew so often. */
export const REFRESH_MS = 500;
const ASK_AFTER_MS = 30;
const ASK_AGAIN_MS = 2_000;
const MOST = 500;
const MOST_SORTED = 120;
const BUDGET = 8_000_000;

export class Arrangement implements RowSource {
  fault: Fault | null = null;
  /** How many rows the kernel looked at, of how many; null before its first answer. */
  progress: { scanned: number; of: number } | null = null;
  readonly #rows: SparseRows;
  #wanted = { first: 0, end: 60 };
  #asking = false;
  #stale = true;
  #stopTimer: (() => void) | null = null;
  #notBefore = 0;
  #closed = false;

  constructor(
    private readonly link: Pick<Link, "ask">,
    readonly table: TableName,
    readonly wish: Wish,
    private readonly changed: () => void,
    private readonly clock: Clock,
  ) {
    this.#rows = new SparseRows(HIDDEN, WHEN_ANY, BUDGET);
    this.#plan();
  }

  get total(): number {
    return this.#rows.total;
  }

  get columns(): readonly ColumnInfo[] {
    return this.#rows.columns;
  }

  get columnsRevision(): number {
    return this.#rows.columnsRevision;
  }

  row(number: number): Held | null {
    return this.#rows.row(number);
  }

  missing(first: number, end: number): { first: number; end: number } | null {
    return this.#rows.missing(first, end);
  }

  want(first: number, end: number): void {
    // Before the first answer, what is shown is another order.
    if (this.progress) this.#wanted = { first: Math.max(0, first), end };
    this.#plan();
  }

  /** There are new rows in the table. */
  grown(): void {
    this.#stale = true;
    this.#plan();
  }

  close(): void {
    this.#closed = true;
    this.#stopTimer?.();
  }

  #plan(): void {
    if (this.#closed || this.#asking || this.#stopTimer || this.fault) return;
    const { first, end } = this.#wanted;
    const missing = this.progress === null || this.#rows.missing(first, end) !== null;
    if (!missing && !this.#stale) return;
    const now = this.clock.now();
    const wait = Math.max(ASK_AFTER_MS, this.#notBefore - now);
    this.#stopTimer = this.clock.after(missing ? wait : Math.max(wait, REFRESH_MS), () => {
      this.#stopTimer = null;
      this.#ask();
    });
  }

  #ask(): void {
    const { first, end } = this.#wanted;
    const most = this.wish.sort ? MOST_SORTED : MOST;
    const gap = this.#stale ? { first, end } : (this.#rows.missing(first, end) ?? { first, end });
    this.#asking = true;
    this.#stale = false;
    this.link
      .ask("ask_rows", {
        table: this.table,
        first: gap.first,
        count: Math.min(most, gap.end - gap.first),
        ...this.wish,
      })
      .then((answer) => this.#take(answer))
      .catch(() => {
        this.#stale = true;
        this.#notBefore = this.clock.now() + ASK_AGAIN_MS;
      })
      .finally(() => {
        this.#asking = false;
        this.#plan();
      });
  }

  #take({ fields, spans, buffers }: Answer): void {
    if (this.#closed) return;
    this.fault = faultIn(fields.fault);
    const [span, buffer] = [spans[0], buffers[0]];
    if (span && buffer) {
      // Rows move when others come between them, and episodes come and go: what is not shown now is asked for when it is.
      if (this.wish.sort || this.table === "episodes" || span.total < this.#rows.total) this.#rows.clear();
      this.#rows.insert(Math.min(span.first, span.total), frameFrom(buffer), span.total);
      const { scanned, of } = fields;
      this.progress = { scanned: Number(scanned ?? 0), of: Number(of ?? 0) };
      if (this.progress.scanned < this.progress.of) {
        this.#stale = true;
        this.#notBefore = 0;
      }
    }
    this.changed();
  }
}

function faultIn(value: unknown): Fault | null {
  if (typeof value !== "object" || value === null) return null;
  const { reason, position, near } = value as Record<string, unknown>;
  return {
    reason: String(reason),
    position: Number(position ?? 0),
    near: Array.isArray(near) ? near.map(String) : [],
  };
}
