// Which rows a scroll position shows. regular-table scrolls up to some 200,000 rows exactly, and longer tables by proportion: a turn of
// the wheel would skip rows, and new rows would move what is read. So it is told of a window of that many rows, and this moves the
// window: a small movement is exact, and so is one of a wheel or a finger; a large one (the thumb was dragged) goes to that part of the
// whole. No DOM.

export const ROW_HEIGHT = 24;
/** regular-table's panel grows up to 5,000,000 pixels. */
export const SPAN = Math.floor(4_900_000 / ROW_HEIGHT);
/** Movements up to so many screens are exact, whatever made them. */
const NEAR = 3;
/** So many rows can be turned to on either side before the window is moved; at the ends of the table it stands still. */
const MARGIN = 2_000;

export class RowWindow {
  /** The row that regular-table takes for row 0. */
  shift = 0;
  #total = 0;
  #placed = 0;

  constructor(private readonly most = SPAN) {}

  get total(): number {
    return this.#total;
  }

  /** How many rows regular-table is told of. */
  get span(): number {
    return Math.min(this.#total, this.most);
  }

  /** Where the scroll position was put last, or was seen last. */
  get placed(): number {
    return this.#placed;
  }

  /** New rows move nothing. */
  resize(total: number): void {
    this.#total = total;
    this.shift = Math.max(0, Math.min(this.shift, total - this.span));
  }

  /**
   * Take in that somebody scrolled; returns whether other rows are shown than regular-table thinks. `turned`: by a wheel or a finger, so
   * that it is meant as far as it went: a page that was busy hears of many turns at once.
   */
  scrolled(top: number, height: number, turned = false): boolean {
    const moved = Math.abs(top - this.#placed);
    this.#placed = top;
    const room = this.#total - this.span;
    if (room === 0 || turned || moved <= NEAR * height) return false;
    const part = this.#bottom(height) > 0 ? Math.min(1, top / this.#bottom(height)) : 0;
    this.shift = Math.round(part * room);
    return true;
  }

  /** Where the scroll position belongs when nobody scrolls: with room on both sides, about in proportion. null: it is there. */
  settled(height: number): number | null {
    if (this.#total === this.span) return null;
    const before = this.shift;
    this.#place(this.#placed / ROW_HEIGHT + this.shift, height);
    return this.shift === before ? null : this.#placed;
  }

  /** Whether an end of the panel is near that is none of the table. */
  cramped(height: number): boolean {
    const room = this.#total - this.span;
    const above = this.shift > 0 && this.#placed < 2 * height;
    return above || (this.shift < room && this.#placed > this.#bottom(height) - 2 * height);
  }

  /** Show a row in the middle, or the end when it is beyond: returns the scroll position. */
  show(row: number, height: number): number {
    const last = this.#total + 1 - height / ROW_HEIGHT;
    this.#place(Math.max(0, Math.min(Math.round(row - (height / ROW_HEIGHT - 2) / 2), last)), height);
    return this.#placed;
  }

  /** Show the last row. */
  toEnd(bottom: number): void {
    this.shift = this.#total - this.span;
    this.#placed = bottom;
  }

  /** Have `row` (with a part of one) at the top. */
  #place(row: number, height: number): void {
    const part = row / Math.max(1, this.#total + 1 - height / ROW_HEIGHT);
    const least = Math.min(row, MARGIN);
    const most = this.span - Math.min(this.#total - row, MARGIN);
    const at = Math.max(least, Math.min(most, part * this.span));
    this.shift = Math.max(0, Math.min(this.#total - this.span, Math.round(row - at)));
    this.#placed = (row - this.shift) * ROW_HEIGHT;
  }

  #bottom(height: number): number {
    return Math.max(0, (this.span + 1) * ROW_HEIGHT - height);
  }
}
