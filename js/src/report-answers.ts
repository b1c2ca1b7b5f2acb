// What a report answers to each kind of question: the twins of the handlers in view/*_question.py.

import { type Answer, type Fields, whole } from "./report-ask.ts";
import { stretch } from "./report-curves.ts";
import { arrowOf, type Layers, numbers, type Pick, type ReportData, type Spot } from "./report-data.ts";
import { cell, find, rows } from "./report-tables.ts";

type Handler = (data: ReportData, ask: Fields) => Promise<Answer>;

const MAX_STEPS = 256;
const MOST_CELLS = 4_096;

export const REPLIES: Record<string, Handler> = {
  ask_cell: cell,
  ask_curve: stretch,
  ask_find: find,
  ask_rows: rows,
  ask_episode: episode,
  ask_difference: difference,
  ask_layers: layers,
};

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
  const rowNumbers = numbers(start + first, start + Math.min(total, first + count));
  const picks = await data.stepsAt(rowNumbers);
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
  return { fields, buffers: [arrowOf(picks, { row: rowNumbers })] };
}

/** Where two episodes first differ; as view/episode_question.py. */
async function difference(data: ReportData, ask: Fields): Promise<Answer> {
  const pair = [rowOf(data, ask, "row"), rowOf(data, ask, "other")] as const;
  const [left, right] = await Promise.all(
    pair.map(async (row) => {
      const { start, total } = stepsOf(data, row);
      const picks = await data.stepsAt(numbers(start, start + total));
      return new Map(picks.map((pick) => [Number(valueIn(pick, "step_index")), pick]));
    }),
  );
  const found = { row: pair[0], other: pair[1], step: null as number | null, what: "" };
  const ends = [left, right].map((steps) => Math.max(-1, ...(steps as Map<number, Pick>).keys()) + 1);
  for (const [index, a] of left as Map<number, Pick>) {
    const b = (right as Map<number, Pick>).get(index);
    if (!b) continue;
    const told = valueIn(a, "state") !== null && valueIn(b, "state") !== null;
    const what = ["action", told ? "state" : "observation"].find(
      (name) => said(valueIn(a, name)) !== said(valueIn(b, name)),
    );
    if (what) return { fields: { ...found, step: index, what }, buffers: [] };
  }
  if (ends[0] !== ends[1]) Object.assign(found, { step: Math.min(...ends), what: "length" });
  return { fields: found, buffers: [] };
}

/** A value as what can be compared: of a list, which is another object each time, a text. */
function said(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !(Symbol.iterator in value)) return value;
  return `[${Array.from(value as Iterable<unknown>, said).join()}]`;
}

/** As view/layers_question.py. Of all episodes it was counted when the file was written; of some it is counted here, over the steps that are in it. */
async function layers(data: ReportData, ask: Fields): Promise<Answer> {
  const { game, names, of } = await data.layers();
  const agent = ask.agent ?? null;
  const [first, last] = [whole(ask, "first"), whole(ask, "last")];
  const sums = of.find((one) => one.agent === agent) ?? (of.length === 1 ? of[0] : undefined);
  if (!sums) throw new Error("this report has not counted the steps of that agent by themselves");
  const range = first !== null && last !== null;
  const [visits, total] = range ? await visitsIn(data, first, last) : [sums.visits, data.steps];
  const told = range ? await valuesIn(data, first, last) : sums.values;
  const values = told.filter(([context]) => context === (ask.context ?? "||"));
  const known = names[game] ?? names[String(ask.game)] ?? [];
  const most = Math.max(known.length, ...values.map(([, , , of]) => Math.max(...of.map(([action]) => action + 1))));
  const fields = {
    rows: total,
    total,
    full: sums.full,
    actions: numbers(0, most).map((i) => known[i] ?? String(i)),
    visits: visits.slice(0, MOST_CELLS),
    values: values.slice(0, MOST_CELLS).map(([, row, col, of]) => {
      const byAction = new Map(of);
      return [row, col, numbers(0, most).map((i) => byAction.get(i) ?? null)];
    }),
  };
  return { fields, buffers: [] };
}

/** How often each cell was stepped on in some episodes, the most visited first; and by how many steps. */
async function visitsIn(data: ReportData, first: number, last: number): Promise<[number[][], number]> {
  const counts = new Map<string, [number, number, number]>();
  let steps = 0;
  for (const row of numbers(first, Math.min(last + 1, data.episodes.rows))) {
    const { start, total } = stepsOf(data, row);
    const { grids, drawn } = await data.picturesOf(start, start + total);
    for (const number of drawn) {
      const grid = grids[number];
      if (!grid?.agent || grid.partial) continue;
      const held = counts.get(String(grid.agent)) ?? [...grid.agent, 0];
      held[2]++;
      counts.set(String(grid.agent), held as [number, number, number]);
    }
    steps += total;
  }
  return [[...counts.values()].sort((a, b) => b[2] - a[2]), steps];
}

/** The latest value of each action in each cell in which a step of some episodes began. */
async function valuesIn(data: ReportData, first: number, last: number): Promise<Layers["of"][number]["values"]> {
  const found = new Map<string, readonly [Spot, Map<number, number>]>();
  for (const row of numbers(first, Math.min(last + 1, data.episodes.rows))) {
    const { start, total } = stepsOf(data, row);
    const [picks, spots] = await Promise.all([
      data.stepsAt(numbers(start, start + total)),
      data.begun(start, start + total),
    ]);
    picks.forEach((pick, i) => {
      const spot = spots[i];
      const known = spot ? worth(pick) : null;
      if (!spot || !known?.size) return;
      const held = found.get(String(spot))?.[1];
      // A list is of all actions, a number of one.
      found.set(String(spot), [spot, pick[0].columns.has("q_values") ? known : new Map([...(held ?? []), ...known])]);
    });
  }
  return [...found.values()].map(([[context, row, col], known]) => [context, row, col, [...known]]);
}

/** What a step says that actions are worth. */
function worth(pick: Pick): Map<number, number> {
  const known = new Map<number, number>();
  const note = (action: number, value: unknown): void => {
    if (typeof value === "number" && Number.isFinite(value)) known.set(action, value);
  };
  if (pick[0].columns.has("q_values")) {
    const values = valueIn(pick, "q_values");
    for (const [action, value] of listOf(values).entries()) note(action, plain(value));
    return known;
  }
  const action = String(valueIn(pick, "action"));
  if (/^\d{1,2}$/.test(action)) note(Number(action), plain(valueIn(pick, "q_after") ?? valueIn(pick, "q_before")));
  return known;
}

function listOf(values: unknown): unknown[] {
  if (typeof values !== "string") return Array.from((values ?? []) as Iterable<unknown>);
  try {
    const read: unknown = JSON.parse(values);
    return Array.isArray(read) ? read : [];
  } catch {
    return []; // a text that was cut
  }
}

function valueIn([batch, index]: Pick, name: string): unknown {
  return batch.columns.get(name)?.at(index) ?? null;
}

async function indicesOf(data: ReportData, start: number, total: number): Promise<number[]> {
  return (await data.stepsAt(numbers(start, start + total))).map((pick) => Number(valueIn(pick, "step_index")));
}

function rowOf(data: ReportData, ask: Fields, name: string): number {
  let row = whole(ask, name);
  if (row === null && name === "row") {
    const at = (column: string, place: number): unknown => plain(data.episodes.columns.get(column)?.at(place)) ?? "";
    row = numbers(0, data.episodes.rows).findIndex(
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

function plain(value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : (value ?? null);
}
