// What lies over the tiles: visits as a tint, the agent's way, best actions and values. Each of them, but the tint, has a rim that sets it
// off from whatever is below.

import { ANGLES, heading } from "./layout.ts";
import { plain } from "./plain.ts";
import type { Theme } from "./theme.ts";

/** So small a cell has no room for a value. */
const LEAST_FOR_VALUE = 26;

export class LayerPainter {
  constructor(
    private readonly pen: CanvasRenderingContext2D,
    private readonly cell: number,
    private readonly theme: Theme,
  ) {}

  /** A cell that was visited often is tinted strongly. */
  tint(row: number, col: number, strength: number): void {
    const { pen, cell } = this;
    pen.fillStyle = this.theme.colour("--ltw-heat");
    pen.globalAlpha = strength;
    pen.beginPath();
    pen.roundRect(col * cell + 1, row * cell + 1, cell - 2, cell - 2, Math.min(4, cell * 0.12));
    pen.fill();
    pen.globalAlpha = 1;
  }

  trail(segments: readonly { from: readonly number[]; to: readonly number[]; strength: number }[]): void {
    const { pen, cell } = this;
    const width = Math.max(2, cell * 0.07);
    pen.lineCap = "round";
    // All of the rim first: it must not cut the way where it turns.
    for (const [colour, wide] of [
      ["--ltw-halo", width + Math.max(2, cell * 0.06)],
      ["--ltw-trail", width],
    ] as const) {
      pen.strokeStyle = this.theme.colour(colour);
      pen.lineWidth = wide;
      for (const { from, to, strength } of segments) {
        pen.globalAlpha = strength;
        pen.beginPath();
        pen.moveTo(((from[1] ?? 0) + 0.5) * cell, ((from[0] ?? 0) + 0.5) * cell);
        pen.lineTo(((to[1] ?? 0) + 0.5) * cell, ((to[0] ?? 0) + 0.5) * cell);
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
  }

  /** Which actions are best in a cell: an arrow where one goes somewhere, its first letter otherwise. */
  policy(row: number, col: number, actions: readonly string[]): void {
    const { cell } = this;
    const [x, y] = [(col + 0.5) * cell, (row + 0.5) * cell];
    const size = Math.max(3.5, cell * 0.14);
    for (const action of actions) {
      const way = heading(action);
      if (way) this.arrow(x, y, ANGLES[way], cell * 0.45 - size, size);
      else if (action) this.text(action.charAt(0).toUpperCase(), x, y - cell * 0.32, cell * 0.26, "--ltw-policy");
    }
  }

  /** A value, where no arrow of the cell's best actions is. */
  value(row: number, col: number, text: string, actions: readonly string[]): void {
    const { cell } = this;
    if (cell < LEAST_FOR_VALUE) return;
    const ways = new Set(actions.map(heading));
    const at = !ways.has("down") ? 0.83 : ways.has("up") ? 0.68 : 0.19;
    this.text(text, (col + 0.5) * cell, (row + at) * cell, Math.min(13, cell * 0.26), "--ltw-value");
  }

  private arrow(x: number, y: number, angle: number, far: number, size: number): void {
    const { pen } = this;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    pen.beginPath();
    pen.moveTo(x + cos * (far + size), y + sin * (far + size));
    pen.lineTo(x + cos * far - sin * size, y + sin * far + cos * size);
    pen.lineTo(x + cos * far + sin * size, y + sin * far - cos * size);
    pen.closePath();
    this.rim(Math.max(1.5, size * 0.4));
    pen.stroke();
    pen.fillStyle = this.theme.colour("--ltw-policy");
    pen.fill();
  }

  private text(text: string, x: number, y: number, size: number, colour: `--ltw-${string}`): void {
    const { pen } = this;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    this.rim(Math.max(2, size * 0.28));
    pen.strokeText(plain(text), x, y);
    pen.fillStyle = this.theme.colour(colour);
    pen.fillText(plain(text), x, y);
  }

  private rim(width: number): void {
    const { pen } = this;
    pen.strokeStyle = this.theme.colour("--ltw-halo");
    pen.lineWidth = width;
    pen.lineJoin = "round";
  }
}
