// The episode table.

import type { Page } from "./page.ts";
import type { Frames } from "./schedule.ts";
import { nothingText } from "./standing.ts";
import { makeTable, type TableView } from "./table.ts";

const OUTCOMES: Record<string, string> = {
  Success: "ltw-success",
  Failed: "ltw-failure",
  Timeout: "ltw-timeout",
  Running: "ltw-running",
};

export function makeEpisodes(page: Page, frames?: Frames): TableView {
  return makeTable(page, {
    table: "episodes",
    title: "Episodes",
    nothing: (run) => nothingText(run, "episode"),
    rowClass: ({ frame, index }) => {
      const outcome = OUTCOMES[String(frame.columns.get("outcome")?.at(index))] ?? "";
      return frame.columns.get("complete")?.at(index) === false ? `${outcome} ltw-incomplete` : outcome;
    },
    // Said in words too: steps of it are missing.
    text: (name, text, { frame, index }) =>
      name === "outcome" && frame.columns.get("complete")?.at(index) === false ? `${text}, incomplete` : text,
    ...(frames ? { frames } : {}),
  });
}
