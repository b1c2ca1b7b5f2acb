import { describe, expect, test } from "vitest";
import { ROW_HEIGHT, RowWindow, SPAN } from "../src/window.ts";

const HEIGHT = 288;
const MANY = 10_000_000;
const bottom = (range: RowWindow): number => (range.span + 1) * ROW_HEIGHT - HEIGHT;
const top = (range: RowWindow): number => range.placed / ROW_HEIGHT + range.shift;

describe("a window on rows", () => {
  test("of a table that fits is the table", () => {
    const range = new RowWindow();
    range.resize(SPAN);
    expect(range.scrolled(5 * 24 * HEIGHT, HEIGHT)).toBe(false);
    expect([range.shift, range.span, range.settled(HEIGHT)]).toEqual([0, SPAN, null]);
  });

  test("a turn of the wheel moves by as many rows, however long the table is", () => {
    const range = new RowWindow();
    range.resize(MANY);
    range.scrolled(bottom(range) / 2, HEIGHT);
    const before = top(range);
    expect(before).toBeGreaterThan(MANY * 0.49);
    expect(before).toBeLessThan(MANY * 0.51);
    for (let i = 1; i <= 20; i++) range.scrolled(range.placed + 96, HEIGHT);
    expect(top(range)).toBeCloseTo(before + 20 * 4, 6);
    // Put where it belongs, the same rows are shown.
    const shown = top(range);
    range.settled(HEIGHT);
    expect(top(range)).toBeCloseTo(shown, 6);
  });

  test("so do many turns of it that a busy page hears of at once", () => {
    const range = new RowWindow();
    range.resize(MANY);
    range.scrolled(bottom(range) / 2, HEIGHT);
    const before = top(range);
    expect(range.scrolled(range.placed - 2400, HEIGHT, true)).toBe(false);
    expect(top(range)).toBeCloseTo(before - 100, 6);
    expect(range.scrolled(range.placed - 2400, HEIGHT)).toBe(true);
    expect(top(range)).toBeLessThan(before - 3_000);
  });

  test("a thumb that is dragged goes to its part of the whole, and both ends are reached", () => {
    const range = new RowWindow();
    range.resize(MANY);
    range.scrolled(bottom(range), HEIGHT);
    expect(range.shift + range.span).toBe(MANY);
    range.scrolled(0, HEIGHT);
    expect(top(range)).toBe(0);
  });

  test("new rows move nothing", () => {
    const range = new RowWindow();
    range.resize(MANY);
    range.scrolled(bottom(range) / 3, HEIGHT);
    const before = top(range);
    range.resize(MANY + 5_000_000);
    expect(top(range)).toBe(before);
  });

  test("the wheel reaches the first row from anywhere: near the panel's end it is put into the middle", () => {
    const range = new RowWindow();
    range.resize(MANY);
    range.show(40_000, HEIGHT);
    let turns = 0;
    while (top(range) > 0 && turns++ < 100_000) {
      range.scrolled(Math.max(0, range.placed - 240), HEIGHT);
      if (range.cramped(HEIGHT)) range.settled(HEIGHT);
    }
    expect(top(range)).toBe(0);
    expect(turns).toBeLessThan(4_100);
  });

  test.each([0, 7, 250_000, 5_000_000, MANY - 1])("row %i is shown when it is asked for", (row) => {
    const range = new RowWindow();
    range.resize(MANY);
    range.show(row, HEIGHT);
    expect(range.placed).toBeGreaterThanOrEqual(0);
    expect(range.placed).toBeLessThanOrEqual(bottom(range));
    expect(top(range)).toBeLessThanOrEqual(row);
    expect(top(range) + HEIGHT / ROW_HEIGHT - 1).toBeGreaterThanOrEqual(row);
  });
});
