// What a picture is decided to look like, before anything is painted: sizes, places, strengths. Pure.

import type { Cell, Facing, Grid, Mark } from "./messages.ts";

export interface Size {
  width: number;
  height: number;
}

/** Where a picture is and how large, in CSS pixels; `cell` is the side of a tile, or for cards and frames the unit of it. */
export interface Place extends Size {
  cell: number;
}

const LEAST_CELL = 8;
const MOST_CELL = 72;
/** A table of cards, in units. */
export const CARDS: Size = { width: 7, height: 4.6 };

/** How many tiles (or pixels, or units of cards) a picture has; null when there is nothing to draw. */
export function natural(grid: Grid): Size | null {
  if (grid.image) return { width: grid.image.width, height: grid.image.height };
  if (grid.cards) return CARDS;
  const width = Math.max(0, ...grid.tiles.map((row) => row.length));
  return width > 0 ? { width, height: grid.tiles.length } : null;
}

/** The largest place for a picture in a room: whole pixels a tile, so that lines are sharp. */
export function placed(grid: Grid, size: Size, room: Size): Place {
  const scale = Math.min(room.width / size.width, room.height / size.height);
  // A frame is shown at its own size, or a whole multiple of it, where there is room.
  let cell = scale;
  if (grid.image) cell = scale >= 2 ? Math.floor(scale) : Math.min(1, scale);
  else cell = Math.max(LEAST_CELL, Math.min(MOST_CELL, Math.floor(scale)));
  return {
    width: Math.max(1, Math.round(size.width * cell)),
    height: Math.max(1, Math.round(size.height * cell)),
    cell,
  };
}

/** Whether two pictures are larger one above the other than side by side. */
export function stacked(size: Size, room: Size): boolean {
  const beside = Math.min(room.width / 2 / size.width, room.height / size.height);
  const above = Math.min(room.width / size.width, room.height / 2 / size.height);
  return above > beside;
}

const WORDS: Record<string, Facing> = { north: "up", south: "down", east: "right", west: "left" };
const FACINGS = new Set<string>(["up", "right", "down", "left"]);

/** Where an action goes, as far as its name says so. */
export function heading(action: string): Facing | null {
  return FACINGS.has(action) ? (action as Facing) : (WORDS[action] ?? null);
}

/** Where the agent looks: as the game says, else where it was going. MiniGrid's "left" is a turn. */
export function facing(grid: Grid): Facing | null {
  return grid.facing ?? (grid.game === "MiniGrid" ? null : heading(grid.action));
}

export const ANGLES: Record<Facing, number> = { right: 0, down: Math.PI / 2, left: Math.PI, up: -Math.PI / 2 };

/** What else than its cell a value may depend on: who is where in Taxi, where the agent looks in MiniGrid. The twin of artist.py's. */
export function contextOf(grid: Grid): string {
  const named = (kind: string): string => grid.marks.find((mark: Mark) => mark.kind === kind)?.label ?? "";
  return [named("passenger"), named("destination"), grid.facing ?? ""].join("|");
}

/** The agent's way as segments, strongest where it is newest; a step that went nowhere has none. */
export function trail(path: readonly Cell[]): { from: Cell; to: Cell; strength: number }[] {
  const found: { from: Cell; to: Cell; strength: number }[] = [];
  for (let i = 1; i < path.length; i++) {
    const [from, to] = [path[i - 1] as Cell, path[i] as Cell];
    if (from[0] === to[0] && from[1] === to[1]) continue;
    found.push({ from, to, strength: 0.25 + (0.75 * i) / (path.length - 1) });
  }
  return found;
}

/** How strongly a cell that was visited so often is tinted, of 1: by the logarithm, for the start is visited by every episode. */
export function heat(visits: number, most: number): number {
  return visits <= 0 || most <= 0 ? 0 : 0.06 + (0.46 * Math.log1p(visits)) / Math.log1p(most);
}

/** The actions of the greatest known value; none when nothing is known, or all that is known is the same and not all is known. */
export function best(values: readonly (number | null)[]): number[] {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  if (known.length === 0) return [];
  const most = Math.max(...known);
  const found = values.flatMap((value, i) => (value === most ? [i] : []));
  return found.length === known.length && known.length > 1 ? [] : found;
}

/** A value in at most five characters. */
export function brief(value: number): string {
  if (!Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size >= 1e5) return value.toExponential(0).replace("+", "");
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(2);
}
