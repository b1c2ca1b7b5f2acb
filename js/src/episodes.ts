// The episode table.

import type { RunState } from "./run-state.ts";
import type { Frames } from "./schedule.ts";
import { waitingText } from "./steps.ts";
import { makeTable, type TableView } from "./table.ts";

const OUTCOMES: Record<string, string> = {
  Success: "ltw-success",
  Failed: "ltw-failure",
  Timeout: "ltw-timeout",
  Running: "ltw-running",
};

export function makeEpisodes(run: RunState, frames?: Frames): TableView {
  return makeTable(run, {
    table: "episodes",
    title: "Episodes",
    nothing: (held) =>
      waitingText(held)
        .replace("first step", "first episode")
        .replace("a step", "an episode")
        .replace("no steps", "no episodes"),
    rowClass: ({ frame, index }) => OUTCOMES[String(frame.columns.get("outcome")?.at(index))] ?? "",
    ...(frames ? { frames } : {}),
  });
}
