// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Line, makePlot, type Plot } from "../src/plot.ts";
import { airy, extent, nearest, type Range, share, tickStep, ticks, tickText, valueAt } from "../src/plot-scale.ts";
import { drawable, FakeClock, type Pen } from "./fakes.ts";

describe("an axis", () => {
  const written = (low: number, high: number, count = 5, least = 0): string[] => {
    const step = tickStep({ low, high }, count, least);
    return ticks({ low, high }, step).map((value) => tickText(value, step));
  };

  test("has round ticks, as many as fit", () => {
    expect(written(0, 1)).toEqual(["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    expect(written(-0.08, 1.08)).toEqual(["0", "0.5", "1.0"]);
    expect(written(0, 1_234)).toEqual(["0", "500", "1,000"]);
    expect(written(-130, -20)).toEqual(["-100", "-50"]);
    expect(written(3, 5, 10, 1)).toEqual(["3", "4", "5"]);
    expect(written(0.000_01, 0.000_03)).toEqual(["1.0e-5", "1.5e-5", "2.0e-5", "2.5e-5", "3.0e-5"]);
    expect(written(0, 3e9, 3)).toEqual(["0", "1e9", "2e9", "3e9"]);
  });

  test("holds whatever a number can be", () => {
    const wide = { low: -1.7e308, high: 1.7e308 };
    expect(ticks(wide, tickStep(wide, 4)).length).toBeGreaterThan(1);
    expect(share(wide, 0)).toBe(0.5);
    expect(valueAt(wide, 0.5)).toBe(0);
    // Two neighbours among the numbers.
    const narrow = { low: 1e15, high: 1e15 + 0.125 };
    expect(ticks(narrow, tickStep(narrow, 5)).length).toBeLessThan(10);
    expect(airy({ low: 5, high: 5 })).toEqual({ low: 4.5, high: 5.5 });
    expect(airy(wide)).toEqual(wide);
    expect(extent([null, Number.NaN, Number.POSITIVE_INFINITY])).toBeNull();
    expect(extent([null, 3, Number.NaN, -2, undefined])).toEqual({ low: -2, high: 3 });
  });

  test("knows what is nearest", () => {
    expect([-9, 1.4, 1.6, 9].map((x) => nearest([1, 2, 4], x))).toEqual([0, 0, 1, 2]);
    expect(nearest([], 1)).toBe(-1);
  });
});

describe("the plot", () => {
  const WIDTH = 300;
  let pens: Map<unknown, Pen>;
  let plot: Plot;
  let clock: FakeClock;
  let told: { moved: (number | null)[]; chosen: [number, number | null][]; zoomed: (Range | null)[] };

  const line = (x: number[], y: (number | null)[], more: Partial<Line> = {}): Line => ({
    ...{ x, y, low: y, high: y, dots: false, colour: "--ltw-line", dash: [], ...more },
  });
  const pen = (which = 0): Pen => pens.get(plot.element.children[which]) as Pen;
  const pointer = (kind: string, x: number, y = 50): void => {
    plot.element.dispatchEvent(
      Object.assign(new MouseEvent(kind, { clientX: x, clientY: y, button: 0 }), { pointerId: 1 }),
    );
  };
  const key = (name: string, more: KeyboardEventInit = {}): boolean =>
    plot.element.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true, ...more }));
  const click = (x: number, y?: number): void => {
    pointer("pointerdown", x, y);
    pointer("pointerup", x, y);
  };
  /** Where a value stands: the first tick of these plots takes up to 24 pixels, and the edges have room. */
  const LEFT = 34;
  const inner = WIDTH - LEFT - 12;

  beforeEach(() => {
    clock = new FakeClock();
    pens = drawable();
    told = { moved: [], chosen: [], zoomed: [] };
    const theme = { colour: (name: string) => name, close() {} };
    plot = makePlot(
      theme,
      {
        moved: (x) => told.moved.push(x),
        chosen: (x, y) => told.chosen.push([x, y]),
        zoomed: (range) => told.zoomed.push(range),
      },
      clock,
    );
    Object.defineProperties(plot.element, {
      clientWidth: { value: WIDTH, configurable: true },
      clientHeight: { value: 128 },
    });
    plot.element.setPointerCapture = () => {};
    document.body.append(plot.element);
  });
  afterEach(() => {
    plot.close();
    document.body.replaceChildren();
    vi.restoreAllMocks();
  });

  test("draws a line with its gaps, a band behind it, and a lone point", () => {
    const y = [0, 10, Number.NaN, 5, null, 2, 4];
    const low = y.map((value) => value && value - 1);
    plot.show([line([0, 1, 2, 3, 4, 5, 6], y, { low })], null);
    const [band, alone, drawn] = pen().in("line");
    expect(alone).toMatch(/^rect --ltw-line \d+,\d+,6,6$/);
    expect(drawn?.match(/[ML]/g)?.join("")).toBe("MLMML");
    expect(band).toMatch(/^fill/);
    expect(band?.match(/R/g)).toHaveLength(1);
  });

  test("a single point is visible, and nothing at all is no fault", () => {
    plot.show([line([7], [3], { dots: true })], 7);
    expect(pen().in("line")[0]).toMatch(/^fill --ltw-line R/);
    expect(pen().in("line")[1]).toMatch(/^rect --ltw-line \d+,\d+,6,6$/);
    expect(pen().in("focus")).toHaveLength(1);
    plot.show([], null);
    expect(pen().done).toEqual([]);
    click(100);
    key("ArrowLeft");
    expect(told.chosen).toEqual([]);
    plot.show([line([1, 2], [null, Number.NaN])], null);
    expect(pen().in("line")).toEqual(["fill --ltw-line ", "stroke --ltw-line "]);
  });

  test("as many device pixels as the screen has", () => {
    vi.stubGlobal("devicePixelRatio", 2);
    plot.show([line([0, 1], [0, 1])], null);
    const canvas = plot.element.children[0] as HTMLCanvasElement;
    expect([canvas.width, canvas.height, canvas.style.width]).toEqual([2 * WIDTH, 256, "300px"]);
    vi.stubGlobal("devicePixelRatio", 1);
  });

  test("the pointer moves a cursor, a click chooses what is under it, and a drag looks closer", async () => {
    plot.show([line([0, 50, 100], [0, 1, 0])], null);
    pointer("pointermove", LEFT + inner / 2);
    expect(told.moved).toEqual([50]);
    expect(pen(1).in("line")[0]).toMatch(/^fill --ltw-line A/);
    click(LEFT + inner / 2, 58);
    expect(told.chosen).toEqual([[50, 0.5]]);
    pointer("pointerdown", LEFT + inner / 4);
    pointer("pointermove", LEFT + inner / 2);
    pointer("pointermove", LEFT + (inner * 3) / 4);
    expect(pen(1).in("focus")[0]).toMatch(/^rect/);
    pointer("pointerup", LEFT + (inner * 3) / 4);
    expect(told.zoomed).toEqual([{ low: 25, high: 75 }]);
    expect(told.chosen).toHaveLength(1);
    // A second click takes the first one back.
    click(150);
    click(150);
    plot.element.dispatchEvent(new MouseEvent("dblclick"));
    await clock.pass(1_000);
    expect([plot.zoom, told.chosen.length]).toEqual([null, 1]);
    pointer("pointerleave", 0);
    expect(plot.cursor).toBeNull();
  });

  test("a click while one looks closer chooses when no second one comes", async () => {
    plot.show([line([0, 50, 100], [0, 1, 0])], null);
    plot.setZoom({ low: 40, high: 60 });
    click(LEFT + inner / 2);
    expect(told.chosen).toEqual([]);
    await clock.pass(1_000);
    expect(told.chosen[0]?.[0]).toBe(50);
  });

  test("keys do all of it", () => {
    const lines = [line([0, 10, 20, 30, 40], [1, 2, 3, 4, 5]), line([5, 15], [1, 1])];
    plot.show(lines, null);
    const keys: [string, number | null][] = [
      ["ArrowLeft", 40],
      ["ArrowLeft", 30],
      ["Home", 0],
      ["ArrowRight", 5],
      ["ArrowRight", 10],
      ["End", 40],
    ];
    for (const [name, at] of keys) {
      expect(key(name)).toBe(false);
      expect([name, plot.cursor]).toEqual([name, at]);
    }
    expect(plot.element.getAttribute("aria-valuenow")).toBe("40");
    key("ArrowLeft", { shiftKey: true });
    expect(plot.cursor).toBe(0);
    expect(key("Escape")).toBe(true);
    key("+");
    expect(plot.zoom).toEqual({ low: 0, high: 10 });
    // What is looked at moves along with the cursor.
    for (const _ of [1, 2, 3]) key("ArrowRight");
    expect([plot.cursor, plot.zoom]).toEqual([15, { low: 5, high: 15 }]);
    key("Enter");
    expect(told.chosen).toEqual([[15, null]]);
    expect(key("Escape")).toBe(false);
    expect(plot.zoom).toBeNull();
    for (const _ of Array(9)) key("+");
    expect((plot.zoom?.high ?? 0) - (plot.zoom?.low ?? 0)).toBe(1);
    key("0");
    expect(key("a", { ctrlKey: true })).toBe(true);
    expect(plot.zoom).toBeNull();
  });

  test("without room nothing is drawn, and what was drawn stays", () => {
    plot.show([line([0, 1], [0, 1])], null);
    const before = [...pen().done];
    Object.defineProperties(plot.element, { clientWidth: { value: 0, configurable: true } });
    plot.repaint();
    expect(pen().done).toEqual(before);
  });
});
