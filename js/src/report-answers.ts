// What a report answers to each kind of question: the twins of the handlers in view/*_question.py.

import { MAX_EPISODES, MAX_ROWS } from "./messages.ts";
import { arrowOf, type Pick, type ReportData, range } from "./report-data.ts";

export interface Answer {
  fields: Record<string, unknown>;
  buffers: DataView[];
}
type Fields = Record<string, unknown>;
type Handler = (data: ReportData, ask: Fields) => Promise<Answer>;

const MAX_STEPS = 256;

export const REPLIES: Record<string, Handler> = {
  ask_rows: rows,
  ask_episode: episode,
  ask_difference: difference,
};

async function rows(data: ReportData, ask: Fields): Promise<Answer> {
  const table = ask.table === "steps" ? "steps" : "episodes";
  const [most, total] = table === "steps" ? [MAX_ROWS, data.steps] : [MAX_EPISODES, data.episodes.rows];
  const first = Math.max(0, whole(ask, "first") ?? 0);
  const numbers = range(first, Math.min(total, first + Math.min(most, whole(ask, "count") ?? most)));
  const picks = table === "steps" ? await data.stepsAt(numbers) : numbers.map((row): Pick => [data.episodes, row]);
  return { fields: { spans: [{ table, first, count: picks.length, total }] }, buffers: [arrowOf(picks)] };
}

/** As view/episode_question.py, where the fields are told. */
async function episode(data: ReportData, ask: Fields): Promise<Answer> {
  const row = rowOf(data, ask, "row");
  const { start, total } = stepsOf(data, row);
  const count = Math.min(Math.max(1, whole(ask, "count") ?? MAX_STEPS), MAX_STEPS);
  let first = whole(ask, "first") ?? 0;
  const step = whole(ask, "step");
  if (step !== null) {
    const indices = await indicesOf(data, start, total);
    const place = indices.findIndex((index) => index >= step);
    const at = place < 0 ? Math.max(0, total - 1) : place;
    first = at - (at % count);
  }
  const numbers = range(start + first, start + Math.min(total, first + count));
  const picks = await data.stepsAt(numbers);
  const pictures = await data.picturesOf(start + first, start + first + picks.length);
  const name = (column: string): unknown => plain(data.episodes.columns.get(column)?.at(row));
  const fields = {
    row,
    worker: name("worker_id") ?? "",
    agent: name("agent_id") ?? "",
    episode: name("episode"),
    total,
    first,
    count: picks.length,
    ...pictures,
  };
  return { fields, buffers: [arrowOf(picks, { row: numbers })] };
}

/** Where two episodes first differ; as view/episode_question.py. */
async function difference(data: ReportData, ask: Fields): Promise<Answer> {
  const pair = [rowOf(data, ask, "row"), rowOf(data, ask, "other")] as const;
  const [left, right] = await Promise.all(
    pair.map(async (row) => {
      const { start, total } = stepsOf(data, row);
      const picks = await data.stepsAt(range(start, start + total));
      return new Map(picks.map((pick) => [Number(cell(pick, "step_index")), pick]));
    }),
  );
  const found = { row: pair[0], other: pair[1], step: null as number | null, what: "" };
  const ends = [left, right].map((steps) => Math.max(-1, ...(steps as Map<number, Pick>).keys()) + 1);
  for (const [index, a] of left as Map<number, Pick>) {
    const b = (right as Map<number, Pick>).get(index);
    if (!b) continue;
    const told = cell(a, "state") !== null && cell(b, "state") !== null;
    const what = ["action", told ? "state" : "observation"].find((name) => cell(a, name) !== cell(b, name));
    if (what) return { fields: { ...found, step: index, what }, buffers: [] };
  }
  if (ends[0] !== ends[1]) Object.assign(found, { step: Math.min(...ends), what: "length" });
  return { fields: found, buffers: [] };
}

function cell([batch, index]: Pick, name: string): unknown {
  return batch.columns.get(name)?.at(index) ?? null;
}

async function indicesOf(data: ReportData, start: number, total: number): Promise<number[]> {
  return (await data.stepsAt(range(start, start + total))).map((pick) => Number(cell(pick, "step_index")));
}

function rowOf(data: ReportData, ask: Fields, name: string): number {
  let row = whole(ask, name);
  if (row === null && name === "row") {
    const at = (column: string, place: number): unknown => plain(data.episodes.columns.get(column)?.at(place)) ?? "";
    row = range(0, data.episodes.rows).findIndex(
      (place) =>
        at("episode", place) === ask.episode &&
        at("agent_id", place) === (ask.agent ?? "") &&
        (!ask.worker || at("worker_id", place) === ask.worker),
    );
  }
  if (row === null || row < 0 || row >= data.episodes.rows) throw new Error("there is no such episode in this report");
  return row;
}

function stepsOf(data: ReportData, row: number): { start: number; total: number } {
  const [start, total] = [data.starts[row] ?? -1, data.meta.counts[row] ?? -1];
  if (start < 0) throw new Error("the steps of this episode are not in this report");
  return { start, total };
}

function whole(ask: Fields, name: string): number | null {
  const value = ask[name];
  if (value === undefined || value === null) return null;
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Error(`${name} should be a whole number from 0`);
  return value as number;
}

function plain(value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : (value ?? null);
}
