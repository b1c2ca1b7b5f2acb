import { describe, expect, test } from "vitest";
import { faultOf, lacking, meant, written } from "../src/filter-words.ts";
import { LABELS } from "../src/labels.ts";

const names = {
  steps: ["episode", "step_index", "reward", "odd name"],
  episodes: ["episode", "total_reward", "outcome"],
};
const isColumn = (name: string): boolean => [...names.steps, ...names.episodes].includes(name);
const missing = (column: string, position = 0, near: string[] = [], hint = "there are episode, reward") => ({
  reason: `there is no column '${column}'; ${near.length > 0 ? `did you mean '${near[0]}'?` : hint}`,
  position,
  near,
});

describe("what is called on screen", () => {
  test("every label means one column, in both tables", () => {
    for (const table of ["steps", "episodes"] as const)
      for (const [name, label] of LABELS[table])
        expect(
          meant(`${label} > 1`, () => false),
          label,
        ).toBe(`${name} > 1`);
  });

  test.each([
    ["Return > 3 and Outcome == 'Failed'", "total_reward > 3 and outcome == 'Failed'"],
    ["Step  Reward > 0 or `Step Reward` < 0", "reward > 0 or reward < 0"],
    ["total episode reward > 0", "total_reward > 0"],
    ["outcome == 'Step' and outcome != \"Return\"", "outcome == 'Step' and outcome != \"Return\""],
    ["outcome == 'it\\'s Step", "outcome == 'it\\'s Step"],
    ["`odd name` > 0 and steps_left > 0", "`odd name` > 0 and steps_left > 0"],
    ["Stepwise > 0 and episode > 1", "Stepwise > 0 and episode > 1"],
  ])("%s is %s", (text, expected) => {
    expect(meant(text, isColumn)).toBe(expected);
  });

  test("a column that is called so stays what it is", () => {
    expect(meant("Return > Length", (name) => name === "Return")).toBe("Return > steps");
    expect([written("reward"), written("odd name")]).toEqual(["reward", "`odd name`"]);
  });
});

describe("a filter that fits neither table", () => {
  test("names a column that none has, and what is near it in which", () => {
    const steps = missing("total_rewad");
    const episodes = missing("total_rewad", 0, ["total_reward"]);
    expect(lacking(steps)).toBe("total_rewad");
    expect(faultOf({ steps, episodes }, names)).toEqual({
      text: "neither steps nor episodes have a column 'total_rewad'; did you mean 'total_reward' (episodes)?",
      position: 0,
    });
    const both = missing("episod", 0, ["episode"]);
    expect(faultOf({ steps: both, episodes: both }, names).text).toContain("did you mean 'episode'?");
  });

  test("knows what the screen calls it, lists all where nothing is near, and keeps the kernel's own hint", () => {
    const fault = missing("Return");
    expect(faultOf({ steps: fault, episodes: fault }, names).text).toContain("did you mean 'total_reward' (episodes)?");
    const none = missing("xyz");
    expect(faultOf({ steps: none, episodes: none }, names).text).toBe(
      "neither steps nor episodes have a column 'xyz'; steps have episode, step_index, reward, `odd name`; episodes have episode, total_reward, outcome",
    );
    const text = missing("Failed", 11, [], "for the text write 'Failed'");
    expect(faultOf({ steps: missing("outcome"), episodes: text }, names)).toEqual({
      text: "neither steps nor episodes have a column 'Failed'; for the text write 'Failed'",
      position: 11,
    });
  });

  test("says when it has columns of both", () => {
    const found = faultOf({ steps: missing("outcome", 15), episodes: missing("reward", 0) }, names);
    expect(found).toEqual({
      text: "outcome is a column of the episodes alone, and reward of the steps alone; a filter has columns of one table",
      position: 15,
    });
  });

  test("is told of as the table sees it that has its columns", () => {
    const wrong = { reason: "total_reward is a number, 'x' is text: they cannot be compared", position: 13, near: [] };
    expect(faultOf({ steps: missing("total_reward"), episodes: wrong }, names)).toEqual({
      text: `episodes: ${wrong.reason}`,
      position: 13,
    });
    const open = { reason: "the text is not closed", position: 4, near: [] };
    expect(faultOf({ steps: open, episodes: open }, names)).toEqual({ text: open.reason, position: 4 });
  });
});
