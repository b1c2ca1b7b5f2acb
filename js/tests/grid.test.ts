// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { answerOf } from "../fake-episodes.ts";
import { FakeKernel } from "../fake-kernel.ts";
import type { Grid } from "../src/messages.ts";
import { describe as inWords } from "../src/picture.ts";
import factory from "../src/widget.ts";

const at = (testid: string): HTMLElement => {
  const found = document.querySelector<HTMLElement>(`[data-testid="${testid}"]`);
  if (!found) throw new Error(`nothing has data-testid ${testid}`);
  return found;
};
const seen = (testid = "ltw-grid"): string => at(testid).getAttribute("aria-label") ?? "";
const press = (key: string, on: Element = document.querySelector(".ltw-grid") as Element, more = {}): boolean =>
  on.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));

const board = (col: number, action = "right"): Grid => ({
  game: "FrozenLake",
  tiles: ["SFFFFFFFFG"],
  agent: [0, col],
  marks: [],
  walls: [],
  action,
  caption: "",
});

let kernel: FakeKernel;
let close: () => void;

beforeEach(async () => {
  kernel = new FakeKernel();
  kernel.further.push((ask) =>
    answerOf(
      { steps: kernel.steps, episodes: kernel.episodes, picture: (step) => board(Number(step.step_index)) },
      ask,
    ),
  );
  for (const [row, length] of [8, 5].entries()) {
    for (let i = 0; i < length; i++) {
      const action = row === 1 && i === 3 ? "0" : "2";
      kernel.addSteps({
        timestamp: 0,
        agent_id: "a",
        worker_id: "",
        episode: 7 + row,
        step_index: i,
        action,
        reward: 0,
      });
    }
    const fields = { timestamp: 0, agent_id: "a", worker_id: "", episode: 7 + row, steps: length, total_reward: 0 };
    kernel.setEpisode(row, { ...fields, outcome: "Completed", terminated: true, truncated: false });
  }
  kernel.state = { ...kernel.state, agents: ["a"], grid: { ...board(4), caption: "episode 8, step 4" } };
  const widget = factory();
  const ends = [widget.initialize({ model: kernel.model as never })];
  const el = document.createElement("div");
  document.body.append(el);
  ends.unshift(widget.render({ model: kernel.model as never, el }));
  close = () => {
    for (const end of ends) end();
  };
  await vi.waitFor(() => expect(seen()).toContain("episode 8, step 4"));
});
afterEach(() => {
  close();
  document.body.replaceChildren();
});

const selectEpisode = async (row: number): Promise<void> => {
  kernel.setTrait("selection", { episode: { row, worker: "", agent: "a", episode: 7 + row }, live: false });
  await vi.waitFor(() => expect(seen()).toContain(`episode ${7 + row}, step 0`));
};

describe("the grid view", () => {
  test("shows an episode that Python selects, and what is stepped to is Python's too", async () => {
    await selectEpisode(0);
    expect(at("ltw-where").textContent).toBe("episode 7, step 0 of 8");
    at("ltw-on").click();
    expect(seen()).toContain("episode 7, step 1, agent at row 0, column 1");
    expect(kernel.traits.step).toBe(1);
    const slider = at("ltw-slider") as HTMLInputElement;
    expect([slider.value, slider.max, slider.getAttribute("aria-valuetext")]).toEqual(["1", "7", "step 1 of 8"]);
    slider.value = "6";
    slider.dispatchEvent(new Event("input"));
    expect(kernel.traits.step).toBe(6);
    at("ltw-live").click();
    expect(seen()).toContain("episode 8, step 4");
    expect(at("ltw-live").getAttribute("aria-pressed")).toBe("true");
  });

  test("is worked with keys", async () => {
    await selectEpisode(0);
    for (const [key, step] of [
      ["ArrowRight", 1],
      ["End", 7],
      ["ArrowLeft", 6],
      ["Home", 0],
    ] as const) {
      expect(press(key), `${key} is taken`).toBe(false);
      expect(kernel.traits.step).toBe(step);
    }
    press("ArrowRight", undefined, { shiftKey: true });
    expect(kernel.traits.step).toBe(7);
    press("]");
    await vi.waitFor(() => expect(seen()).toContain("episode 8, step 0"));
    press("[");
    await vi.waitFor(() => expect(seen()).toContain("episode 7, step 0"));
    press(" ");
    expect(at("ltw-play").dataset.playing).toBe("true");
    press(" ");
    expect(at("ltw-play").dataset.playing).toBe("false");
    press("+");
    expect((at("ltw-speed") as HTMLSelectElement).value).toBe("2");
    press("l");
    expect(at("ltw-live").getAttribute("aria-pressed")).toBe("true");
  });

  test("leaves keys to the fields, and those with Ctrl to the browser", async () => {
    await selectEpisode(0);
    expect(press("Home", at("ltw-compare-episode"))).toBe(true);
    expect(press("ArrowRight", undefined, { ctrlKey: true })).toBe(true);
    expect(press(" ", at("ltw-live"))).toBe(true);
    expect(kernel.traits.step).toBe(0);
  });

  test("space in what is live stops at its newest step", async () => {
    press(" ");
    await vi.waitFor(() => expect(at("ltw-where").textContent).toBe("episode 8, step 4 of 5"));
    expect(at("ltw-live").getAttribute("aria-pressed")).toBe("false");
  });

  test("two episodes stand side by side, and the first difference is marked", async () => {
    await selectEpisode(0);
    const field = at("ltw-compare-episode") as HTMLInputElement;
    field.value = "8";
    field.closest("form")?.requestSubmit();
    await vi.waitFor(() => expect(seen("ltw-grid-other")).toContain("episode 8, step 0"));
    await vi.waitFor(() => expect(document.body.textContent).toContain("8 differs from step 3: action"));
    const differs = (): boolean => document.querySelector(".ltw-shot[data-differs]") !== null;
    expect(differs()).toBe(false);
    at("ltw-first-difference").click();
    expect([kernel.traits.step, differs()]).toEqual([3, true]);
    expect(seen("ltw-grid-other")).toContain("step 3");
    const titles = () => [...document.querySelectorAll(".ltw-shot-title")].map((title) => title.textContent);
    expect(titles().some((title) => title?.includes("ended"))).toBe(false);
    press("End");
    expect(seen("ltw-grid-other")).toContain("step 4");
    expect(titles()).toEqual(["episode 7", "8 differs from step 3: action · ended"]);
    at("ltw-compare-stop").click();
    expect(at("ltw-grid-other").parentElement?.hidden).toBe(true);
  });

  test("Enter in the field compares, whatever the host does with Enter", async () => {
    await selectEpisode(0);
    const field = at("ltw-compare-episode") as HTMLInputElement;
    field.value = "8";
    const heard = vi.fn();
    document.addEventListener("keydown", heard);
    expect(press("Enter", field)).toBe(false);
    document.removeEventListener("keydown", heard);
    expect(heard).not.toHaveBeenCalled();
    await vi.waitFor(() => expect(seen("ltw-grid-other")).toContain("episode 8, step 0"));
  });

  test("an episode that there is not, or has no steps, has no picture, and words say why", async () => {
    await selectEpisode(0);
    const words = (): string => document.querySelector(".ltw-stage .ltw-nothing:not([hidden])")?.textContent ?? "";
    const select = (row: number, episode: number): void =>
      kernel.setTrait("selection", { episode: { row, worker: "", agent: "a", episode }, live: false });
    select(99, 99);
    await vi.waitFor(() => expect(words()).toBe("There is no episode in row 99."));
    expect([at("ltw-grid").hidden, at("ltw-where").textContent]).toEqual([true, "episode 99"]);
    select(1, 8);
    await vi.waitFor(() => expect(seen()).toContain("episode 8, step 0"));
    expect([at("ltw-grid").hidden, words()]).toEqual([false, ""]);
    select(1, 12);
    await vi.waitFor(() => expect(words()).toBe("There is no episode 12 of a in row 1: that is episode 8 of a."));
    expect(at("ltw-grid").hidden).toBe(true);
    kernel.setEpisode(2, { agent_id: "a", worker_id: "", episode: 9, steps: 0, total_reward: 0, outcome: "Success" });
    kernel.push();
    select(2, 9);
    await vi.waitFor(() => expect(words()).toBe("Episode 9 has no steps here."));
    expect(at("ltw-grid").hidden).toBe(true);
  });

  test("an episode that is not there is not compared with", async () => {
    await selectEpisode(0);
    const field = at("ltw-compare-episode") as HTMLInputElement;
    field.value = "99";
    field.closest("form")?.requestSubmit();
    await vi.waitFor(() => expect(kernel.heard.at(-1)).toMatchObject({ kind: "ask_episode", episode: 99 }));
    await vi.waitFor(() => expect(at("ltw-where").textContent).toContain("there is no episode 99"));
    expect(at("ltw-grid-other").parentElement?.hidden).toBe(true);
  });

  test("layers are offered as the picture can have them, and sums asked for when one is shown", async () => {
    at("ltw-layers").click();
    const offered = [...document.querySelectorAll<HTMLElement>("[data-testid^=ltw-layer-]")].filter(
      (box) => !box.hidden,
    );
    expect(offered.map((box) => box.textContent?.trim())).toEqual([
      "Direction",
      "Last path",
      "Visits",
      "Best actions",
      "Values",
    ]);
    expect(kernel.heard.some(({ kind }) => kind === "ask_layers")).toBe(false);
    at("ltw-layer-heat").querySelector("input")?.click();
    await vi.waitFor(() => expect(kernel.heard.at(-1)).toMatchObject({ kind: "ask_layers", context: "||" }));
  });

  test("help lists the keys, and closes with Escape", () => {
    press("?");
    const help = document.querySelector<HTMLElement>("dl")?.parentElement as HTMLElement;
    expect(help.hidden).toBe(false);
    expect(help.textContent).toContain("back to live");
    press("Escape", help);
    expect(help.hidden).toBe(true);
  });
});

describe("in words", () => {
  test("a hand of cards, a frame, and who looks where", () => {
    const none = { game: "", tiles: [], agent: null, marks: [], walls: [], action: "", caption: "" };
    const cards = { player: 17, dealer: 1, usable_ace: true };
    expect(inWords({ ...none, game: "Blackjack", cards, action: "hit" })).toBe(
      "Blackjack, player has 17 with a usable ace, dealer shows an ace, action hit",
    );
    const image = { format: "png", data: "", width: 1, height: 1 } as const;
    expect(inWords({ ...none, image, caption: "episode 1, step 2" })).toBe("frame, episode 1, step 2");
    expect(inWords({ ...none, tiles: ["."], agent: [0, 0], facing: "up" })).toBe(
      "grid, agent at row 0, column 0 facing up",
    );
  });
});
