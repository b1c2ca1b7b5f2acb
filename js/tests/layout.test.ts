import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { best, brief, contextOf, facing, heading, heat, natural, placed, stacked, trail } from "../src/layout.ts";
import { grid as checkGrid, type Grid } from "../src/messages.ts";

const grid = (more: Partial<Grid> = {}): Grid => ({
  game: "FrozenLake",
  tiles: ["SFFF", "FHFH", "FFFH", "HFFG"],
  agent: [0, 0],
  marks: [],
  walls: [],
  action: "",
  caption: "",
  ...more,
});
const image = { format: "png", data: "", width: 160, height: 210 } as const;

describe("the size of a picture", () => {
  test("is that of its tiles, its frame or its cards", () => {
    expect(natural(grid({ tiles: ["ab", "abc"] }))).toEqual({ width: 3, height: 2 });
    expect(natural(grid({ tiles: [], image }))).toEqual({ width: 160, height: 210 });
    expect(natural(grid({ tiles: [], cards: { player: 4, dealer: 2, usable_ace: false } }))?.width).toBe(7);
    expect(natural(grid({ tiles: [] }))).toBeNull();
    expect(natural(grid({ tiles: ["", ""] }))).toBeNull();
  });

  test.each([
    [{ width: 400, height: 250 }, 62],
    [{ width: 100, height: 250 }, 25],
    [{ width: 4000, height: 4000 }, 72],
    [{ width: 3, height: 3 }, 8],
  ])("in %j has tiles of %i whole pixels", (room, cell) => {
    expect(placed(grid(), { width: 4, height: 4 }, room)).toEqual({ width: 4 * cell, height: 4 * cell, cell });
  });

  test.each([
    [{ width: 330, height: 430 }, 2],
    [{ width: 300, height: 430 }, 1],
    [{ width: 80, height: 430 }, 0.5],
  ])("of a frame in %j is %d times its own", (room, scale) => {
    const place = placed(grid({ tiles: [], image }), { width: 160, height: 210 }, room);
    expect(place).toEqual({ width: 160 * scale, height: 210 * scale, cell: scale });
  });

  test("two of them stand one above the other where that makes them larger", () => {
    expect(stacked({ width: 12, height: 4 }, { width: 400, height: 250 })).toBe(true);
    expect(stacked({ width: 4, height: 4 }, { width: 400, height: 250 })).toBe(false);
  });
});

describe("where the agent looks", () => {
  test("is what the game says, else where it was going; a turn in MiniGrid goes nowhere", () => {
    expect(facing(grid({ facing: "up", action: "left" }))).toBe("up");
    expect(facing(grid({ action: "left" }))).toBe("left");
    expect(facing(grid({ action: "pick up" }))).toBeNull();
    expect(facing(grid({ game: "MiniGrid", action: "left" }))).toBeNull();
    expect(["north", "south", "east", "west"].map(heading)).toEqual(["up", "down", "right", "left"]);
  });
});

describe("layers", () => {
  test("a trail leaves out steps that went nowhere, and is strongest at its end", () => {
    const found = trail([
      [0, 0],
      [0, 1],
      [0, 1],
      [1, 1],
    ]);
    expect(found.map(({ from, to }) => [from, to])).toEqual([
      [
        [0, 0],
        [0, 1],
      ],
      [
        [0, 1],
        [1, 1],
      ],
    ]);
    expect(found[1]?.strength).toBe(1);
    expect(found[0]?.strength).toBeLessThan(1);
    expect(trail([[0, 0]])).toEqual([]);
  });

  test("heat grows with visits and stays within bounds", () => {
    expect(heat(0, 100)).toBe(0);
    const strengths = [1, 5, 50, 100].map((visits) => heat(visits, 100));
    expect(strengths).toEqual([...strengths].sort((a, b) => a - b));
    expect(strengths.at(-1)).toBeCloseTo(0.52);
    expect(heat(1, 1)).toBeLessThanOrEqual(1);
  });

  test.each([
    [
      [0.1, 0.5, 0.5, 0.2],
      [1, 2],
    ],
    [[null, -1, null, -2], [1]],
    [[null, 0.5, null], [1]],
    [[0, 0, 0, 0], []],
    [[0, 0, null], []],
    [[null, null], []],
    [[], []],
  ])("of %j the best are %j", (values, expected) => {
    expect(best(values)).toEqual(expected);
  });

  test.each([
    [0.123, "0.12"],
    [-3.456, "-3.46"],
    [12.34, "12.3"],
    [-123.4, "-123"],
    [123456, "1e5"],
    [Number.NaN, ""],
  ])("%d is written %s", (value, text) => {
    expect(brief(value)).toBe(text);
  });

  test("a context is who is where and where the agent looks", () => {
    const marks = [
      { kind: "destination", row: 0, col: 0, label: "R" },
      { kind: "passenger", row: 4, col: 0, label: "Y" },
    ];
    expect(contextOf(grid({ marks }))).toBe("Y|R|");
    expect(contextOf(grid({ facing: "up" }))).toBe("||up");
  });
});

describe("the kernel's pictures", () => {
  const pictures = JSON.parse(readFileSync("../tests/data/pictures.json", "utf8")) as Record<string, Grid>;

  test.each(Object.keys(pictures))("%s is a grid that can be drawn", (name) => {
    const held = pictures[name] as Grid;
    expect(() => checkGrid(held, name)).not.toThrow();
    expect(natural(held)).not.toBeNull();
  });

  test.each([
    [{ agent: [0] }, /agent should be \[row, col\]/],
    [{ facing: "north" }, /facing should be a direction/],
    [{ partial: 1 }, /partial should be true or false/],
    [{ path: [[0]] }, /path\[0\] should be/],
    [{ cards: { player: "4" } }, /cards\.player should be a whole number/],
    [{ image: { format: "svg" } }, /image\.format should be png or webp/],
    [{ marks: [{ kind: "door", row: 0, col: 0, colour: 3 }] }, /colour should be a string/],
  ])("%j is none", (wrong, message) => {
    expect(() => checkGrid({ ...grid(), ...wrong }, "grid")).toThrow(message);
  });
});
