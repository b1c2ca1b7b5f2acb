import { describe, expect, test } from "vitest";
import { BLANK, toArrow } from "../fake-kernel.ts";
import { frameFrom } from "../src/frames.ts";
import type { Lost } from "../src/kernel-watch.ts";
import type { State } from "../src/messages.ts";
import { RunState } from "../src/run-state.ts";
import { connectionOf, missingText, nothingText, noticeOf, standing } from "../src/standing.ts";

function run(state: Partial<State> | null, lost: Lost = ""): RunState {
  const made = new RunState();
  made.state = state && { ...BLANK, ...state };
  made.kernel(lost);
  return made;
}
const link = (state: State["connection"]["state"], message = "") => ({ state, attempt: 0, retry_at: 0, message });

describe("standing", () => {
  test.each([
    [null, "", "connecting"],
    [null, "silent", "silent"],
    [null, "gone", "disconnected"],
    [{ status: "running", steps: 0 }, "", "waiting"],
    [{ status: "ready", steps: 3 }, "", "waiting"],
    [{ status: "running", steps: 1 }, "", "running"],
    [{ status: "running", steps: 1 }, "connection", "disconnected"],
    [{ status: "running", steps: 1 }, "silent", "silent"],
    [{ status: "paused", steps: 1 }, "", "paused"],
    [{ status: "paused", steps: 1, connection: link("reconnecting") }, "", "reconnecting"],
    [{ status: "running", steps: 0, connection: link("connecting") }, "", "connecting"],
    [{ status: "running", steps: 5, connection: link("closed") }, "", "closed"],
    [{ status: "completed", steps: 0 }, "", "completed"],
    [{ status: "failed", steps: 1, connection: link("reconnecting") }, "", "failed"],
    [{ status: "cancelled", steps: 1 }, "restarted", "cancelled"],
    [{ status: "unknown", steps: 5 }, "", "running"],
    [{ status: "unknown", steps: 5, connection: link("recording") }, "", "recording"],
    [{ status: "unknown", steps: 5, connection: link("recording") }, "gone", "recording"],
    [{ status: "completed", steps: 5, connection: link("recording") }, "", "completed"],
  ] as const)("of %j, the kernel being %j, is %s", (state, lost, key) => {
    expect(standing(run(state, lost)).key).toBe(key);
  });

  test("a reconnect counts down to its next attempt", () => {
    const connection = { state: "reconnecting" as const, attempt: 3, retry_at: 1004.2, message: "refused" };
    const text = (now: number): string => connectionOf(run({ connection }), now).text;
    expect(text(1_000_500)).toBe("attempt 3, next in 4 s");
    expect(text(1_003_500)).toBe("attempt 3, next in 1 s");
    expect(text(1_005_000)).toBe("attempt 3, trying now");
    // Where the state says something else, it is said of what.
    expect(connectionOf(run({ connection, status: "completed" }), 1_005_000).text).toBe(
      "daemon lost: attempt 3, trying now",
    );
  });

  test.each([
    ["connection", "kernel out of reach"],
    ["restarted", "kernel restarted"],
    ["gone", "kernel gone"],
    ["silent", "waiting for the kernel"],
    ["", "live"],
  ] as const)("where the data comes from, the kernel being %j, is %s", (lost, text) => {
    expect(connectionOf(run({}, lost), 0).text).toBe(text);
  });

  test("an ended run is not live", () => {
    expect(connectionOf(run({ status: "failed" }), 0).text).toBe("connected");
  });
});

describe("the notice", () => {
  test("says why a run failed, and that it made nothing", () => {
    expect(noticeOf(run({ status: "failed", reason: "exit code 3" })).text).toBe(
      "Failed: exit code 3 (no step had come)",
    );
    expect(noticeOf(run({ status: "failed", reason: "exit code 3", steps: 2 }))).toEqual({
      key: "failed",
      text: "Failed: exit code 3",
    });
  });

  test("says that a run was empty only when nothing came of it", () => {
    expect(noticeOf(run({ status: "completed" })).text).toContain("without a step");
    expect(noticeOf(run({ status: "completed", episodes: 4 })).text).toBe("");
    expect(noticeOf(run({ status: "running" })).text).toBe("");
  });

  test("says that the daemon knows no such run, in the kernel's words", () => {
    const said = noticeOf(run({ status: "unknown", reason: "the daemon knows no run 'mine' (yet)" }));
    expect(said.text).toBe("the daemon knows no run 'mine' (yet)");
  });

  test("says what of a run is on the page when the kernel is gone", () => {
    const lost = run({ steps: 3, episodes: 2 }, "restarted");
    const rows = [{ episode: 0, step_index: 1 }];
    lost.steps.insert(1, frameFrom(toArrow(rows)), 3);
    lost.episodes.insert(0, frameFrom(toArrow([{ episode: 0 }, { episode: 1 }])), 2);
    const { key, text } = noticeOf(lost);
    expect(key).toBe("lost");
    expect(text).toMatch(/run its cell again/);
    expect(text).toMatch(/1 of 3 steps and all 2 episodes are on this page/);
  });
});

test("what is missing is told from what was merely wrong", () => {
  const problem = (kind: string, count: number) => ({ kind, count, detail: "" });
  expect(missingText(null)).toBe("");
  expect(missingText({ ...BLANK, problems: [problem("bad_json", 3)] })).toBe("");
  expect(missingText({ ...BLANK, problems: [problem("gap", 1)] })).toBe("1 step missing");
  expect(
    missingText({ ...BLANK, problems: [problem("bad_json", 3), problem("gap", 1200), problem("episode_gap", 2)] }),
  ).toBe("1,200 steps and 2 episodes missing");
});

test("a part of the view that has nothing says why", () => {
  expect(nothingText(run(null), "step")).toBe("Waiting for the kernel…");
  expect(nothingText(run({}), "episode")).toBe("Waiting for the first episode…");
  expect(nothingText(run({}, "gone"), "step")).toBe("No step had come when the kernel went.");
  expect(nothingText(run({ status: "completed" }, "gone"), "episode")).toBe("The run completed without an episode.");
  expect(nothingText(run({ status: "unknown", connection: link("recording") }), "step")).toBe(
    "This recording holds no steps.",
  );
});
