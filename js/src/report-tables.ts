// What a report answers to the tables: rows as they stand, or those that an expression selects in the order of a column.

import { MAX_EPISODES, MAX_ROWS, type TableName } from "./messages.ts";
import { compileQuery, type QueryColumn, QueryError, type QueryKind } from "./query.ts";
import { type Answer, type Fields, whole } from "./report-ask.ts";
import { arrowOf, type Cells, numbers, type Pick, type ReportData } from "./report-data.ts";

/** In another order, rows come from all over the table: as view/rows_question.py has it. */
const MOST_SORTED = 120;
const MOST_KEPT = 4;
const MOST_FOUND = 100;

/** Arrow's numbers of its types; everything else is text here. */
const KINDS: Record<number, QueryKind> = { 2: "number", 3: "number", 6: "truth", 10: "time" };

/** Some rows of a table, all of which are at hand. */
interface Whole {
  rows: number;
  columns: Map<string, Cells>;
}

const arranged = new WeakMap<ReportData, Map<string, Promise<number[]>>>();

/** As view/rows_question.py. */
export async function rows(data: ReportData, ask: Fields): Promise<Answer> {
  const table = tableOf(ask);
  const total = table === "steps" ? data.steps : data.episodes.rows;
  const first = whole(ask, "first") ?? 0;
  const count = whole(ask, "count") ?? MAX_ROWS;
  const [where, sort] = [String(ask.where ?? ""), String(ask.sort ?? "")];
  if (where.trim() === "" && sort === "") {
    const shown = numbers(first, Math.min(total, first + Math.min(count, table === "steps" ? MAX_ROWS : MAX_EPISODES)));
    const picks = await picked(data, table, shown);
    return { fields: { spans: [{ table, first, count: picks.length, total }] }, buffers: [arrowOf(picks)] };
  }
  let order: number[];
  try {
    order = await arrangedRows(data, { table, where, sort, descending: ask.descending === true });
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    const { reason, position, near } = error;
    // An answer, not a refusal: the page marks the place in the expression.
    return { fields: { fault: { reason, position, near } }, buffers: [] };
  }
  const shown = order.slice(first, first + Math.min(count, sort ? MOST_SORTED : MAX_ROWS));
  const picks = await picked(data, table, shown);
  const span = { table, first, count: picks.length, total: order.length };
  return { fields: { spans: [span], scanned: total, of: total }, buffers: [arrowOf(picks, { row: shown })] };
}

/** As view/find_question.py: where the episodes of a number, and a step of each, stand in the tables. */
export async function find(data: ReportData, ask: Fields): Promise<Answer> {
  const step = whole(ask, "step");
  const [table, where, sort] = [tableOf(ask), String(ask.where ?? ""), String(ask.sort ?? "")];
  const plain = ask.table === undefined || (where.trim() === "" && sort === "");
  const order = plain ? null : await arrangedRows(data, { table, where, sort, descending: ask.descending === true });
  const found: unknown[] = [];
  for (const row of numbers(0, data.episodes.rows)) {
    const at = (name: string): unknown => data.episodes.columns.get(name)?.at(row) ?? "";
    const [worker, agent] = [String(at("worker_id")), String(at("agent_id"))];
    const asked = (name: string, value: string): boolean =>
      ask[name] === undefined || ask[name] === null || ask[name] === value;
    if (Number(at("episode")) !== ask.episode || !asked("agent", agent) || !asked("worker", worker)) continue;
    found.push({
      episode: { row, worker, agent, episode: ask.episode },
      row: order ? await placeIn(data, order, table, row, step) : await stepRow(data, row, step),
    });
    if (found.length >= MOST_FOUND) break;
  }
  return { fields: { found, more: false }, buffers: [] };
}

/** Where an episode, or the step of it that is nearest, stands in an arrangement. */
async function placeIn(
  data: ReportData,
  order: readonly number[],
  table: TableName,
  row: number,
  step: number | null,
): Promise<number | null> {
  const [start, total] = [data.starts[row] ?? -1, data.meta.counts[row] ?? 0];
  const at = step === null ? start : await stepFrom(data, row, step);
  const wanted =
    table === "episodes" ? [row] : start < 0 ? [] : [...numbers(at, start + total), ...numbers(start, at).reverse()];
  const places = new Map(order.map((one, place) => [one, place]));
  return places.get(wanted.find((one) => places.has(one)) ?? -1) ?? null;
}

/** As view/cell_question.py, of what a report holds: the beginning of long texts. */
export async function cell(data: ReportData, ask: Fields): Promise<Answer> {
  const [pick] = await picked(data, tableOf(ask), [whole(ask, "row") ?? -1]);
  if (!pick) throw new Error(`there is no row ${String(ask.row)} in this report`);
  const value = pick[0].columns.get(String(ask.column))?.at(pick[1]) ?? "";
  return { fields: { text: String(value), cut: String(value).endsWith("…") }, buffers: [] };
}

async function stepRow(data: ReportData, row: number, step: number | null): Promise<number | null> {
  const [start, total] = [data.starts[row] ?? -1, data.meta.counts[row] ?? 0];
  if (start < 0 || total === 0) return null;
  if (step === null) return start;
  const places = numbers(start, start + total);
  const picks = await data.stepsAt(places);
  const at = picks.findIndex((pick) => stepIndex(pick) === step);
  return at < 0 ? null : (places[at] as number);
}

/** The row of a step of an episode, or of the next one that is in the file; the last where there is none. */
async function stepFrom(data: ReportData, row: number, step: number): Promise<number> {
  const [start, total] = [data.starts[row] ?? -1, data.meta.counts[row] ?? 0];
  if (start < 0 || total === 0) return start;
  const places = numbers(start, start + total);
  const at = (await data.stepsAt(places)).findIndex((pick) => stepIndex(pick) >= step);
  return places.at(at) as number;
}

function stepIndex([batch, index]: Pick): number {
  return Number(batch.columns.get("step_index")?.at(index));
}

function tableOf(ask: Fields): TableName {
  return ask.table === "steps" ? "steps" : "episodes";
}

async function picked(data: ReportData, table: TableName, rows: readonly number[]): Promise<Pick[]> {
  if (table === "steps") return data.stepsAt(rows);
  return rows.filter((row) => row >= 0 && row < data.episodes.rows).map((row): Pick => [data.episodes, row]);
}

interface Wish {
  table: TableName;
  where: string;
  sort: string;
  descending: boolean;
}

/** The rows that are wished for, in the order wished for; what was arranged last is kept. */
function arrangedRows(data: ReportData, wish: Wish): Promise<number[]> {
  const kept = arranged.get(data) ?? new Map<string, Promise<number[]>>();
  arranged.set(data, kept);
  const key = JSON.stringify(wish);
  const held = kept.get(key) ?? arrange(data, wish);
  kept.delete(key);
  kept.set(key, held);
  for (const oldest of kept.keys()) if (kept.size > MOST_KEPT) kept.delete(oldest);
  return held;
}

async function arrange(data: ReportData, { table, where, sort, descending }: Wish): Promise<number[]> {
  const all =
    table === "steps" ? await wholeSteps(data) : { rows: data.episodes.rows, columns: new Map(data.episodes.columns) };
  const columns = queryColumns(data, table, all);
  const selects = where.trim() === "" ? () => true : compileQuery(where, columns);
  const found = numbers(0, all.rows).filter(selects);
  if (!sort) return found;
  const by = columns.get(sort);
  if (!by) throw new QueryError(`there is no column '${sort}' to sort by`, 0);
  const keys = new Map(found.map((row) => [row, by.at(row) as never]));
  const sign = descending ? -1 : 1;
  // What is missing comes last, in either direction.
  return found.sort((a, b) => {
    const [x, y] = [keys.get(a) ?? null, keys.get(b) ?? null];
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    return x < y ? -sign : x > y ? sign : 0;
  });
}

/** All steps, block after block. */
async function wholeSteps(data: ReportData): Promise<Whole> {
  const edges: number[] = [];
  let rows = 0;
  const batches = await Promise.all(data.meta.blocks.map((_, block) => data.batch(block)));
  for (const batch of batches) {
    edges.push(rows);
    rows += batch.rows;
  }
  const blockOf = (row: number): number => {
    let [low, high] = [0, edges.length];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((edges[middle] as number) <= row) low = middle;
      else high = middle;
    }
    return low;
  };
  const columns = new Map<string, Cells>();
  for (const batch of batches) {
    for (const [name, { type }] of batch.columns) {
      if (columns.has(name)) continue;
      const at = (row: number): unknown => {
        const block = blockOf(row);
        return batches[block]?.columns.get(name)?.at(row - (edges[block] as number)) ?? null;
      };
      columns.set(name, { type, at });
    }
  }
  return { rows, columns };
}

function queryColumns(data: ReportData, table: TableName, all: Whole): Map<string, QueryColumn> {
  const found = new Map<string, QueryColumn>();
  const json = new Set(data.meta.json[table]);
  for (const [name, { type, at }] of all.columns) {
    const kind: QueryKind = json.has(name) ? "json" : (KINDS[type.typeId] ?? "text");
    found.set(name, { kind, at });
  }
  for (const name of data.meta.nulls[table]) {
    if (!found.has(name)) found.set(name, { kind: "nothing", at: () => null });
  }
  return found;
}
