// @vitest-environment jsdom

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BLANK, FakeKernel, type Row } from "../fake-kernel.ts";
import { describe as describeGrid } from "../src/picture.ts";
import { plain } from "../src/plain.ts";
import factory from "../src/widget.ts";

const at = (testid: string, within: ParentNode = document): HTMLElement => {
  const found = within.querySelector<HTMLElement>(`[data-testid="${testid}"]`);
  if (!found) throw new Error(`nothing has data-testid ${testid}`);
  return found;
};
const cells = (testid: string, within: ParentNode = document): string[][] =>
  [...at(testid, within).querySelectorAll("tbody tr")].map((tr) => [...tr.children].map((td) => td.textContent ?? ""));
const headers = (testid: string): string[] =>
  [...at(testid).querySelectorAll("thead th")].map((th) => th.textContent ?? "");
const step = (i: number, more: Row = {}): Row => ({
  timestamp: 0,
  agent_id: "a",
  worker_id: "",
  episode: 3,
  step_index: i,
  action: "1",
  reward: 0.5,
  terminated: false,
  truncated: false,
  observation: "{}",
  ...more,
});

let kernel: FakeKernel;
let ends: (() => void)[] = [];

function open(views = 1): HTMLElement[] {
  const widget = factory();
  const model = kernel.model as never;
  ends.push(widget.initialize({ model }));
  return Array.from({ length: views }, () => {
    const el = document.createElement("div");
    document.body.append(el);
    ends.unshift(widget.render({ model, el }));
    return el;
  });
}

beforeEach(() => {
  kernel = new FakeKernel();
});
afterEach(() => {
  for (const end of ends) end();
  ends = [];
  document.body.replaceChildren();
});

describe("the widget", () => {
  test("shows state, counters, steps and episodes of a push", async () => {
    kernel.state = { ...BLANK, name: "my run", agents: ["a"], expected_episodes: 10, steps_per_s: 1234.4 };
    for (let i = 0; i < 30; i++) kernel.addSteps(step(i));
    kernel.setEpisode(0, {
      timestamp: 0,
      agent_id: "a",
      episode: 3,
      steps: 30,
      total_reward: 15,
      terminated: false,
      truncated: false,
      outcome: "Running",
    });
    open();
    await vi.waitFor(() => expect(cells("ltw-steps-table").at(-1)?.[3]).toBe("29"));
    expect(headers("ltw-steps-table")).toEqual([
      "Timestamp",
      "Agent",
      "Episode",
      "Step",
      "Action",
      "Step Reward",
      "Terminated",
      "Truncated",
      "Observation",
    ]);
    expect(at("ltw-state").textContent).toBe("Running");
    expect(at("ltw-steps-count").textContent).toBe("30");
    expect(at("ltw-episodes-count").textContent).toBe("1 of 10");
    expect(at("ltw-rate").textContent).toBe("1,234");
    expect(at("ltw-connection").textContent).toBe("live");
    expect(at("ltw-root").getAttribute("aria-label")).toBe("a demo run");
    await vi.waitFor(() =>
      expect(cells("ltw-episodes-table")[0]).toEqual([
        expect.stringMatching(/:/),
        "a",
        "3",
        "Running",
        "30",
        "15",
        "false",
        "false",
      ]),
    );
  });

  test("says nothing of live or newest of a run that is over", async () => {
    kernel.addSteps(step(0));
    kernel.setEpisode(0, { agent_id: "a", episode: 3, steps: 1, total_reward: 0, outcome: "Running" });
    open();
    const words = (): string[] =>
      ["ltw-follow-steps", "ltw-live", "ltw-connection"].map((testid) => at(testid).textContent ?? "");
    const rate = at("ltw-rate").parentElement as HTMLElement;
    await vi.waitFor(() => expect(words()).toEqual(["Following newest", "Live", "live"]));
    expect(rate.hidden).toBe(false);
    kernel.state = { ...BLANK, status: "completed" };
    kernel.push();
    await vi.waitFor(() => expect(words()).toEqual(["At the end", "End", "connected"]));
    expect(rate.hidden).toBe(true);
    at("ltw-follow-steps").click();
    expect(words()[0]).toBe("Jump to the end");
    kernel.state = { ...BLANK, connection: { ...BLANK.connection, state: "recording" } };
    kernel.push();
    await vi.waitFor(() => expect(words()).toEqual(["Jump to the end", "End", "recording"]));
    expect(at("ltw-slider").getAttribute("aria-valuetext")).toBe("at the end");
  });

  test("follows the newest row, and a new column takes its place", async () => {
    for (let i = 0; i < 50; i++) kernel.addSteps(step(i));
    open();
    await vi.waitFor(() => expect(cells("ltw-steps-table").at(-1)?.[3]).toBe("49"));
    kernel.addSteps(step(50, { worker_id: "w1", epsilon: 0.25 }));
    kernel.push();
    await vi.waitFor(() => expect(cells("ltw-steps-table").at(-1)?.[4]).toBe("50"));
    expect(headers("ltw-steps-table").slice(0, 4)).toEqual(["Timestamp", "Agent", "Worker", "Episode"]);
    expect(headers("ltw-steps-table").at(-1)).toBe("epsilon");
    expect(cells("ltw-steps-table").at(-1)?.at(-1)).toBe("0.25");
    expect(cells("ltw-steps-table").at(-2)?.at(-1)).toBe("");
  });

  test("rows that an earlier draw left below are not taken for rows", async () => {
    for (let i = 0; i < 100; i++) kernel.addSteps(step(i));
    open();
    const shown = (): number[] =>
      [...at("ltw-steps-table").querySelectorAll<HTMLTableRowElement>("tbody tr:not(.ltw-stale)")].map((tr) =>
        Number(tr.cells[3]?.textContent),
      );
    await vi.waitFor(() => expect(shown().at(-1)).toBe(99));
    const grid = at("ltw-steps-table").querySelector("regular-table");
    // Nearly a row off, one more row is on screen; afterwards it stays in the DOM.
    const table = grid as unknown as { predraw(w: number, h: number, o: object): Promise<() => boolean> };
    (await table.predraw(1200, 270, { container_height: 270, scroll_top: 20.9 * 24 }))();
    expect(shown()).toEqual(Array.from({ length: 12 }, (_, i) => 20 + i));
    kernel.push();
    await vi.waitFor(() => expect(shown()).toEqual(Array.from({ length: 11 }, (_, i) => 89 + i)));
    expect(at("ltw-steps-table").querySelectorAll("tbody tr.ltw-stale").length).toBe(1);
  });

  test("says in words that there is nothing yet", async () => {
    open();
    await vi.waitFor(() => expect(at("ltw-state").textContent).toBe("Waiting for the first step"));
    expect(at("ltw-steps-table").textContent).toContain("Waiting for the first step…");
    expect(at("ltw-episodes-table").textContent).toContain("Waiting for the first episode…");
    expect(at("ltw-root").textContent).toContain("Waiting for the first picture…");
    expect(at("ltw-root").textContent).toContain("No episode has ended yet.");
  });

  test("text from the wire is shown as text, wherever it turns up", async () => {
    const hostile = [
      '<img src=x onerror="window.hacked=1">',
      "<script>window.hacked=1</script>",
      "javascript:alert(1)",
      "</td></tr>&lt;b&gt;",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the very text
      "${window.hacked=1}",
      "\u202Egnp.exe",
      "{{7*7}}",
    ];
    for (const [i, text] of hostile.entries()) {
      kernel.addSteps(step(i, { agent_id: text, observation: text, action: text, [text]: text }));
      kernel.setEpisode(i, { timestamp: 0, agent_id: text, episode: i, total_reward: 1, outcome: text, [text]: text });
    }
    const all = hostile.join(" ");
    kernel.state = {
      ...BLANK,
      run_id: all,
      name: all,
      status: "failed",
      reason: all,
      connection: { state: "live", attempt: 0, retry_at: 0, message: all },
      agents: [all],
      problems: [{ kind: all, count: 1, detail: all }],
      grid: {
        game: all,
        tiles: ["<>"],
        agent: [0, 0],
        marks: [{ kind: all, row: 0, col: 0, label: all }],
        walls: [],
        action: all,
        caption: all,
      },
    };
    open();
    await vi.waitFor(() => expect(cells("ltw-steps-table").at(-1)?.[1]).toBe(hostile.at(-1)));
    const root = at("ltw-root");
    await vi.waitFor(() => expect(cells("ltw-episodes-table").length).toBe(hostile.length));
    const shown = new Set(
      [...cells("ltw-steps-table"), ...cells("ltw-episodes-table"), headers("ltw-steps-table")].flat(),
    );
    for (const text of hostile) expect(shown).toContain(plain(text));
    for (const part of [".ltw-notice", ".ltw-name", ".ltw-problem-detail", "figcaption"]) {
      expect(root.querySelector(part)?.textContent).toContain(plain(all));
    }
    expect(root.querySelector("img, script, iframe, a, b, i")).toBeNull();
    expect((window as { hacked?: number }).hacked).toBeUndefined();
  });

  test("two views of one model are each right, and one can go", async () => {
    for (let i = 0; i < 20; i++) kernel.addSteps(step(i));
    const [one, two] = open(2) as [HTMLElement, HTMLElement];
    for (const el of [one, two]) await vi.waitFor(() => expect(cells("ltw-steps-table", el).at(-1)?.[3]).toBe("19"));
    ends.shift()?.();
    expect(two.childElementCount).toBe(0);
    kernel.addSteps(step(20));
    kernel.push();
    await vi.waitFor(() => expect(cells("ltw-steps-table", one).at(-1)?.[3]).toBe("20"));
  });

  test("after cleanup nothing is left: no element, listener or style sheet", async () => {
    kernel.addSteps(step(0));
    open(2);
    await vi.waitFor(() => expect(cells("ltw-steps-table")).toHaveLength(1));
    const added = vi.spyOn(document, "removeEventListener");
    for (const end of ends) end();
    ends = [];
    expect(document.querySelector(".ltw")).toBeNull();
    expect(kernel.listeners).toBe(0);
    expect(document.adoptedStyleSheets).toHaveLength(0);
    expect(added).toHaveBeenCalledWith("selectionchange", expect.any(Function));
  });

  test("the bundle may be loaded twice in one page", async () => {
    const first = customElements.get("regular-table");
    vi.resetModules();
    const again = (await import("../src/widget.ts")).default;
    expect(again).not.toBe(factory);
    expect(customElements.get("regular-table")).toBe(first);
    const el = document.createElement("div");
    document.body.append(el);
    const widget = again();
    kernel.addSteps(step(7));
    ends.push(widget.initialize({ model: kernel.model as never }));
    ends.unshift(widget.render({ model: kernel.model as never, el }));
    await vi.waitFor(() => expect(cells("ltw-steps-table", el).at(-1)?.[3]).toBe("7"));
  });

  test("problems open from their badge and close with Escape", async () => {
    kernel.state = {
      ...BLANK,
      problems: [
        { kind: "bad_json", count: 3, detail: "line 4" },
        { kind: "gap", count: 1, detail: "step 9" },
      ],
    };
    open();
    const badge = at("ltw-problems") as HTMLButtonElement;
    await vi.waitFor(() => expect(badge.textContent).toBe("4 problems"));
    const list = document.querySelector<HTMLElement>(".ltw-problem-list");
    expect(list?.hidden).toBe(true);
    badge.click();
    expect(list?.hidden).toBe(false);
    expect(badge.getAttribute("aria-expanded")).toBe("true");
    expect(list?.textContent).toContain("bad json3×line 4");
    badge.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    expect(list?.hidden).toBe(true);
  });

  test("a run is stopped by two clicks, and what went wrong is said", async () => {
    kernel.state = { ...BLANK, controls: { offered: ["pause", "cancel"], asked: "", trouble: "" } };
    open();
    const asks = (): unknown[] => kernel.heard.filter((m) => m.kind === "ask_control").map((m) => m.action);
    const stop = at("ltw-cancel") as HTMLButtonElement;
    await vi.waitFor(() => expect(stop.hidden).toBe(false));
    expect(at("ltw-resume").hidden).toBe(true);
    at("ltw-pause").click();
    stop.click();
    expect(asks()).toEqual(["pause"]);
    expect(stop.textContent).toBe("Stop for good?");
    stop.dispatchEvent(new FocusEvent("blur"));
    expect(stop.textContent).toBe("Stop");
    stop.click();
    stop.click();
    expect(asks()).toEqual(["pause", "cancel"]);
    kernel.state = { ...kernel.state, controls: { offered: ["cancel"], asked: "", trouble: "<b>nobody listens</b>" } };
    kernel.push();
    await vi.waitFor(() => expect(at("ltw-controls-trouble").textContent).toBe("<b>nobody listens</b>"));
    expect(at("ltw-pause").hidden).toBe(true);
  });

  test("tabs are worked with the keyboard", () => {
    open();
    const [steps, episodes] = [at("ltw-tab-steps"), at("ltw-tab-episodes")];
    expect(steps.getAttribute("aria-selected")).toBe("true");
    steps.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    expect(episodes.getAttribute("aria-selected")).toBe("true");
    expect(document.activeElement).toBe(episodes);
    expect(document.getElementById(episodes.getAttribute("aria-controls") ?? "")?.hasAttribute("data-selected")).toBe(
      true,
    );
  });

  test("the theme is the host's, and follows it", async () => {
    document.body.dataset.jpThemeLight = "false";
    open();
    expect(at("ltw-root").dataset.theme).toBe("dark");
    document.body.dataset.jpThemeLight = "true";
    await vi.waitFor(() => expect(at("ltw-root").dataset.theme).toBe("light"));
    delete document.body.dataset.jpThemeLight;
  });
});

describe("what is drawn", () => {
  test("a grid in words", () => {
    expect(
      describeGrid({
        game: "FrozenLake",
        tiles: ["SF"],
        agent: [2, 1],
        marks: [],
        walls: [],
        action: "down",
        caption: "episode 3, step 5",
      }),
    ).toBe("FrozenLake, episode 3, step 5, agent at row 2, column 1, action down");
  });
});
