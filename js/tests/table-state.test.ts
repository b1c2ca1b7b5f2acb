// @vitest-environment jsdom
import { describe, expect, test, vi } from "vitest";
import { FakeKernel, type Row, toArrow } from "../fake-kernel.ts";
import { REFRESH_MS } from "../src/arrangement.ts";
import type { Answer } from "../src/link.ts";
import { RunState } from "../src/run-state.ts";
import { Selection } from "../src/selection.ts";
import { tsvCell } from "../src/table-hands.ts";
import { filterTables, TableState } from "../src/table-state.ts";
import { makeTree } from "../src/tree.ts";
import { FakeClock, settled } from "./fakes.ts";

function setUp() {
  const clock = new FakeClock();
  const run = new RunState({ clock });
  const kernel = new FakeKernel();
  kernel.model.on("msg:custom", (content, buffers) => run.push(content as never, buffers));
  const ask = vi.fn<(kind: string, fields: Record<string, unknown>) => Promise<Answer>>();
  const answer = (rows: Row[], total: number, more: object = {}): void => {
    const spans = [{ table: "steps", first: 0, count: rows.length, total }];
    ask.mockResolvedValueOnce({ spans, buffers: [toArrow(rows)], fields: { scanned: 100, of: 100, ...more } });
  };
  const state = new TableState("steps", run, { ask }, clock);
  return { clock, run, kernel, ask, answer, state };
}

describe("a table that is arranged", () => {
  test("asks for what it shows, and again while rows come", async () => {
    const { clock, kernel, ask, answer, state } = setUp();
    kernel.addSteps({ step_index: 0 });
    kernel.push();
    answer([{ step_index: 7, row: 70 }], 2);
    ask.mockReturnValue(new Promise(() => {}));
    state.sortBy("step_index");
    state.want({}, 0, 40);
    await clock.pass(50);
    expect(ask.mock.calls[0]).toEqual([
      "ask_rows",
      { table: "steps", first: 0, count: 60, where: "", sort: "step_index", descending: false },
    ]);
    expect(state.rows.total).toBe(2);
    expect(state.rows.columns.map(({ name }) => name)).toEqual(["step_index"]);
    answer([{ step_index: 6, row: 71 }], 3);
    kernel.addSteps({ step_index: 1 });
    kernel.push();
    await clock.pass(REFRESH_MS);
    expect(state.rows.total).toBe(3);
    state.sortBy("step_index");
    expect(state.wish).toMatchObject({ sort: "step_index", descending: true });
    state.sortBy("step_index");
    expect(state.arrangement).toBeNull();
    expect(state.rows.total).toBe(2);
    state.close();
    expect(clock.pending).toBe(0);
  });

  test("a fault is kept and not asked for again; what was not looked at yet is asked for at once", async () => {
    const { clock, ask, answer, state } = setUp();
    ask.mockResolvedValueOnce({
      spans: [],
      buffers: [],
      fields: { fault: { reason: "no", position: 3, near: ["x"] } },
    });
    state.arrange({ where: "rewrd > 1" });
    await clock.pass(10_000);
    expect(state.arrangement?.fault).toEqual({ reason: "no", position: 3, near: ["x"] });
    expect(ask).toHaveBeenCalledTimes(1);
    answer([], 0, { scanned: 50 });
    answer([{ step_index: 1, row: 1 }], 1);
    state.arrange({ where: "reward > 1" });
    await clock.pass(1_100);
    expect(state.arrangement?.progress).toEqual({ scanned: 100, of: 100 });
    expect(state.rows.total).toBe(1);
    state.close();
  });

  test("columns are hidden, moved and put back", () => {
    const { kernel, state } = setUp();
    kernel.addSteps({ step_index: 0, reward: 1, action: "1" });
    kernel.push();
    const names = () => state.columns.map(({ name }) => name);
    expect(names()).toEqual(["step_index", "action", "reward"]);
    state.move("reward", -1);
    state.show("action", false);
    expect(names()).toEqual(["step_index", "reward", "action"]);
    expect([...state.hidden]).toEqual(["action"]);
    state.reset();
    expect([names(), state.hidden.size]).toEqual([["step_index", "action", "reward"], 0]);
  });

  test("the selection's filter and agent are what every table filters by", () => {
    const { ask, state } = setUp();
    ask.mockReturnValue(new Promise(() => {}));
    const selection = new Selection();
    const end = filterTables(selection, [state]);
    selection.set({ filter: "a or b" });
    expect(state.wish.where).toBe("a or b");
    selection.set({ agent: "O'Neill\\" });
    expect(state.wish.where).toBe("(a or b) and agent_id == 'O\\'Neill\\\\'");
    selection.set({ filter: "", agent: null });
    expect(state.arrangement).toBeNull();
    end();
    state.close();
  });
});

test("a cell of tab-separated values is one cell in a spreadsheet", () => {
  expect(["plain", "a\tb", 'say "x"'].map(tsvCell)).toEqual(["plain", '"a\tb"', '"say ""x"""']);
});

test("a value is a tree of text, however hostile, and what is no JSON is as it is", async () => {
  const tree = makeTree('{"<img src=x>": {"deep": {"er": [1, {"x": null}]}}, "list": [1, 2]}');
  expect(tree.querySelector("img")).toBeNull();
  expect(tree.textContent).toContain("<img src=x> {1}");
  expect(tree.textContent).toContain("list: [1,2]");
  expect(tree.textContent).not.toContain("er");
  const closed = tree.querySelector<HTMLDetailsElement>("details:not([open])");
  if (closed) closed.open = true;
  await settled();
  await vi.waitFor(() => expect(tree.textContent).toContain("er"));
  expect(makeTree("no JSON <b>").querySelector("pre")?.textContent).toBe("no JSON <b>");
});
