// The step table.

import type { Page } from "./page.ts";
import type { Frames } from "./schedule.ts";
import { nothingText } from "./standing.ts";
import { makeTable, type TableView } from "./table.ts";

export function makeSteps(page: Page, frames?: Frames): TableView {
  return makeTable(page, {
    table: "steps",
    title: "Steps",
    nothing: (run) => nothingText(run, "step"),
    // The last step of an episode closes it with a rule.
    rowClass: ({ frame, index }) =>
      frame.columns.get("terminated")?.at(index) === true || frame.columns.get("truncated")?.at(index) === true
        ? "ltw-last-step"
        : "",
    ...(frames ? { frames } : {}),
  });
}
