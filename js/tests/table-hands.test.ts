// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FakeKernel, toArrow } from "../fake-kernel.ts";
import { VERSION } from "../src/messages.ts";
import factory from "../src/widget.ts";

const at = (testid: string): HTMLElement => document.querySelector(`[data-testid="${testid}"]`) as HTMLElement;
/** What is on screen of the step table: episode and step of each row. */
const shown = (): string[] => {
  const grid = at("ltw-steps-table").querySelector("regular-table") as HTMLElement;
  const heads = [...grid.querySelectorAll("thead th")].map((th) => th.textContent ?? "");
  return [...grid.querySelectorAll("tbody tr:not(.ltw-stale)")].map((tr) =>
    ["Episode", "Step"].map((name) => tr.children[heads.indexOf(name)]?.textContent ?? "").join(":"),
  );
};

let kernel: FakeKernel;
let ends: (() => void)[];

beforeEach(async () => {
  kernel = new FakeKernel();
  for (let episode = 0; episode < 20; episode++) {
    for (let i = 0; i < 30; i++)
      kernel.addSteps({ agent_id: "a", worker_id: "", episode, step_index: i, reward: i % 10 });
    const outcome = episode % 4 === 3 ? "Failed" : "Success";
    kernel.setEpisode(episode, { agent_id: "a", worker_id: "", episode, steps: 30, total_reward: 1, outcome });
  }
  const widget = factory();
  ends = [widget.initialize({ model: kernel.model as never })];
  const el = document.createElement("div");
  document.body.append(el);
  ends.unshift(widget.render({ model: kernel.model as never, el }));
  await vi.waitFor(() => expect(shown().at(-1)).toBe("19:29"));
});
afterEach(() => {
  for (const end of ends) end();
  document.body.replaceChildren();
});

const select = (episode: number, more: object = {}): void =>
  kernel.setTrait("selection", {
    ...(kernel.traits.selection as object),
    episode: { row: episode, worker: "", agent: "a", episode },
    step: null,
    live: false,
    ...more,
  });

describe("the step table goes where the selection is", () => {
  test("when the filter is one for episodes alone", async () => {
    kernel.setTrait("filter", "outcome == 'Failed'");
    await vi.waitFor(() => expect(at("ltw-filter-note").textContent).toContain("5 episodes"));
    select(7);
    await vi.waitFor(() => expect(shown()).toContain("7:0"));
    kernel.setTrait("step", 29);
    await vi.waitFor(() => expect(shown()).toContain("7:29"));
  });

  test("when steps are filtered: to the step, or the next of its episode that is there", async () => {
    kernel.setTrait("filter", "reward == 4");
    await vi.waitFor(() => expect(at("ltw-filter-note").textContent).toContain("60 steps"));
    select(7);
    await vi.waitFor(() => expect(shown()).toContain("7:4"));
    select(17, { step: 24 });
    await vi.waitFor(() => expect(shown()).toContain("17:24"));
    expect(kernel.heard).toContainEqual(expect.objectContaining({ kind: "ask_find", where: "reward == 4", step: 24 }));
  });

  test("when the filter comes after it, and when it goes", async () => {
    select(7, { step: 14 });
    await vi.waitFor(() => expect(shown()).toContain("7:14"));
    kernel.setTrait("filter", "reward == 4");
    await vi.waitFor(() => expect(shown()).toEqual(expect.arrayContaining(["7:4", "7:14", "7:24"])));
    kernel.setTrait("filter", "");
    await vi.waitFor(() => expect(shown()).toContain("7:13"));
  });

  test("when it was under a tab that was not chosen", async () => {
    const grid = at("ltw-steps-table").querySelector("regular-table") as HTMLElement;
    Object.defineProperty(grid, "clientHeight", { configurable: true, value: 0 });
    let top = 0;
    Object.defineProperty(grid, "scrollTop", {
      configurable: true,
      get: () => top,
      // What has no size does not scroll.
      set: (value: number) => {
        if (grid.clientHeight > 0) top = value;
      },
    });
    select(7);
    await vi.waitFor(() => expect(kernel.heard.at(-1)).toMatchObject({ kind: "ask_find", episode: 7 }));
    await vi.waitFor(() => expect(at("ltw-follow-steps").textContent).not.toContain("Following"));
    Reflect.deleteProperty(grid, "clientHeight");
    kernel.push();
    await vi.waitFor(() => expect(shown()).toContain("7:0"));
  });
});

test("in a table of ten million rows a wheel goes as far as it turns, and the thumb to its part of the whole", async () => {
  const total = 10_000_000;
  const rows = [{ agent_id: "a", worker_id: "", episode: 90, step_index: 1, reward: 0 }];
  kernel.say(
    {
      kind: "push",
      version: VERSION,
      number: ++kernel.pushes,
      keyframe: false,
      state: { ...kernel.state, steps: total },
      spans: [{ table: "steps", first: total - 1, count: 1, total }],
    },
    [toArrow(rows)],
  );
  await vi.waitFor(() => expect(shown().at(-1)).toBe("90:1"));
  const grid = at("ltw-steps-table").querySelector("regular-table") as HTMLElement;
  const first = (): number => Number(grid.querySelector("tbody tr:not(.ltw-stale)")?.getAttribute("aria-rowindex"));
  const scroll = (by: number): void => {
    grid.scrollTop += by;
    grid.dispatchEvent(new Event("scroll"));
  };
  kernel.setTrait("selection", { ...(kernel.traits.selection as object), live: false });
  at("ltw-follow-steps").click();
  await vi.waitFor(() => expect(at("ltw-follow-steps").textContent).toContain("Jump"));
  grid.scrollTop = 2_400_000;
  grid.dispatchEvent(new Event("scroll"));
  await vi.waitFor(() => expect(first()).toBeLessThan(6_000_000));
  // Where it settles, the same rows are shown.
  const before = first();
  for (let turn = 1; turn <= 3; turn++) {
    grid.dispatchEvent(new Event("wheel"));
    scroll(-2400);
    await vi.waitFor(() => expect(first()).toBe(before - 100 * turn));
  }
  grid.dispatchEvent(new Event("pointerdown"));
  scroll(-24_000);
  await vi.waitFor(() => expect(first()).toBeLessThan(before - 10_000));
});

describe("the filter's field", () => {
  const field = (): HTMLInputElement => at("ltw-filter") as HTMLInputElement;
  const note = (): string => at("ltw-filter-note").textContent ?? "";
  const type = (text: string): void => {
    field().value = text;
    field().dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  };

  test("takes what columns are called on screen, and shows their names", async () => {
    type("Return > 0 and Outcome == 'Failed'");
    expect([field().value, kernel.traits.filter]).toEqual(Array(2).fill("total_reward > 0 and outcome == 'Failed'"));
    await vi.waitFor(() => expect(note()).toBe("all steps, which have no total_reward · 5 episodes"));
    const title = [...document.querySelectorAll("th")].find((th) => th.textContent?.includes("Step Reward"))?.title;
    expect(title).toBe("Step Reward, in a filter reward; click to sort");
  });

  test("does not change what is being typed", async () => {
    field().value = "Return > 0";
    field().dispatchEvent(new Event("input"));
    await vi.waitFor(() => expect(kernel.traits.filter).toBe("total_reward > 0"));
    expect(field().value).toBe("Return > 0");
    field().dispatchEvent(new Event("change"));
    expect(field().value).toBe("total_reward > 0");
  });

  test("keeps what is being typed while something is played", () => {
    select(7);
    field().value = "rewa";
    kernel.setTrait("step", 3);
    expect(field().value).toBe("rewa");
    kernel.setTrait("filter", "reward > 3");
    expect(field().value).toBe("reward > 3");
  });

  test("gives an example that works", async () => {
    expect(field().placeholder).toContain("reward > 0");
    for (const example of ["reward > 0", "outcome == 'Failed' and steps < 40"]) {
      type(example);
      await vi.waitFor(() => expect(note()).toMatch(/^\d+ steps|all steps.*\d episodes$/));
    }
  });

  test("says of which table a fault is, and where also beside an agent's", async () => {
    type("reward > 0 and outcome == 'Failed'");
    await vi.waitFor(() =>
      expect(note()).toContain("outcome is a column of the episodes alone, and reward of the steps"),
    );
    kernel.setTrait("selection", { ...(kernel.traits.selection as object), agent: "a", filter: "rewad > 0" });
    await vi.waitFor(() => expect(note()).toContain("did you mean 'reward' (steps)? (at character 1)"));
  });
});
