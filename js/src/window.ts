// Which rows a scroll position shows. regular-table scrolls up to some 200,000 rows exactly, and longer tables by proportion: a turn of
// the wheel would skip rows, and new rows would move what is read. So it is told of a window of that many rows, and this moves the
// window: a small movement is exact, a large one (the thumb was dragged) goes to that part of the whole. No DOM.

export const ROW_HEIGHT = 24;
/** regular-table's panel grows up to 5,000,000 pixels. */
export const SPAN = Math.floor(4_900_000 / ROW_HEIGHT);
/** Movements up to so many screens are turns of a wheel and keys. */
const NEAR = 3;

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

  /** Take in that somebody scrolled; returns whether other rows are shown than regular-table thinks. */
  scrolled(top: number, height: number): boolean {
    const moved = Math.abs(top - this.#placed);
    this.#placed = top;
    const room = this.#total - this.span;
    if (room === 0 || moved <= NEAR * height) return false;
    const part = this.#bottom(height) > 0 ? Math.min(1, top / this.#bottom(height)) : 0;
    this.shift = Math.round(part * room);
    return true;
  }

  /** Where the scroll position belongs when nobody scrolls: in proportion, so that there is room on both sides. null: it is there. */
  settled(height: number): number | null {
    const room = this.#total - this.span;
    if (room === 0) return null;
    const row = this.#placed / ROW_HEIGHT + this.shift;
    const whole = this.#total * ROW_HEIGHT + ROW_HEIGHT - height;
    const part = Math.max(0, Math.min(1, (row * ROW_HEIGHT) / whole));
    const shift = Math.round(part * room);
    if (shift === this.shift) return null;
    this.shift = shift;
    this.#placed = (row - shift) * ROW_HEIGHT;
    return this.#placed;
  }

  /** Whether an end of the panel is near that is none of the table. */
  cramped(height: number): boolean {
    const room = this.#total - this.span;
    const above = this.shift > 0 && this.#placed < 2 * height;
    return above || (this.shift < room && this.#placed > this.#bottom(height) - 2 * height);
  }

  /** Show a row in the middle, or the end when it is beyond: returns the scroll position. */
  show(row: number, height: number): number {
    const top = Math.max(0, Math.min(row - (height / ROW_HEIGHT - 2) / 2, this.#total + 1 - height / ROW_HEIGHT));
    const part = this.#total > 0 ? top / this.#total : 0;
    this.shift = Math.round(part * (this.#total - this.span));
    this.#placed = Math.round((top - this.shift) * ROW_HEIGHT);
    return this.#placed;
  }

  /** Show the last row. */
  toEnd(bottom: number): void {
    this.shift = this.#total - this.span;
    this.#placed = bottom;
  }

  #bottom(height: number): number {
    return Math.max(0, (this.span + 1) * ROW_HEIGHT - height);
  }
}
