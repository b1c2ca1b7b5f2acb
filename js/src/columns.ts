// How wide the columns of a table are: by what stands in them, by what a person dragged, and to fill the row.

import type { RegularTableElement } from "regular-table";
import { isNumber, label } from "./labels.ts";
import type { ColumnInfo, Held } from "./rows.ts";
import type { TableState } from "./table-state.ts";

export const CHARACTER = 7;
export const PADDING = 22;
export const NARROWEST = 52;
const WIDEST = 280;
/** So many rows tell how wide a column is. */
const SAMPLE = 60;
/** Room for the sign of the order. */
const ARROW = 14;

export interface Columns {
  readonly list: readonly ColumnInfo[];
  /** The width of a column by place. */
  width(place: number): number;
  /** Take in which columns there are now, in a table of this width. */
  take(room: number): void;
}

export function makeColumns(
  grid: RegularTableElement,
  state: TableState,
  textOf: (column: ColumnInfo, held: Held) => string,
): Columns {
  let columns: ColumnInfo[] = [];
  let seen = "";
  let source: object | null = null;
  let sizedFor = -1;
  /** The widths regular-table was given. */
  let given: number[] = [];
  /** Widths by content: columns never change them by themselves. */
  const measured = new Map<string, number>();

  const sizeNew = (): void => {
    const { rows, table } = state;
    const sample: Held[] = [];
    for (let y = Math.max(0, rows.total - SAMPLE); y < rows.total; y++) {
      const held = rows.row(y);
      if (held) sample.push(held);
    }
    const measure = measurer(grid);
    for (const column of columns) {
      if (measured.has(column.name)) continue;
      let width = measure(label(table, column.name), 600) + ARROW;
      for (const held of sample) width = Math.max(width, measure(textOf(column, held).slice(0, 60), 400));
      // A number grows by a digit or two while one looks.
      if (isNumber(column.kind)) width += CHARACTER;
      // A number that is cut short is another number: what may still come has room.
      if (column.kind === "float") width = Math.max(width, measure(LONGEST_FLOAT, 400));
      measured.set(column.name, Math.max(NARROWEST, Math.min(WIDEST, Math.ceil(width + PADDING))));
    }
  };

  return {
    get list() {
      return columns;
    },
    width: (place) => given[place] ?? NARROWEST,
    take(room) {
      const { rows, widths } = state;
      const now = `${rows.columnsRevision} ${state.revision}`;
      const changed = now !== seen || rows !== source;
      if (!changed && room === sizedFor) return;
      // What the user dragged stays with its column, wherever that stands now.
      for (const [key, width] of Object.entries(grid.saveColumnSizes())) {
        const name = columns[Number(key)]?.name;
        if (name && width !== given[Number(key)]) widths.set(name, width);
      }
      if (changed && rows.columns.length > 0) {
        seen = now;
        source = rows;
        columns = state.columns.filter(({ name }) => !state.hidden.has(name));
        sizeNew();
      }
      sizedFor = room;
      given = columns.map(({ name }) => widths.get(name) ?? measured.get(name) ?? NARROWEST);
      // The observation, or else the last column, fills what is left of the row.
      const spare = room - given.reduce((sum, width) => sum + width, 0);
      const filler = columns.findIndex(({ name }) => name === "observation");
      const at = filler < 0 ? given.length - 1 : filler;
      if (spare > 0 && at >= 0) given[at] = (given[at] ?? 0) + spare;
      grid.resetAutoSize();
      grid.restoreColumnSizes({ ...given });
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

/** Six significant digits take no more room than this. */
const LONGEST_FLOAT = "-1.23456e-100";
