// Answers what replay asks, from rows of plain objects, as episode_question.py, layers_question.py and curve_question.py do. For the demo page and the tests.

import { curveRows, type Row, toArrow } from "./fake-kernel.ts";
import type { Grid } from "./src/messages.ts";

export type Answered = [fields: Record<string, unknown>, buffers: DataView[]];

export interface Rows {
  steps: readonly Row[];
  episodes: readonly Row[];
  /** The picture of a step, as live.py would send it. */
  picture(step: Row): Grid | null;
}

const PART = 256;

/** Answer a question; null when it is none of replay's. Throws what the kernel refuses. */
export function answerOf(held: Rows, ask: Record<string, unknown>): Answered | null {
  if (ask.kind === "ask_episode") return episode(held, ask);
  if (ask.kind === "ask_difference") return difference(held, ask);
  if (ask.kind === "ask_layers") return layers(held);
  if (ask.kind === "ask_curve") {
    const y = ask.y === "steps" ? "steps" : "total_reward";
    const [points, first, end] = [ask.points, ask.first, ask.end].map(Number) as [number, number, number];
    return [{ y }, [toArrow(curveRows(held.episodes, y, points, first, end))]];
  }
  return null;
}

function stepsOf({ steps }: Rows, episode: Row): { step: Row; row: number }[] {
  return steps.flatMap((step, row) =>
    step.episode === episode.episode && (step.agent_id ?? "") === (episode.agent_id ?? "") ? [{ step, row }] : [],
  );
}

function episode(held: Rows, ask: Record<string, unknown>): Answered {
  const row =
    typeof ask.row === "number"
      ? ask.row
      : held.episodes.findIndex((one) => one.episode === ask.episode && (one.agent_id ?? "") === ask.agent);
  const known = held.episodes[row];
  if (!known) throw new Error(`there is no episode ${ask.episode ?? `in row ${row}`}`);
  const all = stepsOf(held, known);
  const count = Math.min(Number(ask.count ?? PART), PART);
  let first = Number(ask.first ?? 0);
  if (typeof ask.step === "number") {
    const at = all.findIndex(({ step }) => Number(step.step_index) >= Number(ask.step));
    const place = at < 0 ? Math.max(0, all.length - 1) : at;
    first = place - (place % count);
  }
  const part = all.slice(first, first + count);
  const grids: Grid[] = [];
  const numbers = new Map<string, number>();
  const actions: string[] = [];
  const drawn = part.map(({ step }) => {
    const grid = held.picture(step);
    actions.push(grid?.action ?? "");
    if (!grid) return -1;
    const text = JSON.stringify({ ...grid, action: "", caption: "" });
    const number = numbers.get(text) ?? grids.length;
    if (number === grids.length) grids.push(JSON.parse(text) as Grid);
    numbers.set(text, number);
    return number;
  });
  const fields = {
    row,
    worker: String(known.worker_id ?? ""),
    agent: String(known.agent_id ?? ""),
    episode: known.episode,
    total: all.length,
    first,
    count: part.length,
    grids,
    drawn,
    actions,
  };
  return [fields, [toArrow(part.map(({ step, row: number }) => ({ ...step, row: number })))]];
}

function difference(held: Rows, { row, other }: Record<string, unknown>): Answered {
  const [a, b] = [row, other].map((one) => stepsOf(held, held.episodes[Number(one)] ?? {}));
  const [left, right] = [a ?? [], b ?? []];
  const at = left.findIndex(({ step }, i) => right[i] && step.action !== right[i].step.action);
  if (at >= 0) return [{ row, other, step: at, what: "action" }, []];
  const length = left.length !== right.length ? Math.min(left.length, right.length) : null;
  return [{ row, other, step: length, what: length === null ? "" : "length" }, []];
}

function layers(held: Rows): Answered {
  const visits = new Map<string, number>();
  const values = new Map<string, (number | null)[]>();
  for (const step of held.steps) {
    const grid = held.picture(step);
    if (!grid?.agent) continue;
    const key = JSON.stringify(grid.agent);
    visits.set(key, (visits.get(key) ?? 0) + 1);
    if (typeof step.q_after !== "number") continue;
    const known = values.get(key) ?? [null, null, null, null];
    known[Number(step.action)] = step.q_after;
    values.set(key, known);
  }
  const fields = {
    rows: held.steps.length,
    total: held.steps.length,
    full: false,
    actions: ["left", "down", "right", "up"],
    visits: [...visits].map(([at, count]) => [...(JSON.parse(at) as number[]), count]),
    values: [...values].map(([at, known]) => [...(JSON.parse(at) as number[]), known]),
  };
  return [fields, []];
}
