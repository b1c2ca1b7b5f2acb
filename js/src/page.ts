// What the views of one model share.

import type { Link } from "./link.ts";
import type { RunState } from "./run-state.ts";
import type { Selection } from "./selection.ts";

export interface Page {
  readonly run: RunState;
  readonly selection: Selection;
  readonly link: Pick<Link, "ask">;
}
