// The curves of a report: return and length by episode in buckets, as curves.py makes them.

import { float64, int64, tableFromArrays, tableToIPC } from "@uwdata/flechette";
import type { Push } from "./messages.ts";
import { type Answer, type Fields, whole } from "./report-ask.ts";
import { numbers, type ReportData } from "./report-data.ts";

const MEASURES = ["total_reward", "steps"] as const;
type Measure = (typeof MEASURES)[number];

/** As view/curve_question.py: so many points are in a push, of each series not fewer than so many. */
const PUSHED = 512;
const FEWEST = 32;
const MOST_SERIES = 8;
const MOST_POINTS = 4_096;

type Column = (number | null)[];
const WHOLE = ["place", "places", "from", "to", "row", "count", "odd", "series", "measure"];
const VALUES = ["min", "max", "mean"];

/** The rows of an agent's episodes, or of all, by their place. */
function rowsOf(data: ReportData, agent: string | null): number[] {
  const all = numbers(0, data.episodes.rows);
  return agent === null
    ? all
    : all.filter((row) => String(data.episodes.columns.get("agent_id")?.at(row) ?? "") === agent);
}

/** A curve in at most `points` buckets; those without an ended episode are left out. */
function curve(
  data: ReportData,
  agent: string | null,
  y: Measure,
  points: number,
  first: number,
  end: number,
): Record<string, Column> {
  const rows = rowsOf(data, agent);
  const cell = (name: string, row: number): unknown => data.episodes.columns.get(name)?.at(row) ?? null;
  const last = Math.min(end, rows.length);
  const from = Math.min(Math.max(0, first), last);
  // Buckets are powers of two long and begin at multiples of it.
  let size = 1;
  while (Math.ceil(last / size) - Math.floor(from / size) > points) size *= 2;
  const columns: Record<string, Column> = {};
  const add = (values: Record<string, number | null>): void => {
    for (const [name, value] of Object.entries(values)) {
      columns[name] ??= [];
      columns[name].push(value);
    }
  };
  for (let place = from - (from % size); place < last; place += size) {
    const held = rows.slice(place, place + size);
    const ended = held.filter((row) => !["Running", "Unfinished"].includes(String(cell("outcome", row))));
    const values = ended.map((row) => Number(cell(y, row) ?? Number.NaN));
    const finite = values.filter(Number.isFinite);
    if (values.length === 0) continue;
    const some = finite.length > 0;
    add({
      place,
      places: held.length,
      from: Number(cell("episode", held[0] as number)),
      to: Number(cell("episode", held.at(-1) as number)),
      row: held[0] as number,
      count: finite.length,
      odd: values.length - finite.length,
      min: some ? finite.reduce((a, b) => Math.min(a, b)) : null,
      max: some ? finite.reduce((a, b) => Math.max(a, b)) : null,
      mean: some ? finite.reduce((a, b) => a + b / finite.length, 0) : null,
    });
  }
  return columns;
}

function numbered(data: ReportData, agent: string | null): boolean {
  const found = rowsOf(data, agent).map((row) => Number(data.episodes.columns.get("episode")?.at(row)));
  return found.every((number, i) => i === 0 || number > (found[i - 1] as number));
}

function arrow(columns: Record<string, Column>): DataView {
  const types = Object.fromEntries([
    ...WHOLE.map((name) => [name, int64()]),
    ...VALUES.map((name) => [name, float64()]),
  ]);
  const filled: Record<string, unknown[]> = {};
  for (const [name, values] of Object.entries(columns)) {
    filled[name] = WHOLE.includes(name) ? values.map((value) => BigInt(value ?? 0)) : values;
  }
  const bytes = tableToIPC(tableFromArrays(filled, { types, useBigInt: true }), { format: "stream" }) as Uint8Array;
  return new DataView(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** What a push tells of the curves: of all together, and of each agent. */
export function pushedCurves(data: ReportData): {
  told: Required<Pick<Push, "curves" | "curves_more">>;
  buffer: DataView;
} {
  const { run_id: run, name, agents } = data.meta.state;
  const shown = [null, ...(agents.length > 1 ? agents.slice(0, MOST_SERIES - 1) : [])];
  const points = Math.max(FEWEST, Math.floor(PUSHED / MEASURES.length / shown.length));
  const all: Record<string, Column> = Object.fromEntries([...WHOLE, ...VALUES].map((column) => [column, []]));
  shown.forEach((agent, series) => {
    MEASURES.forEach((y, measure) => {
      const columns = curve(data, agent, y, points, 0, Number.POSITIVE_INFINITY);
      const count = columns.place?.length ?? 0;
      columns.series = Array<number>(count).fill(series);
      columns.measure = Array<number>(count).fill(measure);
      for (const [column, values] of Object.entries(columns)) all[column]?.push(...values);
    });
  });
  const curves = shown.map((agent) => ({ run, name: name || run, agent, numbered: numbered(data, agent) }));
  const more = (agents.length > 1 ? agents.length : 0) - (shown.length - 1);
  return { told: { curves, curves_more: more }, buffer: arrow(all) };
}

/** As view/curve_question.py. */
export async function stretch(data: ReportData, ask: Fields): Promise<Answer> {
  const y: Measure = ask.y === "steps" ? "steps" : "total_reward";
  const points = Math.min(Math.max(1, whole(ask, "points") ?? PUSHED), MOST_POINTS);
  const agent = typeof ask.agent === "string" ? ask.agent : null;
  const columns = curve(
    data,
    agent,
    y,
    points,
    whole(ask, "first") ?? 0,
    whole(ask, "end") ?? Number.POSITIVE_INFINITY,
  );
  return { fields: { y }, buffers: [arrow(columns)] };
}
