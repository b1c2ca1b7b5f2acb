// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BLANK, curveRows, type Row, toArrow } from "../fake-kernel.ts";
import { makeChart } from "../src/chart.ts";
import { MEASURES } from "../src/curves.ts";
import type { Answer } from "../src/link.ts";
import { type CurveSeries, VERSION } from "../src/messages.ts";
import { RunState } from "../src/run-state.ts";
import { Selection } from "../src/selection.ts";
import { drawable, FakeClock, type Pen, settled } from "./fakes.ts";

const EPISODES: Row[] = Array.from({ length: 2_000 }, (_, i) => ({ episode: i, total_reward: i % 10, steps: i + 1 }));
const POINTS = 64;

describe("the chart", () => {
  let run: RunState;
  let selection: Selection;
  let chart: ReturnType<typeof makeChart>;
  let clock: FakeClock;
  let pens: Map<unknown, Pen>;
  let asked: Record<string, unknown>[];
  let refusal: string;

  /** A push of curves that are all alike, of whom it says. */
  function push(who: Partial<CurveSeries>[], more = 0, episodes = EPISODES): void {
    const curves = who.map((one): CurveSeries => ({ run: "run-1", name: "One", agent: null, numbered: true, ...one }));
    const rows = curves.flatMap((_, series) =>
      MEASURES.flatMap((y, measure) => curveRows(episodes, y, POINTS).map((row) => ({ ...row, series, measure }))),
    );
    const state = { ...BLANK };
    const head = { kind: "push" as const, version: VERSION, number: 1, keyframe: false, state, spans: [] };
    run.push({ ...head, curves, curves_more: more }, [toArrow(rows)]);
    chart.update();
  }
  async function ask(kind: string, fields: Record<string, unknown> = {}): Promise<Answer> {
    asked.push({ kind, ...fields });
    if (refusal) throw new Error(refusal);
    const [first, end] = [Number(fields.first), Number(fields.end)];
    const rows =
      kind === "ask_rows"
        ? [{ ...EPISODES[first], agent_id: "a", worker_id: "w" }]
        : curveRows(EPISODES, fields.y as "steps", Number(fields.points), first, end);
    return { kind: "answer", version: VERSION, id: 1, spans: [], buffers: [toArrow(rows)] } as unknown as Answer;
  }
  const at = (testid: string): HTMLElement =>
    chart.element.querySelector(`[data-testid="ltw-${testid}"]`) as HTMLElement;
  const key = (name: string): void => {
    at("curve").dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  };
  const choose = (testid: string, value: string): void => {
    const select = at(testid) as HTMLSelectElement;
    select.value = value;
    select.dispatchEvent(new Event("change"));
  };
  const legend = (): string[] => [...at("legend").querySelectorAll("button span")].map((one) => one.textContent ?? "");
  const lines = (): string[] => {
    const [ground] = at("curve").querySelectorAll("canvas");
    const drawn = pens.get(ground)?.done.filter((one) => /^stroke --ltw-series/.test(one)) ?? [];
    return drawn.map((one) => one.split(" ")[1] ?? "");
  };

  beforeEach(() => {
    pens = drawable();
    clock = new FakeClock();
    run = new RunState({ clock });
    selection = new Selection();
    asked = [];
    refusal = "";
    chart = makeChart(
      { run, selection, tables: {} as never, link: { ask } as never },
      { colour: (name: string) => name, close() {} },
      clock,
    );
    Object.defineProperties(at("curve"), { clientWidth: { value: 400 }, clientHeight: { value: 200 } });
    document.body.append(chart.element);
  });
  afterEach(() => {
    chart.close();
    run.close();
    document.body.replaceChildren();
    vi.restoreAllMocks();
  });

  test("one curve has no legend, and says what is under the cursor", async () => {
    expect(at("curve").textContent).toBe("No episode has ended yet.");
    push([{}]);
    expect([at("legend").hidden, at("curve-agents").hidden, lines()]).toEqual([true, true, ["--ltw-series-0"]]);
    expect(at("readout").textContent).toMatch(/^episodes 1984–1999: 0 to 9, mean 5.25, mean of 20: 4.667/);
    expect(at("curve").getAttribute("aria-label")).toMatch(/^Return by episode. all: 2,000 episodes, lately/);
    key("Home");
    expect(at("readout").textContent).toBe("episodes 0–31: 0 to 9, mean 4.25");
    expect(at("curve").getAttribute("aria-valuetext")).toBe(at("readout").textContent);
    choose("curve-measure", "steps");
    expect(at("readout").textContent).toBe("episodes 0–31: 1 to 32, mean 16.5");
    choose("curve-smooth", "100");
    expect(at("readout").textContent).toBe("episodes 0–31: 1 to 32, mean 16.5, mean of 100: 16.5");
  });

  test("what is looked at closer is asked for at its own resolution, and again after a change", async () => {
    push([{}]);
    key("Home");
    for (const _ of [1, 2, 3, 4, 5]) key("+");
    await clock.pass(200);
    expect(asked).toEqual([
      { kind: "ask_curve", run: "run-1", agent: null, y: "total_reward", first: 0, end: 64, points: 512 },
    ]);
    expect(at("curve-all").hidden).toBe(false);
    key("ArrowRight");
    expect(at("readout").textContent).toMatch(/^episode 16: 6, mean of 20/);
    push([{}]);
    await clock.pass(200);
    push([{}]);
    await clock.pass(3_000);
    expect(asked).toHaveLength(2);
    at("curve-all").click();
    expect(at("readout").textContent).toMatch(/^episodes 0–31/);
    expect(at("curve-all").hidden).toBe(true);
    refusal = "the kernel is gone";
    key("+");
    await clock.pass(200);
    expect(at("readout").textContent).toBe("the kernel is gone");
  });

  test("Enter selects the very episode, however many the bucket has", async () => {
    push([{}]);
    key("Home");
    key("Enter");
    for (let i = 0; i < 5; i++) await settled();
    // In the middle of 0 to 31.
    expect(asked.map(({ kind, first, end }) => [kind, first, end])).toEqual([
      ["ask_curve", 16, 17],
      ["ask_rows", 16, undefined],
    ]);
    expect(selection.episode).toEqual({ row: 16, worker: "w", agent: "a", episode: 16 });
    const [ground] = at("curve").querySelectorAll("canvas");
    expect(pens.get(ground)?.in("focus")).toHaveLength(1);
  });

  test("each agent, and runs beside this one, each with its name, colour and value", () => {
    const other = { run: "run-2", name: "<b>Two</b>" };
    push([{}, { agent: "left" }, { agent: "right" }, other], 3);
    expect(legend()).toEqual(["One", "<b>Two</b>"]);
    expect(lines()).toEqual(["--ltw-series-0", "--ltw-series-3"]);
    expect(at("legend").lastElementChild?.textContent).toBe("3 more not drawn");
    choose("curve-agents", "each");
    expect(legend()).toEqual(["One · left", "One · right", "<b>Two</b>"]);
    expect(lines()).toEqual(["--ltw-series-1", "--ltw-series-2", "--ltw-series-3"]);
    key("Home");
    expect([...at("legend").querySelectorAll("b")].map((one) => one.textContent)).toEqual(["4.25", "4.25", "4.25"]);
    expect(at("readout").textContent).toBe("episode 16");
    expect(at("curve").getAttribute("aria-valuetext")).toMatch(
      /^One · left episodes 0–31: 0 to 9, mean 4.25; One · right/,
    );
    selection.set({ agent: "right" });
    expect(legend()).toEqual(["One · right", "<b>Two</b>"]);
    at("legend").querySelector("button")?.click();
    expect(lines()).toEqual(["--ltw-series-3"]);
    // The other run's episodes are not this view's to select.
    key("Enter");
    expect(asked).toEqual([]);
    at("legend").querySelectorAll("button")[1]?.click();
    expect(at("curve").textContent).toBe("No curve is shown.");
  });

  test("runs of one name are told apart, and what has no finite value is counted", () => {
    push([{}, { run: "run-2" }], 0, [...EPISODES.slice(0, 3), { episode: 3, total_reward: Number.NaN, steps: 1 }]);
    expect(legend()).toEqual(["One (run-1)", "One (run-2)"]);
    expect(at("readout").textContent).toBe("newest · 2 without a finite value");
  });
});
