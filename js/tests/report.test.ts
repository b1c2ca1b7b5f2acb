// What a report answers, over blocks as report/page.py writes them.

import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { BLANK, type Row, toArrow } from "../fake-kernel.ts";
import { frameFrom } from "../src/frames.ts";
import { type Answer, openLink } from "../src/link.ts";
import { type Meta, REPORT_VERSION, ReportData } from "../src/report-data.ts";
import { ReportModel } from "../src/report-kernel.ts";

const TEXT = new TextEncoder();

function packed(bytes: Uint8Array): string {
  return Buffer.from(gzipSync(bytes)).toString("base64");
}

function arrow(rows: Row[]): string {
  const view = toArrow(rows);
  return packed(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
}

const EPISODES = [5, 6, 7, 8].map((episode, i) => ({
  worker_id: "",
  agent_id: i % 2 ? "right" : "left",
  episode,
  steps: 3,
  total_reward: [2, -1, 0.5, -4][i] as number,
  outcome: i === 1 ? "Failed" : "Success",
}));
const STEPS = [5, 6, 8].flatMap((episode) =>
  [0, 1, 2].map((step_index) => ({
    episode,
    step_index,
    action: String(step_index),
    q_before: 0.25,
    q_after: step_index === 1 ? 0.5 : null,
    reward: step_index * episode,
    state: [0, step_index],
  })),
);

function meta(change: Partial<Meta> = {}): Meta {
  return {
    version: REPORT_VERSION,
    title: "a report",
    notes: [],
    state: { ...BLANK, connection: { ...BLANK.connection, state: "recording" }, agents: ["left", "right"] },
    counts: [3, 3, -1, 3],
    blocks: [4, 5],
    json: { steps: ["action"], episodes: [] },
    nulls: { steps: ["note"], episodes: [] },
    ...change,
  };
}

const GRIDS = [0, 1].map((col) => ({
  game: "",
  tiles: ["AB"],
  agent: [0, col],
  marks: [],
  walls: [],
  action: "",
  caption: "",
}));

const NAMES = { FrozenLake: ["left", "down", "right", "up"] };
const SUMS = { agent: null, full: false, visits: [[0, 0, 9]], values: [["||", 0, 0, [[2, 7]]]] };

function blocks(change: Partial<Meta> = {}): Map<string, string> {
  return new Map([
    ["meta", packed(TEXT.encode(JSON.stringify(meta(change))))],
    ["episodes", arrow(EPISODES)],
    ["steps-0", arrow(STEPS.slice(0, 4))],
    ["steps-1", arrow(STEPS.slice(4))],
    ["layers", packed(TEXT.encode(JSON.stringify({ game: "", names: NAMES, of: [SUMS] })))],
    [
      "pictures-1",
      packed(
        TEXT.encode(
          JSON.stringify({
            grids: GRIDS,
            drawn: [0, 1, 0, 1, -1],
            actions: ["a", "b", "c", "d", ""],
            begins: [0, 1, -1, 0, 0],
            spots: [
              ["||", 0, 1],
              ["R|G|", 2, 2],
            ],
          }),
        ),
      ),
    ],
  ]);
}

async function opened(): Promise<(kind: string, fields?: Record<string, unknown>) => Promise<Answer>> {
  const held = blocks();
  const model = new ReportModel(await ReportData.open((name) => held.get(name) ?? null));
  const nothing = (): void => {};
  const faulted = (message: string) => expect.fail(message);
  const link = openLink(model as never, { push: nothing, late: nothing, kernel: nothing, faulted, expecting: false });
  return (kind, fields = {}) => link.ask(kind, fields);
}

function column(answer: Answer, name: string): unknown[] {
  const frame = frameFrom(answer.buffers[0] as DataView);
  return Array.from({ length: frame.rows }, (_, row) => frame.columns.get(name)?.at(row) ?? null);
}

describe("a report", () => {
  it("has rows of both tables, over the edge of a block", async () => {
    const ask = await opened();
    const steps = await ask("ask_rows", { table: "steps", first: 2, count: 4 });
    expect(steps.spans).toEqual([{ table: "steps", first: 2, count: 4, total: 9 }]);
    expect(column(steps, "episode")).toEqual([5, 6, 6, 6]);
    expect(column(steps, "reward")).toEqual([10, 0, 6, 12]);
    const episodes = await ask("ask_rows", { table: "episodes", first: 0, count: 50 });
    expect(column(episodes, "total_reward")).toEqual([2, -1, 0.5, -4]);
  });

  it("selects and sorts rows as the kernel does", async () => {
    const ask = await opened();
    const found = await ask("ask_rows", {
      table: "steps",
      first: 0,
      count: 50,
      where: "episode > 5 and action > 0",
      sort: "reward",
      descending: true,
    });
    expect(column(found, "reward")).toEqual([16, 12, 8, 6]);
    expect(column(found, "row")).toEqual([8, 5, 7, 4]);
    expect(found.spans[0]?.total).toBe(4);
    const byText = await ask("ask_rows", { table: "episodes", first: 0, count: 9, sort: "outcome" });
    expect(column(byText, "episode")).toEqual([6, 5, 7, 8]);
    const none = await ask("ask_rows", { table: "steps", first: 0, count: 9, where: "note is not null" });
    expect(none.spans[0]?.count).toBe(0);
    const fault = await ask("ask_rows", { table: "episodes", first: 0, count: 9, where: "outcom == 'Failed'" });
    expect(fault.fields.fault).toMatchObject({ position: 0, near: ["outcome"] });
  });

  it("finds an episode, a step of it, and what a cell holds", async () => {
    const ask = await opened();
    const { fields } = await ask("ask_find", { episode: 6, step: 2 });
    expect(fields.found).toEqual([{ episode: { row: 1, worker: "", agent: "right", episode: 6 }, row: 5 }]);
    expect((await ask("ask_find", { episode: 7 })).fields.found).toMatchObject([{ row: null }]);
    expect((await ask("ask_find", { episode: 6, agent: "left" })).fields.found).toEqual([]);
    // Among chosen rows: the step itself, or the last of the episode where there is none so late.
    const chosen = { episode: 6, table: "steps", where: "episode > 5" };
    expect((await ask("ask_find", { ...chosen, step: 1 })).fields.found).toMatchObject([{ row: 1 }]);
    expect((await ask("ask_find", { ...chosen, step: 9 })).fields.found).toMatchObject([{ row: 2 }]);
    expect((await ask("ask_cell", { table: "steps", row: 4, column: "reward" })).fields.text).toBe("6");
  });

  it("replays an episode with its pictures, and says which one it has not got", async () => {
    const ask = await opened();
    const { fields, buffers, spans } = await ask("ask_episode", { row: 1, count: 2, step: 1 });
    expect(fields).toMatchObject({ row: 1, agent: "right", episode: 6, total: 3, first: 0, count: 2 });
    expect(fields).toMatchObject({ drawn: [-1, 0], actions: ["", "a"] });
    expect(column({ fields, buffers, spans }, "row")).toEqual([3, 4]);
    await expect(ask("ask_episode", { row: 2 })).rejects.toThrow("the steps of this episode are not in this report");
    await expect(ask("ask_episode", { row: 99 })).rejects.toThrow("there is no such episode");
    expect((await ask("ask_difference", { row: 0, other: 1 })).fields).toMatchObject({ step: null, what: "" });
  });

  it("counts the layers of an episode over its steps, values too", async () => {
    const ask = await opened();
    const { fields } = await ask("ask_layers", { first: 1, last: 1, agent: "right", game: "FrozenLake" });
    expect(fields).toMatchObject({
      rows: 3,
      total: 3,
      full: false,
      visits: [
        [0, 0, 1],
        [0, 1, 1],
      ],
    });
    // Of step 4 the newest value, of step 5 none that is known; step 3 began nobody knows where.
    expect(fields.values).toEqual([[0, 1, [null, 0.5, null, null]]]);
    const other = await ask("ask_layers", { first: 1, last: 1, context: "R|G|", game: "FrozenLake" });
    expect(other.fields.values).toEqual([[2, 2, [null, null, 0.25, null]]]);
    await expect(ask("ask_layers", { first: 2, last: 2 })).rejects.toThrow("are not in this report");
  });

  it("draws curves of all and of an agent in buckets", async () => {
    const ask = await opened();
    const whole = await ask("ask_curve", { y: "total_reward", agent: null, points: 2, first: 0, end: 4 });
    expect(column(whole, "place")).toEqual([0, 2]);
    expect(column(whole, "min")).toEqual([-1, -4]);
    expect(column(whole, "mean")).toEqual([0.5, -1.75]);
    const right = await ask("ask_curve", { y: "steps", agent: "right", points: 9, first: 0, end: 9 });
    expect(column(right, "from")).toEqual([6, 8]);
  });

  it("refuses what it does not know", async () => {
    const ask = await opened();
    await expect(ask("ask_control", { action: "pause" })).rejects.toThrow("a report has no answer to ask_control");
  });

  it("says when its file is not whole", async () => {
    const open = (held: Map<string, string>): Promise<unknown> => ReportData.open((name) => held.get(name) ?? null);
    const cut = blocks();
    cut.delete("episodes");
    await expect(open(cut)).rejects.toThrow("the file has no block episodes");
    await expect(open(blocks({ version: 99 }))).rejects.toThrow("of version 99");
    await expect(open(blocks({ blocks: [4, 6] }))).rejects.toThrow("the episodes have 9 steps, the file 10");
  });
});
