// What the page knows of a run: its state, its rows, and which rows it still wants. No DOM.

import { type Curves, readCurves } from "./curves.ts";
import { frameFrom } from "./frames.ts";
import type { Lost } from "./kernel-watch.ts";
import { type Answer, browserClock, type Clock, type Handlers, type Link } from "./link.ts";
import { type AnswerSpan, MAX_EPISODES, MAX_ROWS, type Push, type State, type TableName } from "./messages.ts";
import { KeyedRows, type RowSource, SparseRows } from "./rows.ts";

export const HIDDEN: ReadonlySet<string> = new Set(["run_id", "seq_id", "row"]);
export const WHEN_ANY: ReadonlySet<string> = new Set(["worker_id"]);

export const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);
/** Of such a run nothing comes any more. */
const UNFOLLOWED: ReadonlySet<string> = new Set(["closed", "recording"]);

/** So many older episodes are fetched unasked: they can be scrolled through while the kernel is busy. */
const EPISODES_BACK = 20_000;
/** Looking at rows that fly by asks for nothing. */
const ASK_AFTER_MS = 50;
const ASK_AGAIN_MS = 2_000;
const IN_FLIGHT = 2;

interface Range {
  first: number;
  end: number;
}

export interface RunStateOptions {
  clock?: Clock;
  stepsBudget?: number;
}

export class RunState implements Handlers {
  state: State | null = null;
  /** What was wrong with the last message, for a person; "" when nothing was. */
  fault = "";
  /** Why there is no kernel to ask; "" while there is one. */
  lost: Lost = "";
  /** When the last push came; 0 before. */
  pushedAt = 0;
  readonly steps: SparseRows;
  readonly episodes = new KeyedRows(HIDDEN, WHEN_ANY);
  /** Grows with every change of episodes. */
  episodesRevision = 0;
  /** As the kernel last told them; null where it tells none. */
  curves: Curves | null = null;

  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  readonly #wants = new Map<object, { table: TableName } & Range>();
  readonly #asked = new Map<object, { table: TableName } & Range>();
  #link: Link | null = null;
  #stopTimer: (() => void) | null = null;
  #notBefore = 0;
  /** Below this number no older episode is missing. */
  #episodesHere = 0;
  #closed = false;

  constructor({ clock = browserClock, stepsBudget }: RunStateOptions = {}) {
    this.#clock = clock;
    this.steps = new SparseRows(HIDDEN, WHEN_ANY, stepsBudget);
  }

  /** Whom to ask for rows. */
  connect(link: Link): void {
    this.#link = link;
    this.#plan();
  }

  close(): void {
    this.#closed = true;
    this.#stopTimer?.();
    this.#listeners.clear();
    this.#wants.clear();
  }

  /** Have `listener` called after every change; return what ends that. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  rows(table: TableName): RowSource {
    return table === "steps" ? this.steps : this.episodes;
  }

  // -- from the kernel

  push(push: Push, buffers: DataView[]): void {
    const other = this.state !== null && this.state.run_id !== push.state.run_id;
    for (const span of push.spans) {
      // The kernel's table is shorter than ours: it is another one, and what we hold of the old is nothing.
      if (push.keyframe && (other || span.total < this.rows(span.table).total)) {
        this.#store(span.table).clear();
        this.#episodesHere = 0;
      }
    }
    this.state = push.state;
    this.pushedAt = this.#clock.now();
    this.fault = "";
    if (push.curves) {
      this.curves = readCurves(push.curves, push.curves_more ?? 0, frameFrom(buffers[push.spans.length] as DataView));
    }
    this.#take(push.spans, buffers);
  }

  late(kind: string, answer: Answer): void {
    if (kind === "ask_rows") this.#take(answer.spans, answer.buffers);
  }

  kernel(lost: Lost): void {
    this.lost = lost;
    this.#notify();
    this.#plan();
  }

  /** A run that goes on is told of every few seconds, whether or not something came (live.py). */
  get expecting(): boolean {
    const { state } = this;
    return !state || !(ENDED.has(state.status) || UNFOLLOWED.has(state.connection.state));
  }

  /** Whether nothing can be asked of the kernel. */
  get isStatic(): boolean {
    return this.lost !== "" && this.lost !== "silent";
  }

  faulted(message: string): void {
    this.fault = message;
    this.#notify();
  }

  #take(spans: readonly AnswerSpan[], buffers: DataView[]): void {
    for (const [i, span] of spans.entries()) {
      if (!isTable(span.table)) continue;
      const frame = frameFrom(buffers[i] as DataView);
      this.#store(span.table).insert(span.first, frame, span.total);
      if (span.table === "episodes") this.episodesRevision++;
    }
    this.#notify();
    this.#plan();
  }

  #store(table: TableName): SparseRows | KeyedRows {
    return table === "steps" ? this.steps : this.episodes;
  }

  // -- what is missing

  /** Say that `owner` shows these rows: those that are not here are asked for. The latest wish of an owner replaces its earlier ones. */
  want(owner: object, table: TableName, first: number, end: number): void {
    this.#wants.set(owner, { table, first, end });
    this.#plan();
  }

  unwant(owner: object): void {
    this.#wants.delete(owner);
  }

  #plan(): void {
    if (
      this.#closed ||
      !this.#link ||
      this.isStatic ||
      this.#stopTimer ||
      this.#asked.size >= IN_FLIGHT ||
      !this.#next()
    )
      return;
    const wait = Math.max(ASK_AFTER_MS, this.#notBefore - this.#clock.now());
    this.#stopTimer = this.#clock.after(wait, () => {
      this.#stopTimer = null;
      this.#ask();
    });
  }

  /** The next stretch to ask for, widened to what one answer holds. */
  #next(): ({ table: TableName } & Range) | null {
    for (const { table, first, end } of this.#wants.values()) {
      const gap = this.#gap(table, first, end);
      if (!gap) continue;
      const most = table === "steps" ? MAX_ROWS : MAX_EPISODES;
      // Around what is looked at, so that scrolling on finds its rows here.
      const spare = Math.max(0, most - (gap.end - gap.first));
      const wide = { first: Math.max(0, gap.first - (spare >> 1)), end: gap.end + (spare >> 1) };
      const inner = this.#gapAround(table, gap, wide);
      return { table, first: inner.first, end: Math.min(inner.end, inner.first + most) };
    }
    return this.#older();
  }

  /** Older episodes, newest first. */
  #older(): ({ table: TableName } & Range) | null {
    const { total } = this.episodes;
    let end = total;
    const floor = Math.max(this.#episodesHere, total - EPISODES_BACK, 0);
    while (end > floor) {
      const first = Math.max(floor, end - MAX_EPISODES);
      const gap = this.#gap("episodes", first, end);
      if (gap) return { table: "episodes", ...gap };
      end = first;
    }
    // What is under way is not here yet.
    if (this.#asked.size === 0) this.#episodesHere = total;
    return null;
  }

  #gap(table: TableName, first: number, end: number): Range | null {
    let from = first;
    for (;;) {
      const gap = this.rows(table).missing(from, end);
      if (!gap) return null;
      const overlap = [...this.#asked.values()].find(
        (asked) => asked.table === table && asked.first < gap.end && asked.end > gap.first,
      );
      if (!overlap) return gap;
      if (overlap.first > gap.first) return { first: gap.first, end: overlap.first };
      from = overlap.end;
    }
  }

  /** The rows around `gap` within `wide` that are missing without a break. */
  #gapAround(table: TableName, gap: Range, wide: Range): Range {
    const rows = this.rows(table);
    let { first, end } = gap;
    while (first > wide.first && !rows.row(first - 1)) first--;
    while (end < Math.min(wide.end, rows.total) && !rows.row(end)) end++;
    return { first, end };
  }

  #ask(): void {
    const link = this.#link;
    if (this.#closed || !link) return;
    const range = this.#next();
    if (!range) return;
    const token = {};
    this.#asked.set(token, range);
    link
      .ask("ask_rows", { table: range.table, first: range.first, count: range.end - range.first })
      .then((answer) => {
        this.#asked.delete(token);
        if (this.#closed) return;
        // An answer that brings nothing would be asked for again at once, for ever.
        if (answer.spans.every((span) => span.count === 0)) this.#notBefore = this.#clock.now() + ASK_AGAIN_MS;
        this.#take(answer.spans, answer.buffers);
      })
      .catch(() => {
        this.#asked.delete(token);
        this.#notBefore = this.#clock.now() + ASK_AGAIN_MS;
        this.#plan();
      });
    this.#plan();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}

function isTable(name: string): name is TableName {
  return name === "steps" || name === "episodes";
}
