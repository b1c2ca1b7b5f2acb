// The step table.

import type { Page } from "./page.ts";
import type { RunState } from "./run-state.ts";
import type { Frames } from "./schedule.ts";
import { makeTable, type TableView } from "./table.ts";

export function makeSteps(page: Page, frames?: Frames): TableView {
  return makeTable(page, {
    table: "steps",
    title: "Steps",
    nothing: waitingText,
    // The last step of an episode closes it with a rule.
    rowClass: ({ frame, index }) =>
      frame.columns.get("terminated")?.at(index) === true || frame.columns.get("truncated")?.at(index) === true
        ? "ltw-last-step"
        : "",
    ...(frames ? { frames } : {}),
  });
}

/** What a table without rows says. */
export function waitingText({ state }: RunState): string {
  if (!state) return "Waiting for the kernel…";
  switch (state.status) {
    case "completed":
      return "The run completed without a step.";
    case "failed":
      return "The run failed before its first step.";
    case "cancelled":
      return "The run was cancelled before its first step.";
    default:
      return state.connection.state === "recording" ? "This recording holds no steps." : "Waiting for the first step…";
  }
}
