// Pictures of games, painted by code from the grid model: tiles, what lies on them, the agent. src/.../gridpaint.py is its twin.

import { ANGLES, facing } from "./layout.ts";
import type { Cards, Facing, Grid, Mark } from "./messages.ts";
import { plain } from "./plain.ts";
import type { Theme } from "./theme.ts";

type Colour = `--ltw-${string}`;

/** Which parts of a picture are shown. */
export interface Layers {
  direction: boolean;
  passenger: boolean;
  destination: boolean;
  cracked: boolean;
}

export const ALL_LAYERS: Layers = { direction: true, passenger: true, destination: true, cracked: true };

const DEPOTS: Record<string, Colour> = {
  R: "--ltw-thing-red",
  G: "--ltw-thing-green",
  Y: "--ltw-thing-yellow",
  B: "--ltw-thing-blue",
};
const THINGS = new Set(["red", "green", "blue", "purple", "yellow", "grey"]);

function isIce(game: string, letter: string): boolean {
  return (game === "FrozenLake" || game === "") && "SFHG".includes(letter);
}

/** Whether a tile's letter is shown: tiles of games that are known say by themselves what they are, but for the start. */
function isWritten(game: string, letter: string): boolean {
  if (game === "MiniGrid") return false;
  if (game === "Taxi") return letter in DEPOTS;
  if (game === "CliffWalking" || isIce(game, letter)) return letter === "S";
  return letter.trim() !== "";
}

export class Painter {
  constructor(
    readonly pen: CanvasRenderingContext2D,
    readonly cell: number,
    private readonly theme: Theme,
  ) {}

  /** Tiles and walls; what is between them and the things on them is painted by somebody else. */
  ground(grid: Grid): void {
    const { pen, cell } = this;
    grid.tiles.forEach((line, row) => {
      [...line].forEach((letter, col) => {
        if (grid.game === "MiniGrid") this.roomTile(letter, row, col);
        else if (grid.game === "CliffWalking") this.cliffTile(letter, row, col);
        else if (isIce(grid.game, letter)) this.iceTile(letter, row, col);
        else if (grid.game === "Taxi") this.cityTile(letter, row, col);
        else this.tile(row, col, "--ltw-tile");
      });
    });
    this.stroke("--ltw-wall", 0.08, 2);
    pen.lineCap = "round";
    for (const [row, col] of grid.walls) this.line((col + 1) * cell, row * cell, (col + 1) * cell, (row + 1) * cell);
  }

  /** What is written on the tiles, over whatever tints them. */
  letters(grid: Grid): void {
    grid.tiles.forEach((line, row) => {
      [...line].forEach((letter, col) => {
        if (isWritten(grid.game, letter)) this.letter(letter, row, col);
      });
    });
  }

  /** What lies on the tiles, and the agent. */
  things(grid: Grid, layers: Layers): void {
    for (const mark of grid.marks) {
      if (mark.kind in layers && !layers[mark.kind as keyof Layers]) continue;
      if (mark.kind === "passenger" && mark.label === "in the taxi") continue;
      this.mark(mark);
    }
    if (!grid.agent) return;
    const [row, col] = grid.agent;
    const looks = layers.direction ? facing(grid) : null;
    if (grid.game === "Taxi") {
      const aboard =
        layers.passenger && grid.marks.some(({ kind, label }) => kind === "passenger" && label === "in the taxi");
      this.taxi(row, col, looks, aboard);
    } else if (grid.game === "MiniGrid" && looks) this.arrowhead(row, col, looks);
    else this.agent(row, col, looks, layers.cracked && grid.marks.some((mark) => mark.kind === "cracked"));
  }

  // -- tiles

  private tile(row: number, col: number, colour: Colour, gap = 1): void {
    const { cell } = this;
    this.box(
      col * cell + gap,
      row * cell + gap,
      cell - 2 * gap,
      cell - 2 * gap,
      gap && Math.min(4, cell * 0.12),
      colour,
    );
    // Where colours are forced all tiles are of one: their edges tell them apart. Elsewhere nothing is seen of it.
    this.stroke("--ltw-tile-edge", 0, 1);
    this.pen.strokeRect(col * cell + 0.5, row * cell + 0.5, cell - 1, cell - 1);
  }

  private iceTile(letter: string, row: number, col: number): void {
    const { cell } = this;
    const [x, y] = [col * cell, row * cell];
    if (letter === "H") {
      this.tile(row, col, "--ltw-ice");
      this.disc(x + cell / 2, y + cell / 2, cell * 0.36, "--ltw-hole");
    } else if (letter === "G") {
      this.tile(row, col, "--ltw-goal");
      this.flag(x, y);
    } else {
      this.tile(row, col, letter === "S" ? "--ltw-start" : "--ltw-ice");
      if (letter === "F") this.streaks(x, y);
    }
  }

  private cliffTile(letter: string, row: number, col: number): void {
    if (letter === "C") {
      this.tile(row, col, "--ltw-cliff");
      this.cracks(col * this.cell, row * this.cell, "--ltw-cliff-line");
    } else if (letter === "T") {
      this.tile(row, col, "--ltw-goal");
      this.flag(col * this.cell, row * this.cell);
    } else {
      this.tile(row, col, letter === "x" || letter === "S" ? "--ltw-start" : "--ltw-tile");
    }
  }

  private cityTile(letter: string, row: number, col: number): void {
    const { cell } = this;
    this.tile(row, col, "--ltw-tile");
    const depot = DEPOTS[letter];
    if (!depot) return;
    this.box(col * cell + cell * 0.08, row * cell + cell * 0.08, cell * 0.84, cell * 0.84, cell * 0.1, depot, 0.22);
  }

  private roomTile(letter: string, row: number, col: number): void {
    const { cell } = this;
    const [x, y] = [col * cell, row * cell];
    // Walls and what was never seen are closed surfaces.
    if (letter === "#") this.tile(row, col, "--ltw-brick", 0);
    else if (letter === "?") {
      this.tile(row, col, "--ltw-unseen", 0);
    } else if (letter === "G") {
      this.tile(row, col, "--ltw-goal", 0.5);
      this.flag(x, y);
    } else if (letter === "~") {
      this.tile(row, col, "--ltw-lava", 0.5);
      this.stroke("--ltw-lava-line", 0.06, 1.5);
      for (const at of [0.3, 0.55, 0.8]) {
        const points = [0.12, at, 0.3, at - 0.1, 0.5, at, 0.7, at - 0.1, 0.88, at];
        this.path(x, y, points);
      }
    } else this.tile(row, col, "--ltw-tile", 0.5);
  }

  // -- things

  private mark({ kind, row, col, label, colour, state }: Mark): void {
    const { pen, cell } = this;
    const [x, y] = [col * cell, row * cell];
    const paint: Colour = `--ltw-thing-${colour && THINGS.has(colour) ? colour : "grey"}`;
    if (kind === "cracked") this.cracks(x, y, "--ltw-danger");
    else if (kind === "destination") {
      this.stroke("--ltw-goal-line", 0.08, 2);
      pen.setLineDash([cell * 0.14, cell * 0.1]);
      pen.strokeRect(x + cell * 0.1, y + cell * 0.1, cell * 0.8, cell * 0.8);
      pen.setLineDash([]);
    } else if (kind === "start") {
      this.stroke("--ltw-tile-text", 0.05, 1.5);
      pen.strokeRect(x + cell * 0.12, y + cell * 0.12, cell * 0.76, cell * 0.76);
    } else if (kind === "passenger") this.person(x + cell * 0.76, y + cell * 0.3, cell * 0.15);
    else if (kind === "door") this.door(x, y, paint, state);
    else if (kind === "key") {
      this.stroke(paint, 0.09, 2);
      this.circle(x + cell * 0.5, y + cell * 0.28, cell * 0.13);
      this.line(x + cell * 0.5, y + cell * 0.41, x + cell * 0.5, y + cell * 0.82);
      this.line(x + cell * 0.5, y + cell * 0.66, x + cell * 0.66, y + cell * 0.66);
      this.line(x + cell * 0.5, y + cell * 0.8, x + cell * 0.66, y + cell * 0.8);
    } else if (kind === "ball") this.disc(x + cell / 2, y + cell / 2, cell * 0.28, paint);
    else if (kind === "box") {
      this.stroke(paint, 0.09, 2);
      pen.strokeRect(x + cell * 0.2, y + cell * 0.24, cell * 0.6, cell * 0.54);
      this.line(x + cell * 0.2, y + cell * 0.46, x + cell * 0.8, y + cell * 0.46);
    } else this.letter(label || kind.charAt(0), row, col);
  }

  private door(x: number, y: number, colour: Colour, state = ""): void {
    const { pen, cell } = this;
    if (state === "open") {
      this.box(x + cell * 0.06, y + cell * 0.06, cell * 0.16, cell * 0.88, 0, colour);
      return;
    }
    this.box(x + cell * 0.06, y + cell * 0.06, cell * 0.88, cell * 0.88, 0, colour, 0.35);
    this.stroke(colour, 0.1, 2);
    pen.strokeRect(x + cell * 0.1, y + cell * 0.1, cell * 0.8, cell * 0.8);
    if (state === "locked") {
      this.disc(x + cell * 0.5, y + cell * 0.42, cell * 0.12, "--ltw-wall");
      this.box(x + cell * 0.46, y + cell * 0.44, cell * 0.08, cell * 0.26, 0, "--ltw-wall");
    } else this.disc(x + cell * 0.74, y + cell * 0.52, cell * 0.07, "--ltw-wall");
  }

  private person(x: number, y: number, r: number): void {
    this.disc(x, y - r * 0.5, r * 0.62, "--ltw-passenger");
    this.pen.beginPath();
    this.pen.arc(x, y + r * 1.2, r, Math.PI, 0);
    this.pen.fill();
  }

  private agent(row: number, col: number, looks: Facing | null, fallen: boolean): void {
    const { cell } = this;
    const [x, y, r] = [(col + 0.5) * cell, (row + 0.5) * cell, cell * 0.26];
    if (looks) this.chevron(x, y, ANGLES[looks], r * 1.32, "--ltw-way");
    this.disc(x, y, r, fallen ? "--ltw-danger" : "--ltw-agent");
    this.stroke("--ltw-agent-line", 0.045, 1.5);
    this.pen.stroke();
    const [dx, dy] = looks ? [Math.cos(ANGLES[looks]) * r * 0.28, Math.sin(ANGLES[looks]) * r * 0.28] : [0, -r * 0.15];
    for (const side of [-1, 1]) this.disc(x + dx + side * r * 0.36, y + dy, r * 0.15, "--ltw-agent-line");
  }

  private taxi(row: number, col: number, looks: Facing | null, aboard: boolean): void {
    const { cell } = this;
    const [x, y] = [col * cell, row * cell];
    if (looks) this.chevron(x + cell / 2, y + cell * 0.56, ANGLES[looks], cell * 0.42, "--ltw-way");
    for (const wheel of [0.3, 0.7]) this.disc(x + cell * wheel, y + cell * 0.72, cell * 0.09, "--ltw-wall");
    this.box(x + cell * 0.29, y + cell * 0.32, cell * 0.42, cell * 0.24, cell * 0.07, "--ltw-agent");
    this.box(x + cell * 0.16, y + cell * 0.46, cell * 0.68, cell * 0.25, cell * 0.07, "--ltw-agent");
    for (const pane of [0.34, 0.53])
      this.box(x + cell * pane, y + cell * 0.36, cell * 0.14, cell * 0.11, cell * 0.02, "--ltw-agent-line");
    if (aboard) this.person(x + cell * 0.5, y + cell * 0.25, cell * 0.13);
  }

  /** MiniGrid's agent: a triangle that points where it looks. */
  private arrowhead(row: number, col: number, looks: Facing): void {
    const { pen, cell } = this;
    pen.save();
    pen.translate((col + 0.5) * cell, (row + 0.5) * cell);
    pen.rotate(ANGLES[looks]);
    pen.beginPath();
    pen.moveTo(cell * 0.36, 0);
    pen.lineTo(-cell * 0.3, -cell * 0.3);
    pen.lineTo(-cell * 0.3, cell * 0.3);
    pen.closePath();
    pen.fillStyle = this.theme.colour("--ltw-agent");
    pen.fill();
    this.stroke("--ltw-agent-line", 0.05, 1.5);
    pen.lineJoin = "round";
    pen.stroke();
    pen.restore();
  }

  /** A small arrow head at a distance from a point. */
  chevron(x: number, y: number, angle: number, far: number, colour: Colour, size = this.cell * 0.13): void {
    const { pen } = this;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    pen.fillStyle = this.theme.colour(colour);
    pen.beginPath();
    pen.moveTo(x + cos * (far + size), y + sin * (far + size));
    pen.lineTo(x + cos * far - sin * size, y + sin * far + cos * size);
    pen.lineTo(x + cos * far + sin * size, y + sin * far - cos * size);
    pen.fill();
  }

  // -- cards

  /** A hand of Blackjack; `cell` is a unit. */
  cards({ player, dealer, usable_ace }: Cards, width: number, height: number): void {
    const { cell: u } = this;
    this.box(0, 0, width, height, u * 0.25, "--ltw-felt");
    this.label("dealer", u * 0.35, u * 1.2);
    this.card(u * 2.3, u * 0.25, dealer === 1 ? "A" : String(dealer));
    this.card(u * 3.75, u * 0.25, "");
    this.label("player", u * 0.35, u * 3.4);
    // The observation has no more than the sum, and whether an ace counts 11: the cards themselves are not known.
    if (usable_ace) {
      this.card(u * 2.3, u * 2.4, "A");
      this.card(u * 3.75, u * 2.4, String(player - 11));
    } else for (const x of [2.3, 3.75]) this.card(u * x, u * 2.4, " ");
    const over = player > 21;
    this.box(u * 5.35, u * 2.95, u * 1.4, u * 0.9, u * 0.45, over ? "--ltw-danger" : "--ltw-agent");
    this.text(String(player), u * 6.05, u * 3.44, u * 0.6, over ? "--ltw-on-danger" : "--ltw-agent-line");
  }

  private card(x: number, y: number, face: string): void {
    const { pen, cell: u } = this;
    const [w, h] = [u * 1.3, u * 1.9];
    this.box(x, y, w, h, u * 0.14, face ? "--ltw-card" : "--ltw-card-back");
    this.stroke("--ltw-card-line", 0.04, 1);
    pen.beginPath();
    pen.roundRect(x, y, w, h, u * 0.14);
    pen.stroke();
    if (face) this.text(face, x + w / 2, y + h * 0.53, u * 0.8, "--ltw-card-text");
    else {
      pen.beginPath();
      pen.roundRect(x + u * 0.16, y + u * 0.16, w - u * 0.32, h - u * 0.32, u * 0.08);
      pen.stroke();
    }
  }

  private label(text: string, x: number, y: number): void {
    this.pen.textAlign = "left";
    this.text(text, x, y, this.cell * 0.42, "--ltw-felt-text", "left");
  }

  // -- strokes

  private flag(x: number, y: number): void {
    const { pen, cell } = this;
    this.stroke("--ltw-goal-line", 0.05, 1.5);
    this.line(x + cell * 0.36, y + cell * 0.22, x + cell * 0.36, y + cell * 0.8);
    pen.fillStyle = this.theme.colour("--ltw-goal-line");
    pen.beginPath();
    pen.moveTo(x + cell * 0.36, y + cell * 0.22);
    pen.lineTo(x + cell * 0.72, y + cell * 0.36);
    pen.lineTo(x + cell * 0.36, y + cell * 0.5);
    pen.fill();
  }

  private streaks(x: number, y: number): void {
    const { cell } = this;
    if (cell < 20) return;
    this.stroke("--ltw-ice-line", 0.03, 1);
    this.line(x + cell * 0.22, y + cell * 0.42, x + cell * 0.42, y + cell * 0.22);
    this.line(x + cell * 0.62, y + cell * 0.8, x + cell * 0.8, y + cell * 0.62);
  }

  private cracks(x: number, y: number, colour: Colour): void {
    this.stroke(colour, 0.04, 1.5);
    this.path(x, y, [0.1, 0.3, 0.3, 0.42, 0.45, 0.3, 0.62, 0.55, 0.78, 0.48, 0.9, 0.7]);
    this.path(x, y, [0.45, 0.3, 0.4, 0.12]);
    this.path(x, y, [0.3, 0.42, 0.26, 0.7, 0.36, 0.9]);
    this.path(x, y, [0.62, 0.55, 0.6, 0.86]);
  }

  private path(x: number, y: number, points: number[]): void {
    const { pen, cell } = this;
    pen.beginPath();
    for (let i = 0; i < points.length; i += 2) pen.lineTo(x + (points[i] ?? 0) * cell, y + (points[i + 1] ?? 0) * cell);
    pen.stroke();
  }

  private letter(text: string, row: number, col: number): void {
    const { cell } = this;
    if (cell >= 12)
      this.text(text, (col + 0.5) * cell, (row + 0.53) * cell, Math.round(cell * 0.34), "--ltw-tile-text");
  }

  private text(
    text: string,
    x: number,
    y: number,
    size: number,
    colour: Colour,
    align: CanvasTextAlign = "center",
  ): void {
    const { pen } = this;
    pen.fillStyle = this.theme.colour(colour);
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.textAlign = align;
    pen.textBaseline = "middle";
    pen.fillText(plain(text), x, y);
  }

  private box(x: number, y: number, w: number, h: number, r: number, colour: Colour, alpha = 1): void {
    const { pen } = this;
    pen.fillStyle = this.theme.colour(colour);
    pen.globalAlpha = alpha;
    pen.beginPath();
    pen.roundRect(x, y, w, h, r);
    pen.fill();
    pen.globalAlpha = 1;
  }

  private disc(x: number, y: number, r: number, colour: Colour): void {
    this.pen.fillStyle = this.theme.colour(colour);
    this.pen.beginPath();
    this.pen.arc(x, y, r, 0, Math.PI * 2);
    this.pen.fill();
  }

  private circle(x: number, y: number, r: number): void {
    this.pen.beginPath();
    this.pen.arc(x, y, r, 0, Math.PI * 2);
    this.pen.stroke();
  }

  private stroke(colour: Colour, width: number, least: number): void {
    this.pen.strokeStyle = this.theme.colour(colour);
    this.pen.lineWidth = Math.max(least, this.cell * width);
  }

  private line(x0: number, y0: number, x1: number, y1: number): void {
    this.pen.beginPath();
    this.pen.moveTo(x0, y0);
    this.pen.lineTo(x1, y1);
    this.pen.stroke();
  }
}
