// What the views of one model share.

import type { Link } from "./link.ts";
import type { TableName } from "./messages.ts";
import type { RunState } from "./run-state.ts";
import type { Selection } from "./selection.ts";
import type { TableState } from "./table-state.ts";

export interface Page {
  readonly run: RunState;
  readonly selection: Selection;
  readonly tables: Readonly<Record<TableName, TableState>>;
  readonly link: Pick<Link, "ask">;
}
