// What the step table and the episode table share: a regular-table over rows that may not be here yet.

import "regular-table";
import type { RegularTableElement } from "regular-table";
import { CHARACTER, makeColumns, NARROWEST, PADDING } from "./columns.ts";
import { written } from "./filter-words.ts";
import { cellText, fullText, isNumber, label, valueText } from "./labels.ts";
import type { TableName } from "./messages.ts";
import type { Page } from "./page.ts";
import { plain } from "./plain.ts";
import type { ColumnInfo, Held } from "./rows.ts";
import type { RunState } from "./run-state.ts";
import { browserFrames, type Frames, scheduled } from "./schedule.ts";
import { isOver } from "./standing.ts";
import { makeTableHands } from "./table-hands.ts";
import type { TableState } from "./table-state.ts";
import { ROW_HEIGHT, RowWindow } from "./window.ts";

/** Rows to have here beyond those on screen, so many that a wheel does not run out of them while the kernel answers. */
const AHEAD = 200;
/** Where rows are arranged they are dear: those that are shown come first. */
const AHEAD_ARRANGED = 40;
/** A row that is on its way, and one that will not come. */
const PLACEHOLDER = "…";
const OUT_OF_REACH = "–";
/** After so many milliseconds without scrolling the thumb stands where it belongs. */
const SETTLE_MS = 150;
/** So long after a turn of the wheel, or a finger's movement, scrolling is of that. */
const TURNED_MS = 500;

const TURNS = ["wheel", "touchmove"] as const;

export interface TableOptions {
  table: TableName;
  title: string;
  /** What it says while there is nothing. */
  nothing(run: RunState): string;
  /** A class for a row by its values, or "". */
  rowClass?(held: Held): string;
  /** Another text for a cell. */
  text?(name: string, text: string, held: Held): string;
  frames?: Frames;
}

export interface TableView {
  readonly element: HTMLElement;
  readonly follow: HTMLButtonElement;
  readonly state: TableState;
  update(): void;
  close(): void;
}

/** What of a table its hands (table-hands.ts) work with. */
export interface TableBody {
  readonly grid: RegularTableElement;
  readonly element: HTMLElement;
  readonly columns: readonly ColumnInfo[];
  /** The first row on screen that is seen whole, and how many are. */
  visible(): { first: number; count: number };
  /** The row that a cell stands in; null: in none. */
  rowOf(cell: Element): number | null;
  /** The column that a cell stands in. */
  columnOf(cell: Element): ColumnInfo | null;
  /** A cell as it is shown, or `raw`, as it is copied. */
  textOf(column: ColumnInfo, held: Held, raw?: boolean): string;
  /** Bring a row on screen, in the middle unless it is there already. */
  show(row: number): void;
  follow(on: boolean): void;
  redraw(): void;
}

export function makeTable(page: Page, options: TableOptions): TableView {
  const { run } = page;
  const { table, title, frames = browserFrames } = options;
  const state = page.tables[table];
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

  const range = new RowWindow();
  /** The row that was drawn as regular-table's row 0. */
  let drawn = 0;
  let following = true;
  let closed = false;
  let drawing = false;
  let again = false;
  let settle: number | undefined;
  let turnedAt = Number.NEGATIVE_INFINITY;
  /** A row to bring on screen when the table is on it: under a tab that is not chosen it has no size. */
  let owed: number | null = null;

  const textOf = (column: ColumnInfo, held: Held, raw = false): string => {
    const { name, kind } = column;
    const text = (raw ? valueText : cellText)(name, kind, held.frame.columns.get(name)?.at(held.index), state.digits);
    return options.text ? options.text(name, text, held) : text;
  };
  const columns = makeColumns(grid, state, textOf);

  grid.setDataListener(
    async (x0: number, y0: number, x1: number, y1: number) => {
      const { rows } = state;
      const shift = range.shift;
      drawn = shift;
      const shownColumns = columns.list.slice(x0, x1);
      const ahead = state.arrangedBy === null ? AHEAD : AHEAD_ARRANGED;
      if (y1 > y0) state.want(element, shift + y0 - ahead, shift + y1 + ahead);
      const held: (Held | null)[] = [];
      for (let y = y0; y < Math.min(y1, range.span); y++) held.push(rows.row(y + shift));
      return {
        num_rows: range.span,
        num_columns: columns.list.length,
        num_column_headers: 1,
        row_height: ROW_HEIGHT,
        column_headers: shownColumns.map(({ name }) => [label(table, name)]),
        data: shownColumns.map((column) =>
          held.map((row) => (row ? textOf(column, row) : run.isStatic ? OUT_OF_REACH : PLACEHOLDER)),
        ),
      };
    },
    { virtual_mode: "both", column_classes: true },
  );

  const unstyle = grid.addStyleListener(() => {
    const { rows } = state;
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
      const held = y < 0 ? null : rows.row(y + drawn);
      for (const td of tr.cells) {
        const at = grid.getMeta(td);
        const column = at?.type === "body" ? columns.list[at.x] : undefined;
        if (at?.type !== "body" || !column) continue;
        const here = held?.frame.columns.get(column.name);
        const value = held && here ? here.at(held.index) : null;
        const opens = opensAsTree(column, value);
        const name = !held ? "ltw-absent" : isNumber(column.kind) ? "ltw-number" : value === false ? "ltw-false" : "";
        mark(td, opens ? "ltw-opens" : name);
        const text = td.textContent ?? "";
        const long = text.length * CHARACTER + PADDING > (columns.width(at.x) ?? NARROWEST);
        const full = held && here && (long || column.kind === "time") ? fullText(column.name, column.kind, value) : "";
        if (td.title !== full) td.title = full;
      }
      const names = [
        held && options.rowClass ? options.rowClass(held) : "",
        held ? hands.rowClass(y + drawn, held) : "",
      ];
      const rowName = names.filter(Boolean).join(" ");
      if (tr.className !== rowName) tr.className = rowName;
      tr.setAttribute("aria-rowindex", String(y + drawn + 2));
      tr.setAttribute("aria-selected", String(rowName.includes("ltw-marked")));
    }
    grid.querySelector("table")?.setAttribute("aria-rowcount", String(range.total + 1));
    const { sort, descending } = state.wish;
    for (const th of grid.querySelectorAll<HTMLTableCellElement>("thead th")) {
      const at = grid.getMeta(th);
      const column = at?.type === "column_header" ? columns.list[at.x] : undefined;
      if (!column) continue;
      mark(th, isNumber(column.kind) ? "ltw-number" : "");
      th.scope = "col";
      th.tabIndex = 0;
      th.title = plain(`${label(table, column.name)}, in a filter ${written(column.name)}; click to sort`);
      th.setAttribute("aria-sort", sort !== column.name ? "none" : descending ? "descending" : "ascending");
    }
  });

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
        range.resize(state.rows.total);
        if (following) range.toEnd(range.placed);
        const clip = grid.shadowRoot?.querySelector<HTMLElement>(".rt-scroll-table-clip");
        const [width, height] = [clip?.clientWidth ?? grid.clientWidth, clip?.clientHeight ?? grid.clientHeight];
        columns.take(width);
        if (columns.list.length === 0) return;
        const commit = await grid.predraw(width, height, {
          container_height: grid.clientHeight,
          ...(following ? { scroll_top: Number.MAX_SAFE_INTEGER } : {}),
        });
        if (closed) return;
        commit();
        if (following) toNewest();
        else if (owed !== null) {
          show(owed);
          again = true;
        }
      } while (again);
    } finally {
      drawing = false;
    }
  };

  const toNewest = (): void => {
    const bottom = Math.max(0, grid.scrollHeight - grid.clientHeight);
    if (Math.abs(grid.scrollTop - bottom) > 0.5) grid.scrollTop = bottom;
    range.toEnd(grid.scrollTop);
  };

  const sayFollowing = (): void => {
    const words = isOver(run) ? ["At the end", "Jump to the end"] : ["Following newest", "Jump to newest"];
    const text = words[following ? 0 : 1] as string;
    if (follow.textContent !== text) follow.textContent = text;
  };

  /** Where rows have an order of their own, there is no newest to follow. */
  const setFollowing = (on: boolean): void => {
    following = on && state.wish.sort === "";
    sayFollowing();
    follow.setAttribute("aria-pressed", String(following));
    follow.title = following ? "Scroll up to stop following" : "Show the newest rows and follow them";
  };

  // Before regular-table hears of it: it asks for rows at once.
  const onScroll = (): void => {
    const top = grid.scrollTop;
    const bottom = grid.scrollHeight - grid.clientHeight;
    const up = top < range.placed - 1;
    const now = performance.now();
    const turned = now - turnedAt < TURNED_MS;
    // What goes on by itself after a turn, or a finger that was lifted, belongs to it.
    if (turned) turnedAt = now;
    const moved = range.scrolled(top, grid.clientHeight, turned);
    if (top >= bottom - ROW_HEIGHT / 2 && range.shift + range.span >= range.total) {
      if (!following) {
        setFollowing(true);
        drawSoon.request();
      }
    } else if (following && up) {
      setFollowing(false);
    }
    if (moved) drawSoon.request();
    window.clearTimeout(settle);
    if (range.cramped(grid.clientHeight)) settleNow();
    else if (range.span < range.total) settle = window.setTimeout(settleNow, SETTLE_MS);
  };

  const onTurn = (): void => {
    turnedAt = performance.now();
  };
  /** The thumb may have been taken. */
  const onDown = (event: PointerEvent): void => {
    if (event.pointerType !== "touch") turnedAt = Number.NEGATIVE_INFINITY;
  };

  const settleNow = (): void => {
    const top = following || closed ? null : range.settled(grid.clientHeight);
    if (top === null) return;
    grid.scrollTop = top;
    drawSoon.request();
  };

  const show = (row: number): void => {
    const { first, count } = body.visible();
    setFollowing(false);
    owed = null;
    if (grid.clientHeight === 0) {
      owed = row;
      return;
    }
    if (row < first || row >= first + count) {
      range.resize(state.rows.total);
      const near = row >= first - count && row < first + 2 * count;
      const top = near
        ? grid.scrollTop + (row < first ? row - first : row - first - count + 1) * ROW_HEIGHT
        : range.show(row, grid.clientHeight);
      grid.scrollTop = top;
    }
    drawSoon.request();
  };

  // Rows must not be taken from under a selection.
  const onSelect = (): void => {
    const root = grid.getRootNode() as Document | ShadowRoot;
    const selection = "getSelection" in root ? (root.getSelection as Document["getSelection"])() : getSelection();
    if (following && selection && !selection.isCollapsed && grid.contains(selection.anchorNode)) setFollowing(false);
  };

  const onFollow = (): void => {
    setFollowing(!following);
    drawSoon.request();
  };

  const drawSoon = scheduled(() => void draw(), frames);
  const body: TableBody = {
    grid,
    element,
    get columns() {
      return columns.list;
    },
    visible: () => ({
      first: Math.ceil(grid.scrollTop / ROW_HEIGHT - 0.01) + range.shift,
      count: Math.max(1, Math.floor(grid.clientHeight / ROW_HEIGHT) - 1),
    }),
    rowOf(cell) {
      const at = grid.getMeta(cell as HTMLTableCellElement);
      return at?.type === "body" ? at.y + drawn : null;
    },
    columnOf(cell) {
      const at = grid.getMeta(cell as HTMLTableCellElement);
      return at?.type === "body" || at?.type === "column_header" ? (columns.list[at.x as number] ?? null) : null;
    },
    textOf,
    show,
    follow(on) {
      setFollowing(on);
      if (!on && grid.scrollTop > 0) return;
      drawSoon.request();
    },
    redraw: () => drawSoon.request(),
  };
  const hands = makeTableHands(page, state, body, title);
  let source = state.rows;
  const stopState = state.listen(() => {
    const other = state.rows !== source;
    source = state.rows;
    setFollowing(following);
    if (other && state.wish.sort !== "") {
      // The first of the order is what was asked for.
      range.resize(state.rows.total);
      grid.scrollTop = range.show(0, grid.clientHeight);
    }
    update();
  });
  const resized = new ResizeObserver(() => drawSoon.request());
  resized.observe(element);
  grid.addEventListener("scroll", onScroll, { capture: true, passive: true });
  for (const name of TURNS) grid.addEventListener(name, onTurn, { capture: true, passive: true });
  grid.addEventListener("pointerdown", onDown, { capture: true, passive: true });
  document.addEventListener("selectionchange", onSelect);
  follow.addEventListener("click", onFollow);
  setFollowing(true);

  const update = (): void => {
    const empty = state.rows.total === 0;
    nothing.hidden = !empty;
    grid.hidden = empty;
    if (empty) nothing.textContent = emptyText();
    sayFollowing();
    follow.hidden = empty || state.wish.sort !== "";
    drawSoon.request();
  };

  const emptyText = (): string => {
    const { arrangement } = state;
    if (!arrangement || arrangement.fault) return options.nothing(run);
    const { progress } = arrangement;
    if (!progress) return run.isStatic ? "There is no kernel to filter them." : "Waiting for the kernel…";
    if (progress.scanned < progress.of) return `Looking through ${progress.of.toLocaleString("en")} rows…`;
    return `None of ${progress.of.toLocaleString("en")} rows fits the filter.`;
  };

  return {
    element,
    follow,
    state,
    update,
    close() {
      closed = true;
      window.clearTimeout(settle);
      drawSoon.close();
      resized.disconnect();
      stopState();
      hands.close();
      unstyle();
      grid.removeEventListener("scroll", onScroll, { capture: true });
      for (const name of TURNS) grid.removeEventListener(name, onTurn, { capture: true });
      grid.removeEventListener("pointerdown", onDown, { capture: true });
      document.removeEventListener("selectionchange", onSelect);
      follow.removeEventListener("click", onFollow);
      run.unwant(element);
      dropSheets(grid);
    },
  };
}

/** Whether a cell holds an object or a list, as JSON. */
export function opensAsTree(column: ColumnInfo, value: unknown): boolean {
  return column.kind === "text" && typeof value === "string" && /^\s*[[{]/.test(value) && value.length > 2;
}

function mark(cell: HTMLTableCellElement, name: string): void {
  for (const known of ["ltw-number", "ltw-false", "ltw-absent", "ltw-opens"]) {
    cell.classList.toggle(known, known === name);
  }
}

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
