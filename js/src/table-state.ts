// How a table is to be seen: which columns in which order, how wide, with how many digits; filtered and sorted how. One for each model and
// table, shared by its views, for as long as the page lives. No DOM.

import { Arrangement, AS_IT_IS, type Wish } from "./arrangement.ts";
import { frameFrom } from "./frames.ts";
import { ordered } from "./labels.ts";
import { browserClock, type Clock, type Link } from "./link.ts";
import type { TableName } from "./messages.ts";
import type { ColumnInfo, Held, RowSource } from "./rows.ts";
import type { RunState } from "./run-state.ts";
import type { Selection } from "./selection.ts";

/** Significant digits of numbers with a fraction. */
export const DIGITS = [3, 6, 17] as const;
const ASK_ROWS = 500;
const ASK_SORTED = 120;

export class TableState {
  /** Names of columns that are not shown. */
  readonly hidden = new Set<string>();
  /** What was made wider or narrower. */
  readonly widths = new Map<string, number>();
  digits: number = 6;
  /** Grows with every change of columns, widths and digits. */
  revision = 0;
  #order: string[] = [];
  #arrangement: Arrangement | null = null;
  #before: Arrangement | null = null;
  readonly #listeners = new Set<() => void>();
  readonly #stop: () => void;
  #seen = -1;

  constructor(
    readonly table: TableName,
    private readonly run: RunState,
    private readonly link: Pick<Link, "ask">,
    private readonly clock: Clock = browserClock,
  ) {
    this.#stop = run.listen(() => this.#grown());
  }

  /** What is shown: everything, where the kernel cannot do what is wished for; what was before, until it has. */
  get rows(): RowSource {
    const now = this.#working;
    return (now?.progress === null ? this.#before : now) ?? this.run.rows(this.table);
  }

  get #working(): Arrangement | null {
    return this.#arrangement?.fault ? null : this.#arrangement;
  }

  /** What is shown is arranged by: null where it is everything as it came, undefined while the kernel has yet to say. */
  get arrangedBy(): Wish | null | undefined {
    const now = this.#working;
    return now?.progress === null ? undefined : (now?.wish ?? null);
  }

  get arrangement(): Arrangement | null {
    return this.#arrangement;
  }

  get wish(): Wish {
    return this.#arrangement?.wish ?? AS_IT_IS;
  }

  /** Every column, in the order that was chosen; those that nobody moved where they belong. */
  get columns(): ColumnInfo[] {
    const natural = ordered(this.table, this.rows.columns);
    if (this.#order.length === 0) return natural;
    const rank = new Map(this.#order.map((name, i) => [name, i]));
    return natural.sort((a, b) => (rank.get(a.name) ?? 1e6) - (rank.get(b.name) ?? 1e6));
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#stop();
    this.#arrangement?.close();
    this.#listeners.clear();
  }

  /** Say that these rows are shown. */
  want(owner: object, first: number, end: number): void {
    if (this.#working) {
      this.run.unwant(owner);
      this.#working.want(first, end);
    } else this.run.want(owner, this.table, first, end);
  }

  arrange(change: Partial<Wish>): void {
    const wish = { ...this.wish, ...change };
    if (wish.where === this.wish.where && wish.sort === this.wish.sort && wish.descending === this.wish.descending)
      return;
    const plain = wish.where.trim() === "" && wish.sort === "";
    // What was arranged stays: without a kernel there is no other arrangement to be had.
    if (this.run.isStatic && !plain) return;
    if (this.#working?.progress) this.#before = this.#working;
    this.#arrangement?.close();
    this.#arrangement = plain ? null : new Arrangement(this.link, this.table, wish, () => this.#arranged(), this.clock);
    if (plain) this.#before = null;
    this.#changed();
  }

  /** Ascending, descending, as they came. */
  sortBy(name: string): void {
    const { sort, descending } = this.wish;
    if (sort !== name) this.arrange({ sort: name, descending: false });
    else this.arrange(descending ? { sort: "", descending: false } : { descending: true });
  }

  show(name: string, on: boolean): void {
    if (on) this.hidden.delete(name);
    else this.hidden.add(name);
    this.#columnsChanged();
  }

  /** Move a column by one place. */
  move(name: string, by: 1 | -1): void {
    const names = this.columns.map((column) => column.name);
    const at = names.indexOf(name);
    const other = names[at + by];
    if (at < 0 || other === undefined) return;
    names[at + by] = name;
    names[at] = other;
    this.#order = names;
    this.#columnsChanged();
  }

  setDigits(digits: number): void {
    this.digits = digits;
    this.#columnsChanged();
  }

  /** Columns as they were at first. */
  reset(): void {
    this.hidden.clear();
    this.widths.clear();
    this.#order = [];
    this.digits = 6;
    this.#columnsChanged();
  }

  /** Rows by place, asked for where they are not here. */
  async fetch(first: number, end: number): Promise<Held[]> {
    const found: Held[] = [];
    const { rows, wish } = this;
    for (let at = first; at < end; ) {
      const held = rows.row(at);
      if (held) {
        found.push(held);
        at++;
        continue;
      }
      const count = Math.min(end - at, wish.sort ? ASK_SORTED : ASK_ROWS);
      const { buffers } = await this.link.ask("ask_rows", { table: this.table, first: at, count, ...wish });
      const frame = buffers[0] ? frameFrom(buffers[0]) : null;
      if (!frame || frame.rows === 0) break;
      for (let index = 0; index < frame.rows; index++) found.push({ frame, index });
      at += frame.rows;
    }
    return found;
  }

  #grown(): void {
    const { steps, episodesRevision } = this.run;
    const seen = this.table === "steps" ? steps.total : episodesRevision;
    if (seen === this.#seen) return;
    this.#seen = seen;
    this.#arrangement?.grown();
  }

  #arranged(): void {
    if (this.#working?.progress) this.#before = null;
    this.#changed();
  }

  #columnsChanged(): void {
    this.revision++;
    this.#changed();
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Have tables show what the selection filters by; return what ends that. */
export function filterTables(selection: Selection, tables: readonly TableState[]): () => void {
  const apply = (): void => {
    const { filter, agent } = selection;
    const parts = [filter === "" ? "" : agent === null ? filter : `(${filter})`];
    if (agent !== null) parts.push(`agent_id == ${quoted(agent)}`);
    for (const table of tables) table.arrange({ where: parts.filter(Boolean).join(" and ") });
  };
  apply();
  return selection.listen(apply);
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
