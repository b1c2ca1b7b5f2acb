// What a report's file holds: compressed tables and pictures in blocks, unpacked when they are looked at.

import {
  type Column as ArrowColumn,
  type DataType,
  tableFromArrays,
  tableFromIPC,
  tableToIPC,
  utf8,
} from "@uwdata/flechette";
import type { Grid, State } from "./messages.ts";

/** The twin of `Meta` in report/page.py, where the fields are told. */
export interface Meta {
  version: number;
  title: string;
  notes: string[];
  state: State;
  counts: number[];
  blocks: number[];
  json: Record<"steps" | "episodes", string[]>;
  nulls: Record<"steps" | "episodes", string[]>;
}

export const REPORT_VERSION = 1;

export interface Cells {
  readonly type: DataType;
  at(row: number): unknown;
}

/** Rows of a table as they were embedded. */
export interface Batch {
  readonly rows: number;
  readonly columns: ReadonlyMap<string, Cells>;
}

/** The pictures of a block's steps, each once; `drawn` and `actions` have an entry a step. */
export interface Pictures {
  grids: Grid[];
  drawn: number[];
  actions: string[];
  /** Where the step began, a number of one of `spots`; only where steps say what actions are worth. */
  begins?: number[];
  spots?: Spot[];
}

/** A cell, and what else a value there depends on. */
export type Spot = readonly [context: string, row: number, col: number];

/** What the picture's layers show of all episodes that were chosen; `agent` null: of all agents. */
export interface Layers {
  game: string;
  names: Record<string, string[]>;
  of: {
    agent: string | null;
    full: boolean;
    visits: [row: number, col: number, count: number][];
    values: [context: string, row: number, col: number, values: [action: number, value: number][]][];
  }[];
}

/** A row that is to be sent to the page. */
export type Pick = readonly [batch: Batch, index: number];

const NO_PICTURES: Pictures = { grids: [], drawn: [], actions: [] };
const DICTIONARY = -1;

/** Gets the text of a block by its name; null when the file has none. */
export type Blocks = (name: string) => string | null;

export class ReportData {
  readonly #batches = new Map<number, Promise<Batch>>();
  #layers: Promise<Layers> | null = null;
  readonly #pictures = new Map<number, Promise<Pictures>>();
  /** The row of the first step of each block, and of what would be the next. */
  readonly #edges: number[] = [0];
  /** The row of the first step of each episode; -1 where its steps are not here. */
  readonly starts: number[] = [];
  readonly steps: number;

  private constructor(
    readonly meta: Meta,
    readonly episodes: Batch,
    private readonly blocks: Blocks,
  ) {
    for (const count of meta.blocks) this.#edges.push((this.#edges.at(-1) as number) + count);
    this.steps = this.#edges.at(-1) as number;
    let start = 0;
    for (const count of meta.counts) {
      this.starts.push(count < 0 ? -1 : start);
      start += Math.max(0, count);
    }
    if (start !== this.steps) throw new Error(`the episodes have ${start} steps, the file ${this.steps}`);
  }

  static async open(blocks: Blocks): Promise<ReportData> {
    const meta = JSON.parse(new TextDecoder().decode(await unpacked(blocks, "meta"))) as Meta;
    if (meta.version !== REPORT_VERSION) {
      throw new Error(`the data is of version ${meta.version}, the page of version ${REPORT_VERSION}`);
    }
    return new ReportData(meta, batchFrom(await unpacked(blocks, "episodes")), blocks);
  }

  layers(): Promise<Layers> {
    this.#layers ??= unpacked(this.blocks, "layers").then((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
    return this.#layers;
  }

  /** Steps by row number, those that there are. */
  async stepsAt(rows: readonly number[]): Promise<Pick[]> {
    const found = rows.filter((row) => row >= 0 && row < this.steps);
    return Promise.all(
      found.map(async (row): Promise<Pick> => {
        const block = this.#blockOf(row);
        return [await this.batch(block), row - (this.#edges[block] as number)];
      }),
    );
  }

  /** The picture of each step of [first, end) and what its action is called. */
  async picturesOf(first: number, end: number): Promise<Pictures> {
    const all: Pictures = { grids: [], drawn: [], actions: [] };
    for (let row = first; row < end; ) {
      const block = this.#blockOf(row);
      const [from, to] = [this.#edges[block] as number, Math.min(end, this.#edges[block + 1] as number)];
      const held = await this.#picturesIn(block);
      const numbers = new Map<number, number>();
      for (; row < to; row++) {
        const number = held.drawn[row - from] ?? -1;
        const grid = held.grids[number];
        if (grid && !numbers.has(number)) numbers.set(number, all.grids.push(grid) - 1);
        all.drawn.push(numbers.get(number) ?? -1);
        all.actions.push(held.actions[row - from] ?? "");
      }
    }
    return all;
  }

  /** Where each step of [first, end) began; null where nobody knows. */
  async begun(first: number, end: number): Promise<(Spot | null)[]> {
    const all: (Spot | null)[] = [];
    for (let row = first; row < end; row++) {
      const block = this.#blockOf(row);
      const { begins, spots } = await this.#picturesIn(block);
      all.push(spots?.[begins?.[row - (this.#edges[block] as number)] ?? -1] ?? null);
    }
    return all;
  }

  #blockOf(row: number): number {
    let [low, high] = [0, this.#edges.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((this.#edges[middle] as number) <= row) low = middle;
      else high = middle;
    }
    return low;
  }

  /** A block of steps. */
  batch(block: number): Promise<Batch> {
    let held = this.#batches.get(block);
    if (!held) {
      held = unpacked(this.blocks, `steps-${block}`).then(batchFrom);
      this.#batches.set(block, held);
    }
    return held;
  }

  #picturesIn(block: number): Promise<Pictures> {
    let held = this.#pictures.get(block);
    if (!held) {
      held = this.blocks(`pictures-${block}`)
        ? unpacked(this.blocks, `pictures-${block}`).then((bytes) => JSON.parse(new TextDecoder().decode(bytes)))
        : Promise.resolve(NO_PICTURES);
      this.#pictures.set(block, held);
    }
    return held;
  }
}

async function unpacked(blocks: Blocks, name: string): Promise<Uint8Array> {
  const text = blocks(name);
  if (text === null) throw new Error(`the file has no block ${name}: it is not whole`);
  const letters = atob(text.trim());
  const packed = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function batchFrom(bytes: Uint8Array): Batch {
  const table = tableFromIPC(bytes, { useBigInt: true, useDate: false });
  const columns = new Map<string, Cells>();
  for (const name of table.names as string[]) {
    const held = table.getChild(name) as ArrowColumn<unknown>;
    let type = held.type as DataType & { dictionary?: DataType };
    if (type.typeId === DICTIONARY) type = type.dictionary ?? utf8();
    columns.set(name, { type, at: (row) => held.at(row) ?? null });
  }
  return { rows: table.numRows, columns };
}

/** Rows as an Arrow IPC stream, as the kernel sends them: columns of nulls are left out. `more` are columns of whole numbers. */
export function arrowOf(picks: readonly Pick[], more: Record<string, readonly number[]> = {}): DataView {
  const types: Record<string, DataType> = {};
  const columns: Record<string, unknown[]> = {};
  for (const [batch] of picks) {
    for (const [name, { type }] of batch.columns) types[name] ??= type;
  }
  for (const name of Object.keys(types)) {
    const values = picks.map(([batch, index]) => batch.columns.get(name)?.at(index) ?? null);
    if (picks.length > 0 && values.every((value) => value === null)) delete types[name];
    else columns[name] = values;
  }
  Object.assign(columns, more);
  const bytes = tableToIPC(tableFromArrays(columns, { types, useBigInt: true }), { format: "stream" }) as Uint8Array;
  return new DataView(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

export function numbers(first: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at);
}
