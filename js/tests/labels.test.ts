import { expect, test } from "vitest";
import { cellText, countText, fullText, label, numberText, ordered } from "../src/labels.ts";

test("known columns stand in their order, further ones after them in theirs", () => {
  const names = ["q_before", "reward", "epsilon", "timestamp", "observation", "episode", "agent_id"];
  const columns = ordered(
    "steps",
    names.map((name) => ({ name })),
  );
  expect(columns.map(({ name }) => name)).toEqual([
    "timestamp",
    "agent_id",
    "episode",
    "reward",
    "observation",
    "q_before",
    "epsilon",
  ]);
  expect(columns.map(({ name }) => label("steps", name))).toEqual([
    "Timestamp",
    "Agent",
    "Episode",
    "Step Reward",
    "Observation",
    "q_before",
    "epsilon",
  ]);
});

test("the episode table has its own order and labels", () => {
  const columns = ordered(
    "episodes",
    ["outcome", "worker_id", "agent_id", "total_reward", "timestamp"].map((name) => ({ name })),
  );
  expect(columns.map(({ name }) => label("episodes", name))).toEqual([
    "Timestamp",
    "Worker",
    "Agent",
    "Outcome",
    "Total Episode Reward",
  ]);
});

test.each([
  [0, "0"],
  [-13, "-13"],
  [0.1 + 0.2, "0.3"],
  [1 / 3, "0.333333"],
  [123456.789, "123457"],
  [1e-9, "1e-9"],
  [Number.NaN, "NaN"],
  [Number.NEGATIVE_INFINITY, "-Infinity"],
])("the number %d reads %s", (value, text) => {
  expect(numberText(value)).toBe(text);
});

test("counters have their thousands apart", () => {
  expect([0, 999, 1000, 1234567.8].map(countText)).toEqual(["0", "999", "1,000", "1,234,568"]);
});

test("cells: nothing for null, text as it is, an action without the quotes of its JSON, lists as JSON", () => {
  expect(cellText("note", "text", null)).toBe("");
  expect(cellText("note", "text", '"quoted"')).toBe('"quoted"');
  expect(cellText("action", "text", '"left"')).toBe("left");
  expect(cellText("action", "text", '"broken')).toBe('"broken');
  expect(cellText("action", "text", "[1,2]")).toBe("[1,2]");
  expect(cellText("path", "list", [1, null, [2n]])).toBe('[1,null,["2"]]');
  expect(cellText("path", "list", new Float64Array([1, 2.5]))).toBe("[1,2.5]");
  expect(cellText("seed", "int", 2n ** 63n)).toBe("9223372036854775808");
  expect(cellText("terminated", "bool", false)).toBe("false");
});

test("a time shows its milliseconds, and its date when asked in full", () => {
  const at = new Date(2026, 10, 3, 4, 5, 6, 7).getTime();
  expect(cellText("timestamp", "time", at)).toBe("04:05:06.007");
  expect(fullText("timestamp", "time", at)).toBe("2026-11-03 04:05:06.007 (local time)");
});
