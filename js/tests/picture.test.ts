// @vitest-environment jsdom
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Cell, Grid } from "../src/messages.ts";
import { DEFAULT_SHOWN, makePicture, NO_OVERLAY, type Overlay } from "../src/picture.ts";
import { settled } from "./fakes.ts";

const pictures = JSON.parse(readFileSync("../tests/data/pictures.json", "utf8")) as Record<string, Grid>;
const theme = { colour: (name: string) => name, close: () => {} };
const ROOM = { width: 400, height: 250 };

/** What was done with a pen: methods with their numbers, colours as they were set. */
let done: [string, ...unknown[]][];
let bitmaps: { data: Uint8Array; closed: boolean }[];
/** Decoding waits for this when it is set. */
let gate: Promise<void> | null;

beforeEach(() => {
  [done, bitmaps, gate] = [[], [], null];
  const pen = new Proxy({} as Record<string, unknown>, {
    get: (held, name) => held[String(name)] ?? ((...numbers: unknown[]) => done.push([String(name), ...numbers])),
    set: (held, name, value) => {
      held[String(name)] = value;
      done.push([`${String(name)}=`, value]);
      return true;
    },
  });
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockImplementation((() => pen) as never);
  vi.stubGlobal("createImageBitmap", async (blob: Blob) => {
    await gate;
    const data = await bytesOf(blob);
    if (data[0] !== 0x89) throw new Error("no picture");
    const bitmap = { data, closed: false, close: () => (bitmap.closed = true) };
    bitmaps.push(bitmap);
    return bitmap;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  Object.assign(window, { devicePixelRatio: 1 });
});

const bytesOf = (blob: Blob): Promise<Uint8Array> =>
  new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(new Uint8Array(reader.result as ArrayBuffer));
    reader.readAsArrayBuffer(blob);
  });
const texts = (): unknown[] => done.filter(([name]) => name === "fillText").map(([, text]) => text);
const colours = (): Set<unknown> => new Set(done.filter(([name]) => /Style=$/.test(name)).map(([, colour]) => colour));
const show = (grid: Grid, overlay: Overlay = NO_OVERLAY, shown = DEFAULT_SHOWN): void => {
  makePicture(theme).show(grid, ROOM, overlay, shown);
};

describe("a picture", () => {
  test("is as sharp as the screen", () => {
    Object.assign(window, { devicePixelRatio: 2.5 });
    const { element, show: draw } = makePicture(theme);
    expect(draw(pictures.frozenlake as Grid, ROOM)).toBe(true);
    expect([element.style.width, element.style.height]).toEqual(["248px", "248px"]);
    expect([element.width, element.height]).toEqual([620, 620]);
    expect(done).toContainEqual(["setTransform", 2.5, 0, 0, 2.5, 0, 0]);
  });

  test.each([
    ["frozenlake", ["--ltw-agent", "--ltw-hole", "--ltw-goal-line"], ["S"]],
    ["cracked", ["--ltw-danger"], ["S"]],
    ["cliffwalking", ["--ltw-cliff", "--ltw-agent"], []],
    ["taxi", ["--ltw-passenger", "--ltw-goal-line", "--ltw-wall"], ["R", "G", "Y", "B"]],
    ["minigrid", ["--ltw-brick", "--ltw-lava", "--ltw-thing-yellow", "--ltw-unseen", "--ltw-agent"], []],
    ["blackjack", ["--ltw-felt", "--ltw-card-back"], ["dealer", "A", "player", "A", "6", "17"]],
    ["blackjack-over", ["--ltw-danger"], ["dealer", "10", "player", " ", " ", "24"]],
    ["letters", ["--ltw-agent"], ["A", "B", ".", "C", ".", ".", "#", ".", "Z", "x", ".", "."]],
  ])("of %s has what is in it", (name, inColours, words) => {
    show(pictures[name] as Grid);
    for (const colour of inColours) expect(colours()).toContain(colour);
    expect(texts()).toEqual(words);
  });

  test.each([
    ["cracked", "cracked", "--ltw-danger"],
    ["taxi", "passenger", "--ltw-passenger"],
    ["taxi-aboard", "passenger", "--ltw-passenger"],
    ["taxi", "destination", "--ltw-goal-line"],
    ["frozenlake", "direction", "--ltw-way"],
  ] as const)("of %s without %s has no %s", (name, layer, colour) => {
    show(pictures[name] as Grid);
    expect(colours()).toContain(colour);
    done = [];
    show(pictures[name] as Grid, NO_OVERLAY, { ...DEFAULT_SHOWN, [layer]: false });
    expect(colours()).not.toContain(colour);
  });

  test("has the layers that are switched on", () => {
    const overlay: Overlay = {
      path: [
        [0, 0],
        [0, 1],
      ],
      visits: [{ at: [0, 0], count: 3 }],
      policy: [{ at: [0, 1], actions: ["right"], value: 0.5 }],
    };
    const all = { ...DEFAULT_SHOWN, heat: true, policy: true, values: true };
    show(pictures.frozenlake as Grid, overlay, all);
    for (const colour of ["--ltw-heat", "--ltw-trail", "--ltw-policy", "--ltw-value"])
      expect(colours()).toContain(colour);
    expect(texts()).toContain("0.50");
    done = [];
    show(pictures.frozenlake as Grid, overlay, { ...DEFAULT_SHOWN, path: false });
    for (const colour of ["--ltw-heat", "--ltw-trail", "--ltw-policy"]) expect(colours()).not.toContain(colour);
  });

  test("a value stands where no arrow of its cell is, and both have a rim", () => {
    const placed = (...actions: string[]): number => {
      done = [];
      const policy = [{ at: [0, 0] as Cell, actions, value: 0.5 }];
      show(pictures.frozenlake as Grid, { ...NO_OVERLAY, policy }, { ...DEFAULT_SHOWN, policy: true, values: true });
      const [, text, , y] = done.filter(([name]) => name === "fillText").at(-1) ?? [];
      expect(text).toBe("0.50");
      expect(
        done
          .filter(([name]) => name === "strokeText")
          .at(-1)
          ?.slice(1),
      ).toEqual(["0.50", expect.anything(), y]);
      expect(colours()).toContain("--ltw-halo");
      return Number(y) / 62;
    };
    expect([placed("up"), placed("left"), placed("down"), placed("up", "down")]).toEqual([
      expect.closeTo(0.83, 2),
      expect.closeTo(0.83, 2),
      expect.closeTo(0.19, 2),
      expect.closeTo(0.68, 2),
    ]);
  });

  test("what is written on tiles is over what tints them", () => {
    const visits = [{ at: [0, 0] as Cell, count: 3 }];
    show(pictures.frozenlake as Grid, { ...NO_OVERLAY, visits }, { ...DEFAULT_SHOWN, heat: true });
    const tint = done.findIndex(([, colour]) => colour === "--ltw-heat");
    const start = done.findIndex(([name, text]) => name === "fillText" && text === "S");
    expect(tint).toBeGreaterThan(0);
    expect(start).toBeGreaterThan(tint);
  });

  test("where colours are forced, all that is painted has one of the system's", () => {
    const style = readFileSync("src/style.css", "utf8");
    const forced = style.slice(style.indexOf("@media (forced-colors: active)"));
    const missing = new Set<unknown>();
    for (const grid of Object.values(pictures)) {
      done = [];
      const policy = [{ at: [0, 1] as Cell, actions: ["right"], value: 0.5 }];
      const overlay = { path: [[0, 0] as Cell, [0, 1] as Cell], visits: [{ at: [0, 0] as Cell, count: 3 }], policy };
      show(grid, overlay, { ...DEFAULT_SHOWN, heat: true, policy: true, values: true });
      for (const colour of colours()) if (!forced.includes(`  ${colour}: `)) missing.add(colour);
    }
    expect([...missing]).toEqual([]);
  });

  test("is painted once, and again when something changed or colours did", () => {
    const picture = makePicture(theme);
    const times = (act: () => void): number => {
      done = [];
      act();
      return done.filter(([name]) => name === "setTransform").length;
    };
    const grid = pictures.taxi as Grid;
    expect(times(() => picture.show(grid, ROOM))).toBe(1);
    expect(times(() => picture.show({ ...grid }, { ...ROOM }))).toBe(0);
    expect(times(() => picture.show({ ...grid, agent: [0, 0] }, ROOM))).toBe(1);
    picture.forget();
    expect(times(() => picture.show({ ...grid, agent: [0, 0] }, ROOM))).toBe(1);
  });

  test("of nothing is none", () => {
    const picture = makePicture(theme);
    expect(picture.show({ ...(pictures.letters as Grid), tiles: [] }, ROOM)).toBe(false);
    const image = { format: "png", data: "", width: 5000, height: 10 } as const;
    expect(picture.show({ ...(pictures.frame as Grid), image }, ROOM)).toBe(false);
  });
});

describe("a frame", () => {
  const frame = (data: string): Grid => ({
    ...(pictures.frame as Grid),
    image: { format: "png", data, width: 80, height: 60 },
  });
  const PNG = btoa("\x89PNG first");
  const OTHER = btoa("\x89PNG other");

  test("is decoded from its bytes and drawn as large as fits", async () => {
    const picture = makePicture(theme);
    expect(picture.show(pictures.frame as Grid, ROOM)).toBe(true);
    await vi.waitFor(() => expect(done.some(([name]) => name === "drawImage")).toBe(true));
    expect([...(bitmaps[0]?.data.slice(1, 4) ?? [])].map((byte) => String.fromCharCode(byte)).join("")).toBe("PNG");
    // Four times as large, with hard pixels.
    expect([picture.element.width, picture.element.height]).toEqual([320, 240]);
    expect(done).toContainEqual(["imageSmoothingEnabled=", false]);
  });

  test("that is overtaken by another is not decoded, and what is shown no more is let go", async () => {
    let open = (): void => {};
    gate = new Promise((resolve) => {
      open = resolve;
    });
    const picture = makePicture(theme);
    picture.show(frame(PNG), ROOM);
    picture.show(frame(btoa("\x89PNG overtaken")), ROOM);
    picture.show(frame(OTHER), ROOM);
    open();
    await vi.waitFor(() => expect(bitmaps).toHaveLength(2));
    await settled();
    expect(bitmaps.map(({ data, closed }) => [String.fromCharCode(...data.slice(5)), closed])).toEqual([
      ["first", true],
      ["other", false],
    ]);
    picture.close();
    expect(bitmaps[1]?.closed).toBe(true);
  });

  test("that is none is told of, and the next one is drawn", async () => {
    const told: string[] = [];
    const picture = makePicture(theme, (message) => told.push(message));
    picture.show(frame(btoa("GIF89a")), ROOM);
    await vi.waitFor(() => expect(told).toEqual(["A PNG frame could not be decoded."]));
    picture.show(frame("no base64 ?"), ROOM);
    await vi.waitFor(() => expect(told).toHaveLength(2));
    picture.show(frame(PNG), ROOM);
    await vi.waitFor(() => expect(told.at(-1)).toBe(""));
    expect(bitmaps).toHaveLength(1);
  });
});
