import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { BLANK } from "../fake-kernel.ts";
import { MessageError, parseMessage, VERSION } from "../src/messages.ts";

const push = (changes: object = {}, state: object = {}): object => ({
  kind: "push",
  version: VERSION,
  number: 1,
  keyframe: true,
  state: { ...BLANK, ...state },
  spans: [{ table: "steps", first: 0, count: 2, total: 2 }],
  ...changes,
});

describe("parseMessage", () => {
  test("takes a push, an answer and a refusal as they are", () => {
    const full = push(
      {},
      {
        expected_episodes: 10,
        problems: [{ kind: "gap", count: 2, detail: "steps 3 and 4" }],
        controls: { offered: ["pause", "cancel"], asked: "", trouble: "" },
        grid: {
          game: "FrozenLake",
          tiles: ["SF", "HG"],
          agent: [0, 1],
          marks: [{ kind: "cracked", row: 1, col: 0 }],
          walls: [[0, 0]],
          action: "down",
          caption: "",
        },
      },
    );
    expect(parseMessage(full)).toBe(full);
    const rows = { kind: "answer", version: VERSION, id: 7, spans: [] };
    expect(parseMessage(rows)).toBe(rows);
    const refused = { kind: "refused", version: VERSION, id: 7, message: "no" };
    expect(parseMessage(refused)).toBe(refused);
  });

  test("an unknown field is no fault: a newer kernel may say more", () => {
    expect(() => parseMessage(push({ extra: 1 }, { extra: 1 }))).not.toThrow();
  });

  test.each([
    ["another version", push({ version: VERSION + 1 }), /version 3 .* reload the page/],
    ["no version", push({ version: undefined }), /version absent/],
    ["an unknown kind", { kind: "dance", version: VERSION }, /unknown kind of message "dance"/],
    ["no object", "push", /message should be an object, not "push"/],
    ["a list", [], /message should be an object/],
    ["null", null, /message should be an object, not null/],
    ["no state", push({ state: undefined }), /state should be an object, not absent/],
    ["a text for a number", push({}, { steps: "12" }), /state\.steps should be a whole number, not "12"/],
    ["a rate that is none", push({}, { steps_per_s: Number.NaN }), /state\.steps_per_s should be a number/],
    [
      "an unknown connection",
      push({}, { connection: { ...BLANK.connection, state: "asleep" } }),
      /state\.connection\.state/,
    ],
    [
      "an unknown table",
      push({ spans: [{ table: "frames", first: 0, count: 0, total: 0 }] }),
      /push\.spans\[0\]\.table/,
    ],
    [
      "a negative row",
      push({ spans: [{ table: "steps", first: -1, count: 0, total: 0 }] }),
      /first should be 0 or more/,
    ],
    [
      "an agent that is no cell",
      push({}, { grid: { game: "", tiles: [], agent: [1], marks: [], walls: [], action: "", caption: "" } }),
      /state\.grid\.agent should be \[row, col\]/,
    ],
    [
      "an action that is none",
      push({}, { controls: { offered: ["explode"], asked: "", trouble: "" } }),
      /offered\[0\]/,
    ],
    ["a problem without a count", push({}, { problems: [{ kind: "gap", detail: "" }] }), /state\.problems\[0\]\.count/],
    ["an answer without an id", { kind: "answer", version: VERSION, spans: [] }, /answer\.id/],
  ])("refuses %s and says why", (_, message, why) => {
    expect(() => parseMessage(message)).toThrow(MessageError);
    expect(() => parseMessage(message)).toThrow(why);
  });
});

const GOLDEN = new URL("../../tests/contract/", import.meta.url);
// query.json holds expressions, not messages.
const goldens = existsSync(GOLDEN)
  ? readdirSync(GOLDEN).filter((name) => name.endsWith(".json") && name !== "query.json")
  : [];

describe.runIf(goldens.length > 0)("golden messages", () => {
  // Those of the page itself (ready, ask_rows) are pytest's to read.
  test.each(goldens)("%s", (name) => {
    const message = JSON.parse(readFileSync(new URL(name, GOLDEN), "utf8")) as { kind: string };
    if (message.kind === "ready" || message.kind === "ask_rows")
      expect(() => parseMessage(message)).toThrow(MessageError);
    else expect(parseMessage(message)).toBe(message);
  });
});
