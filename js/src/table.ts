// What the step table and the episode table share: a regular-table over rows that may not be here yet.

import "regular-table";
import type { RegularTableElement } from "regular-table";
import { cellText, fullText, isNumber, label, ordered } from "./labels.ts";
import type { TableName } from "./messages.ts";
import type { ColumnInfo, Held } from "./rows.ts";
import type { RunState } from "./run-state.ts";
import { browserFrames, type Frames, scheduled } from "./schedule.ts";

const ROW_HEIGHT = 24;
/** Above this regular-table maps scroll positions to rows by proportion, so that new rows would move what is read. */
const EXACT_ROWS = Math.floor(4_900_000 / ROW_HEIGHT);
/** Rows to have here beyond those on screen. */
const AHEAD = 40;
const PLACEHOLDER = "…";
const CHARACTER = 7;
const PADDING = 22;
const NARROWEST = 52;
const WIDEST = 280;

export interface TableOptions {
  table: TableName;
  title: string;
  /** What it says while there is nothing. */
  nothing(run: RunState): string;
  /** A class for a row by its values, or "". */
  rowClass?(held: Held): string;
  frames?: Frames;
}

export interface TableView {
  readonly element: HTMLElement;
  readonly follow: HTMLButtonElement;
  update(): void;
  close(): void;
}

export function makeTable(run: RunState, options: TableOptions): TableView {
  const { table, title, frames = browserFrames } = options;
  const rows = run.rows(table);
  const element = document.createElement("div");
  element.className = "ltw-table";
  element.dataset.testid = `ltw-${table}-table`;
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  const grid = document.createElement("regular-table");
  grid.setAttribute("role", "group");
  grid.setAttribute("aria-label", `${title}, newest last`);
  element.append(grid, nothing);

  const follow = document.createElement("button");
  follow.type = "button";
  follow.className = "ltw-follow";
  follow.dataset.testid = `ltw-follow-${table}`;

  let columns: ColumnInfo[] = [];
  let revision = -1;
  let widths = new Map<string, number>();
  /** The widths regular-table was given, and for how wide a table. */
  let given: number[] = [];
  let sizedFor = -1;
  let following = true;
  /** How many rows the table is drawn with; stands still while older rows of a very long table are read. */
  let shown = 0;
  let closed = false;
  let drawing = false;
  let again = false;
  /** Where we last put the scroll position: moving up from there is the user's doing. */
  let placed = 0;

  grid.setDataListener(
    async (x0: number, y0: number, x1: number, y1: number) => {
      const shownColumns = columns.slice(x0, x1);
      if (y1 > y0) run.want(element, table, y0 - AHEAD, y1 + AHEAD);
      const held: (Held | null)[] = [];
      for (let y = y0; y < Math.min(y1, shown); y++) held.push(rows.row(y));
      return {
        num_rows: shown,
        num_columns: columns.length,
        num_column_headers: 1,
        row_height: ROW_HEIGHT,
        column_headers: shownColumns.map(({ name }) => [label(table, name)]),
        data: shownColumns.map((column) => held.map((row) => (row ? textOf(column, row) : PLACEHOLDER))),
      };
    },
    { virtual_mode: "both", column_classes: true },
  );

  const textOf = ({ name, kind }: ColumnInfo, { frame, index }: Held): string =>
    cellText(name, kind, frame.columns.get(name)?.at(index));

  const unstyle = grid.addStyleListener(() => {
    let next = -1;
    for (const tr of grid.querySelectorAll<HTMLTableRowElement>("tbody tr")) {
      // regular-table keeps a row of an earlier draw below the visible ones, to use again.
      const place = grid.getMeta(tr.cells[0]);
      const y = place?.type === "body" ? place.y : -1;
      if (next >= 0 && y !== next) {
        tr.className = "ltw-stale";
        continue;
      }
      next = y + 1;
      let held: Held | null = null;
      for (const td of tr.cells) {
        const at = grid.getMeta(td);
        if (at?.type !== "body") continue;
        held ??= rows.row(at.y);
        const column = columns[at.x];
        if (!column) continue;
        const here = held?.frame.columns.get(column.name);
        const value = held && here ? here.at(held.index) : null;
        const name = !held ? "ltw-absent" : isNumber(column.kind) ? "ltw-number" : value === false ? "ltw-false" : "";
        mark(td, name);
        const text = td.textContent ?? "";
        const long = text.length * CHARACTER + PADDING > (given[at.x] ?? NARROWEST);
        const full = held && here && (long || column.kind === "time") ? fullText(column.name, column.kind, value) : "";
        if (td.title !== full) td.title = full;
      }
      const rowName = held && options.rowClass ? options.rowClass(held) : "";
      if (tr.className !== rowName) tr.className = rowName;
    }
    for (const th of grid.querySelectorAll<HTMLTableCellElement>("thead th")) {
      const at = grid.getMeta(th);
      const column = at?.type === "column_header" ? columns[at.x] : undefined;
      if (!column) continue;
      mark(th, isNumber(column.kind) ? "ltw-number" : "");
      th.scope = "col";
      th.title = label(table, column.name);
    }
  });

  const takeColumns = (room: number): void => {
    const changed = revision !== rows.columnsRevision;
    if (!changed && room === sizedFor) return;
    // What the user dragged stays with its column, wherever that stands now.
    for (const [key, width] of Object.entries(grid.saveColumnSizes())) {
      const name = columns[Number(key)]?.name;
      if (name && width !== given[Number(key)]) widths.set(name, width);
    }
    if (changed) {
      revision = rows.columnsRevision;
      columns = ordered(table, rows.columns);
      sizeNew();
    }
    sizedFor = room;
    given = columns.map(({ name }) => widths.get(name) ?? NARROWEST);
    // The observation, or else the last column, fills what is left of the row.
    const spare = room - given.reduce((sum, width) => sum + width, 0);
    const filler = columns.findIndex(({ name }) => name === "observation");
    const at = filler < 0 ? given.length - 1 : filler;
    if (spare > 0 && at >= 0) given[at] = (given[at] ?? 0) + spare;
    grid.resetAutoSize();
    grid.restoreColumnSizes({ ...given });
  };

  /** Give columns without a width one, by what the newest rows hold; columns never change their width by themselves. */
  const sizeNew = (): void => {
    const sample: Held[] = [];
    for (let y = Math.max(0, rows.total - 60); y < rows.total; y++) {
      const held = rows.row(y);
      if (held) sample.push(held);
    }
    const measure = measurer(grid);
    widths = new Map(widths);
    for (const column of columns) {
      if (widths.has(column.name)) continue;
      let width = measure(label(table, column.name), 600);
      for (const held of sample) width = Math.max(width, measure(textOf(column, held).slice(0, 60), 400));
      // A number grows by a digit or two while one looks.
      if (isNumber(column.kind)) width += CHARACTER;
      // A number that is cut short is another number: what may still come has room.
      if (column.kind === "float") width = Math.max(width, measure(LONGEST_FLOAT, 400));
      widths.set(column.name, Math.max(NARROWEST, Math.min(WIDEST, Math.ceil(width + PADDING))));
    }
  };

  const draw = async (): Promise<void> => {
    if (closed || grid.clientHeight === 0) return;
    if (drawing) {
      again = true;
      return;
    }
    drawing = true;
    try {
      do {
        again = false;
        if (following || rows.total <= EXACT_ROWS || rows.total < shown) shown = rows.total;
        const clip = grid.shadowRoot?.querySelector<HTMLElement>(".rt-scroll-table-clip");
        const [width, height] = [clip?.clientWidth ?? grid.clientWidth, clip?.clientHeight ?? grid.clientHeight];
        takeColumns(width);
        if (columns.length === 0) return;
        const commit = await grid.predraw(width, height, {
          container_height: grid.clientHeight,
          ...(following ? { scroll_top: Number.MAX_SAFE_INTEGER } : {}),
        });
        if (closed) return;
        commit();
        if (following) toNewest();
      } while (again);
    } finally {
      drawing = false;
    }
  };

  const toNewest = (): void => {
    const bottom = Math.max(0, grid.scrollHeight - grid.clientHeight);
    if (Math.abs(grid.scrollTop - bottom) > 0.5) grid.scrollTop = bottom;
    placed = grid.scrollTop;
  };

  const setFollowing = (on: boolean): void => {
    following = on;
    follow.textContent = on ? "Following newest" : "Jump to newest";
    follow.setAttribute("aria-pressed", String(on));
    follow.title = on ? "Scroll up to stop following" : "Show the newest rows and follow them";
  };

  const onScroll = (): void => {
    const bottom = grid.scrollHeight - grid.clientHeight;
    if (grid.scrollTop >= bottom - ROW_HEIGHT / 2) {
      if (!following) {
        setFollowing(true);
        drawSoon.request();
      }
    } else if (following && grid.scrollTop < placed - 1) {
      setFollowing(false);
    }
  };

  // Rows must not be taken from under a selection.
  const onSelect = (): void => {
    const root = grid.getRootNode() as Document | ShadowRoot;
    const selection = "getSelection" in root ? (root.getSelection as Document["getSelection"])() : getSelection();
    if (following && selection && !selection.isCollapsed && grid.contains(selection.anchorNode)) setFollowing(false);
  };

  const onKey = (event: KeyboardEvent): void => {
    if (event.target !== grid) return;
    if (event.key === "End") {
      event.preventDefault();
      setFollowing(true);
      drawSoon.request();
    } else if (event.key === "Home") {
      event.preventDefault();
      setFollowing(false);
      grid.scrollTop = 0;
    }
  };

  const onFollow = (): void => {
    setFollowing(!following);
    drawSoon.request();
  };

  const drawSoon = scheduled(() => void draw(), frames);
  const resized = new ResizeObserver(() => drawSoon.request());
  resized.observe(element);
  grid.addEventListener("scroll", onScroll, { passive: true });
  grid.addEventListener("keydown", onKey);
  document.addEventListener("selectionchange", onSelect);
  follow.addEventListener("click", onFollow);
  setFollowing(true);

  return {
    element,
    follow,
    update() {
      const empty = rows.total === 0;
      nothing.hidden = !empty;
      grid.hidden = empty;
      if (empty) nothing.textContent = options.nothing(run);
      follow.hidden = empty;
      drawSoon.request();
    },
    close() {
      closed = true;
      drawSoon.close();
      resized.disconnect();
      unstyle();
      grid.removeEventListener("scroll", onScroll);
      grid.removeEventListener("keydown", onKey);
      document.removeEventListener("selectionchange", onSelect);
      follow.removeEventListener("click", onFollow);
      run.unwant(element);
      dropSheets(grid);
    },
  };
}

/** How wide a text is in the table's font; a guess where there is no canvas. */
function measurer(grid: HTMLElement): (text: string, weight: number) => number {
  const pen = document.createElement("canvas").getContext("2d");
  if (!pen) return (text) => text.length * CHARACTER;
  const family = getComputedStyle(grid).fontFamily || "sans-serif";
  return (text, weight) => {
    pen.font = `${weight} 12px ${family}`;
    return pen.measureText(text).width;
  };
}

function mark(cell: HTMLTableCellElement, name: string): void {
  for (const known of ["ltw-number", "ltw-false", "ltw-absent"]) cell.classList.toggle(known, known === name);
}

/** Six significant digits take no more room than this. */
const LONGEST_FLOAT = "-1.23456e-100";

/** regular-table adopts a style sheet for its column widths and never drops it. */
function dropSheets(grid: RegularTableElement): void {
  const scope = [...(grid.querySelector("table")?.classList ?? [])].find((name) => name.startsWith("rt-scope-"));
  const root = grid.getRootNode() as Document;
  const roots = [root, document].filter((held) => held.adoptedStyleSheets?.length);
  for (const held of roots) {
    held.adoptedStyleSheets = held.adoptedStyleSheets.filter(
      (sheet) => ![...sheet.cssRules].some((rule) => rule.cssText.startsWith(`.${scope} `)),
    );
  }
}
