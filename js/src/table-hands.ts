// What a person does in a table: mark rows and copy them, choose an episode and a step, sort by a header, open a cell; with mouse and keys.

import { label } from "./labels.ts";
import type { Page } from "./page.ts";
import { plain } from "./plain.ts";
import type { Held } from "./rows.ts";
import { type EpisodeRef, type Selected, sameEpisode } from "./selection.ts";
import { opensAsTree, type TableBody } from "./table.ts";
import type { TableState } from "./table-state.ts";
import { makeTree } from "./tree.ts";

/** At most so many rows are copied at a time. */
const MOST_COPIED = 20_000;

export interface TableHands {
  /** A class for a row: marked, or of what is selected. */
  rowClass(row: number, held: Held): string;
  close(): void;
}

export function makeTableHands(page: Page, state: TableState, body: TableBody, title: string): TableHands {
  const { grid, element } = body;
  const { selection, run, link } = page;
  const steps = state.table === "steps";
  /** Marked rows: from where it began to where it ends now. */
  let marked: { anchor: number; head: number } | null = null;
  let source = state.rows;
  /** The row of a step of the selected episode, to find others by. */
  let known: { key: string; step: number; row: number } | null = null;
  let looking = false;
  /** Whether what is selected is still to be gone to, when there are rows. */
  let late = false;
  let mine = false;

  const says = document.createElement("div");
  says.className = "ltw-says";
  says.setAttribute("role", "status");
  says.setAttribute("aria-live", "polite");
  const cell = document.createElement("div");
  cell.className = "ltw-cell";
  cell.setAttribute("role", "dialog");
  cell.tabIndex = -1;
  cell.hidden = true;
  cell.dataset.testid = `ltw-cell-${state.table}`;
  element.append(says, cell);

  const value = (held: Held, name: string): unknown => held.frame.columns.get(name)?.at(held.index) ?? null;
  const text = (held: Held, name: string): string => String(value(held, name) ?? "");
  /** The row's number in the whole table. */
  const numberOf = (row: number, held: Held): number => Number(value(held, "row") ?? row);

  // -- marking

  const markTo = (row: number, extend: boolean): void => {
    const head = Math.max(0, Math.min(row, state.rows.total - 1));
    marked = { anchor: extend && marked ? marked.anchor : head, head };
    body.follow(false);
    body.redraw();
    const held = state.rows.row(head);
    const count = Math.abs(marked.head - marked.anchor) + 1;
    const cells = held
      ? body.columns.slice(0, 8).map((c) => `${label(state.table, c.name)} ${body.textOf(c, held)}`)
      : [];
    says.textContent =
      count > 1 ? `${count} rows marked` : `Row ${head + 1} of ${state.rows.total}: ${cells.join(", ")}`;
  };

  const copy = async (): Promise<void> => {
    if (!marked) return;
    const first = Math.min(marked.anchor, marked.head);
    const end = Math.min(Math.max(marked.anchor, marked.head) + 1, first + MOST_COPIED);
    try {
      const held = await state.fetch(first, end);
      const lines = [body.columns.map((c) => label(state.table, c.name)), ...held.map(cellsOf)];
      await writeClipboard(lines.map((line) => line.map(tsvCell).join("\t")).join("\n"));
      says.textContent = `${held.length} rows copied`;
    } catch (error) {
      says.textContent = plain(`Not copied: ${error instanceof Error ? error.message : String(error)}`);
    }
    element.dataset.said = says.textContent;
  };
  const cellsOf = (held: Held): string[] =>
    body.columns.map(({ name, kind }) => {
      const raw = value(held, name);
      return typeof raw === "number" && kind !== "time" ? String(raw) : body.textOf({ name, kind }, held, true);
    });

  // -- selecting

  const choose = async (row: number): Promise<void> => {
    const held = state.rows.row(row);
    if (!held) return;
    const number = Number(value(held, "episode"));
    const of = { worker: text(held, "worker_id"), agent: text(held, "agent_id"), episode: number };
    const ref = steps ? await refOf(of) : { row: numberOf(row, held), ...of };
    if (!ref) return;
    mine = true;
    selection.set(steps ? { episode: ref, step: Number(value(held, "step_index")) } : { episode: ref });
    mine = false;
    body.redraw();
  };

  /** The episode as a selection names it: with its number in the episode table. */
  const refOf = async (of: Omit<EpisodeRef, "row">): Promise<EpisodeRef | null> => {
    const here = run.episodes.find(
      (held) =>
        Number(value(held, "episode")) === of.episode &&
        text(held, "agent_id") === of.agent &&
        text(held, "worker_id") === of.worker,
    );
    if (here !== null) return { row: here, ...of };
    try {
      const { fields } = await link.ask("ask_find", of);
      return foundIn(fields.found)[0]?.episode ?? null;
    } catch (error) {
      says.textContent = plain(`Not found: ${error instanceof Error ? error.message : String(error)}`);
      return null;
    }
  };

  const onSelection = (now: Selected, before: Selected): void => {
    body.redraw();
    if (now.live && !before.live) {
      marked = null;
      body.follow(true);
    } else if (
      !mine &&
      now.episode &&
      !(sameEpisode(now.episode, before.episode) && (!steps || now.step === before.step))
    )
      void goTo();
  };

  /** Bring the selected episode, in the step table its step, on screen; in a table that is arranged what is nearest to it. */
  const goTo = async (): Promise<void> => {
    const { episode, step } = selection.now;
    const by = state.arrangedBy;
    late = episode !== null && by === undefined;
    if (!episode || by === undefined) return;
    if (!steps && !by) return body.show(episode.row);
    const key = JSON.stringify([episode, by]);
    const near = rowNear(episode, step, key);
    if (near !== null) return body.show(near);
    if (looking) return;
    looking = true;
    try {
      const { agent, worker, episode: number } = episode;
      const { fields } = await link.ask("ask_find", {
        episode: number,
        agent,
        worker,
        ...(steps && step !== null ? { step } : {}),
        ...(by ? { table: state.table, ...by } : {}),
      });
      const row = foundIn(fields.found).find((one) => one.episode.row === episode.row)?.row ?? null;
      late = row === null && fields.more === true;
      if (row !== null && !by) known = { key, step: step ?? 0, row };
      if (row !== null && by === state.arrangedBy && sameEpisode(selection.episode, episode)) body.show(row);
    } catch (error) {
      says.textContent = plain(`Not found: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      looking = false;
    }
    // What was selected, or arranged, meanwhile.
    const now = selection.now;
    if (now.episode && (JSON.stringify([now.episode, state.arrangedBy]) !== key || (steps && now.step !== step)))
      void goTo();
  };

  /** The row that is selected, where it can be told without asking: by one that was found, or on screen. */
  const rowNear = (episode: EpisodeRef, step: number | null, key: string): number | null => {
    if (steps && step === null) return null;
    const here = (row: number): boolean | null => {
      const held = state.rows.row(row);
      return held && isOf(held, episode) && (!steps || Number(value(held, "step_index")) === step);
    };
    const guess = known?.key === key && step !== null ? known.row + step - known.step : null;
    if (guess !== null && here(guess) !== false) return guess;
    const { first, count } = body.visible();
    for (let row = Math.max(0, first - count); row < first + 2 * count; row++) if (here(row)) return row;
    return null;
  };

  // -- a cell's value

  const openCell = async (td: HTMLElement, row: number): Promise<void> => {
    const [column, held] = [body.columnOf(td), state.rows.row(row)];
    if (!column || !held) return;
    const cut = text(held, column.name);
    const [box, around] = [td.getBoundingClientRect(), element.getBoundingClientRect()];
    cell.replaceChildren(heading(`${label(state.table, column.name)}, row ${numberOf(row, held) + 1}`), makeTree(cut));
    cell.setAttribute("aria-label", `${label(state.table, column.name)} as a tree`);
    cell.hidden = false;
    const below = around.bottom - box.bottom;
    cell.style.left = `${Math.max(4, Math.min(box.left - around.left, around.width - 340))}px`;
    const up = below < 130 && box.top - around.top > below;
    cell.style.top = up ? "" : `${box.bottom - around.top + 2}px`;
    cell.style.bottom = up ? `${around.bottom - box.top + 2}px` : "";
    cell.style.maxHeight = `${Math.max(90, (up ? box.top - around.top : below) - 8)}px`;
    cell.focus({ preventScroll: true });
    if (!cut.endsWith("…")) return;
    // The table has the beginning of long texts only.
    try {
      const asked = { table: state.table, row: numberOf(row, held), column: column.name };
      const { fields } = await link.ask("ask_cell", asked);
      if (!cell.hidden && typeof fields.text === "string") cell.lastElementChild?.replaceWith(makeTree(fields.text));
    } catch {
      // What is here of it is shown.
    }
  };
  const closeCell = (): void => {
    if (cell.hidden) return;
    cell.hidden = true;
    grid.focus({ preventScroll: true });
  };

  // -- mouse and keys

  const onClick = (event: MouseEvent): void => {
    const target = event.target as Element;
    if (target.closest(".rt-column-resize")) return;
    const th = target.closest("th");
    const column = th && body.columnOf(th);
    if (column) {
      state.sortBy(column.name);
      return;
    }
    const td = target.closest("td");
    const row = td && body.rowOf(td);
    if (!td || row === null || !getSelection()?.isCollapsed) return;
    const held = state.rows.row(row);
    const here = body.columnOf(td);
    markTo(row, event.shiftKey);
    if (event.shiftKey || !held) return;
    if (here && opensAsTree(here, value(held, here.name))) void openCell(td, row);
    else void choose(row);
  };

  /** Shift marks rows; it would select text as well. */
  const onDown = (event: MouseEvent): void => {
    if (event.shiftKey && (event.target as Element).closest("td")) event.preventDefault();
  };

  const onKey = (event: KeyboardEvent): void => {
    const target = event.target as Element;
    const column = target.tagName === "TH" ? body.columnOf(target) : null;
    if (column && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      state.sortBy(column.name);
      return;
    }
    if (target !== grid) return;
    const { first, count } = body.visible();
    const head = marked?.head ?? Math.min(first, state.rows.total - 1);
    const go = (row: number): void => {
      event.preventDefault();
      markTo(row, event.shiftKey);
      body.show(Math.max(0, Math.min(row, state.rows.total - 1)));
    };
    const cells = (): HTMLElement[] => [...grid.querySelectorAll<HTMLElement>("tbody tr:not(.ltw-stale) td")];
    if (event.key === "c" && (event.ctrlKey || event.metaKey)) {
      if (!marked || !getSelection()?.isCollapsed) return;
      event.preventDefault();
      void copy();
    } else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "ArrowDown") go(marked ? head + 1 : head);
    else if (event.key === "ArrowUp") go(marked ? head - 1 : head);
    else if (event.key === "PageDown") go(head + count);
    else if (event.key === "PageUp") go(head - count);
    else if (event.key === "Home") go(0);
    else if (event.key === "End" && (event.shiftKey || state.wish.sort)) go(state.rows.total - 1);
    else if (event.key === "End") {
      event.preventDefault();
      body.follow(true);
      body.redraw();
    } else if (event.key === "Enter" && marked) {
      event.preventDefault();
      void choose(marked.head);
    } else if (event.key === "o" && marked) {
      const held = state.rows.row(marked.head);
      const td = cells().find((c) => {
        const here = body.columnOf(c);
        return body.rowOf(c) === marked?.head && here && held && opensAsTree(here, value(held, here.name));
      });
      if (td) void openCell(td, marked.head);
    } else if (event.key === "Escape" && marked) {
      event.stopPropagation();
      marked = null;
      body.redraw();
    }
  };

  const onCellKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    closeCell();
  };
  const onOutside = (event: Event): void => {
    if (!cell.hidden && !event.composedPath().includes(cell)) cell.hidden = true;
  };

  grid.addEventListener("click", onClick);
  grid.addEventListener("mousedown", onDown);
  grid.addEventListener("keydown", onKey);
  cell.addEventListener("keydown", onCellKey);
  document.addEventListener("pointerdown", onOutside);
  grid.setAttribute(
    "aria-label",
    `${title}. Arrows mark rows, Enter selects, o opens a value, Control C copies, End follows the newest`,
  );
  const stopSelection = selection.listen(onSelection);
  const stopState = state.listen(() => {
    const other = state.rows !== source;
    source = state.rows;
    // Other rows stand there now; in an order, the first of it are what was asked for.
    if (other) marked = null;
    if (late || (other && state.wish.sort === "")) void goTo();
  });
  if (selection.episode) onSelection(selection.now, { ...selection.now, episode: null });

  return {
    rowClass(row, held) {
      const on = marked && row >= Math.min(marked.anchor, marked.head) && row <= Math.max(marked.anchor, marked.head);
      const names = on ? ["ltw-marked"] : [];
      for (const [ref, name] of [
        [selection.episode, "ltw-chosen"],
        [selection.other, "ltw-other"],
      ] as const) {
        if (ref && isOf(held, ref)) names.push(name);
      }
      if (
        steps &&
        selection.episode &&
        names.includes("ltw-chosen") &&
        selection.step === Number(value(held, "step_index"))
      )
        names.push("ltw-at");
      return names.join(" ");
    },
    close() {
      stopSelection();
      stopState();
      grid.removeEventListener("click", onClick);
      grid.removeEventListener("mousedown", onDown);
      grid.removeEventListener("keydown", onKey);
      cell.removeEventListener("keydown", onCellKey);
      document.removeEventListener("pointerdown", onOutside);
    },
  };

  function isOf(held: Held, ref: EpisodeRef): boolean {
    return (
      Number(value(held, "episode")) === ref.episode &&
      text(held, "agent_id") === ref.agent &&
      text(held, "worker_id") === ref.worker
    );
  }
}

export interface Found {
  episode: EpisodeRef;
  row: number | null;
}

/** What the kernel found (`ask_find`). */
export function foundIn(value: unknown): Found[] {
  return Array.isArray(value) ? (value as Found[]).filter((held) => Number.isSafeInteger(held?.episode?.row)) : [];
}

function heading(text: string): HTMLElement {
  const shown = document.createElement("div");
  shown.className = "ltw-cell-head";
  shown.textContent = text;
  return shown;
}

/** A cell of tab-separated values: what would break the line is quoted as spreadsheets do. */
export function tsvCell(text: string): string {
  return /["\t\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

async function writeClipboard(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Where the page is not secure (plain http from another machine) there is only the old way.
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("the browser does not let this page copy");
}
