// The grid view: tiles, what lies on them and the agent, painted by code from the grid model.

import type { Grid, Mark } from "./messages.ts";
import type { RunState } from "./run-state.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

/** What the picture shows, in words. */
export function describe(grid: Grid): string {
  const parts = [grid.game || "grid"];
  if (grid.caption) parts.push(grid.caption);
  if (grid.agent) parts.push(`agent at row ${grid.agent[0]}, column ${grid.agent[1]}`);
  for (const { kind, row, col } of grid.marks) {
    if (kind === "passenger" || kind === "destination") parts.push(`${kind} at row ${row}, column ${col}`);
    if (kind === "cracked") parts.push("fallen into a hole");
  }
  if (grid.action) parts.push(`action ${grid.action}`);
  return parts.join(", ");
}

export function makeGrid(run: RunState, theme: Theme): View & { repaint(): void } {
  const element = document.createElement("figure");
  element.className = "ltw-grid";
  const stage = document.createElement("div");
  stage.className = "ltw-stage";
  const canvas = document.createElement("canvas");
  canvas.dataset.testid = "ltw-grid";
  canvas.setAttribute("role", "img");
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  stage.append(canvas, nothing);
  const caption = document.createElement("figcaption");
  const where = document.createElement("span");
  const action = document.createElement("span");
  action.className = "ltw-action";
  caption.append(where, action);
  element.append(stage, caption);

  let painted = "";

  const repaint = (): void => {
    painted = "";
    update();
  };
  const resized = new ResizeObserver(repaint);
  resized.observe(stage);

  const update = (): void => {
    const grid = run.state?.grid ?? null;
    const [rows, cols] = [grid?.tiles.length ?? 0, Math.max(0, ...(grid?.tiles ?? []).map((row) => row.length))];
    const empty = !grid || rows === 0 || cols === 0;
    canvas.hidden = empty;
    nothing.hidden = !empty;
    caption.hidden = empty;
    if (empty) {
      nothing.textContent = (run.state?.steps ?? 0) > 0 ? "Nothing to draw in these steps." : "No picture yet.";
      canvas.setAttribute("aria-label", "no grid yet");
      painted = "";
      return;
    }
    const key = JSON.stringify(grid);
    if (key === painted) return;
    painted = key;
    canvas.setAttribute("aria-label", describe(grid));
    where.textContent = grid.caption || grid.game;
    where.title = [grid.game, grid.caption].filter(Boolean).join(", ");
    action.textContent = grid.action ? `action: ${grid.action}` : "";
    const room = Math.min(stage.clientWidth / cols, stage.clientHeight / rows);
    // Between two style sheets (a change of theme) the stage has no size: what is there stays until it has one again.
    if (room === 0 && canvas.height > 0 && canvas.style.height) {
      painted = "";
      return;
    }
    const cell = Math.max(8, Math.min(72, Math.floor(room)));
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(cols * cell * ratio);
    canvas.height = Math.round(rows * cell * ratio);
    canvas.style.width = `${cols * cell}px`;
    canvas.style.height = `${rows * cell}px`;
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    new Painter(pen, cell, theme).paint(grid, rows, cols);
  };

  return { element, update, repaint, close: () => resized.disconnect() };
}

class Painter {
  constructor(
    private readonly pen: CanvasRenderingContext2D,
    private readonly cell: number,
    private readonly theme: Theme,
  ) {}

  paint(grid: Grid, rows: number, cols: number): void {
    const { pen, cell } = this;
    pen.clearRect(0, 0, cols * cell, rows * cell);
    const ice = grid.game.startsWith("FrozenLake") || grid.game === "";
    const cliff = grid.game.startsWith("CliffWalking");
    grid.tiles.forEach((line, row) => {
      [...line].forEach((letter, col) => {
        if (cliff) this.cliffTile(letter, row, col);
        else if (ice && "SFHG".includes(letter)) this.iceTile(letter, row, col);
        else this.plainTile(letter, row, col);
      });
    });
    for (const mark of grid.marks) this.mark(mark);
    pen.strokeStyle = this.theme.colour("--ltw-wall");
    pen.lineWidth = Math.max(2, cell * 0.08);
    pen.lineCap = "round";
    for (const [row, col] of grid.walls) this.line((col + 1) * cell, row * cell, (col + 1) * cell, (row + 1) * cell);
    if (grid.agent)
      this.agent(
        grid.agent[0],
        grid.agent[1],
        grid.marks.some((mark) => mark.kind === "cracked"),
      );
  }

  private tile(row: number, col: number, colour: string): void {
    const { pen, cell } = this;
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(col * cell + 1, row * cell + 1, cell - 2, cell - 2, Math.min(4, cell * 0.12));
    pen.fill();
  }

  private iceTile(letter: string, row: number, col: number): void {
    const { cell, theme } = this;
    const [x, y] = [col * cell, row * cell];
    if (letter === "H") {
      this.tile(row, col, theme.colour("--ltw-ice"));
      this.disc(x + cell / 2, y + cell / 2, cell * 0.36, theme.colour("--ltw-hole"));
    } else if (letter === "G") {
      this.tile(row, col, theme.colour("--ltw-goal"));
      this.flag(x, y);
    } else {
      this.tile(row, col, theme.colour(letter === "S" ? "--ltw-start" : "--ltw-ice"));
      if (letter === "F") this.streaks(x, y);
      else this.letter("S", row, col, "--ltw-tile-text");
    }
  }

  private cliffTile(letter: string, row: number, col: number): void {
    if (letter === "C") {
      this.tile(row, col, this.theme.colour("--ltw-cliff"));
      this.cracks(col * this.cell, row * this.cell, "--ltw-cliff-line");
    } else if (letter === "T") {
      this.tile(row, col, this.theme.colour("--ltw-goal"));
      this.flag(col * this.cell, row * this.cell);
    } else {
      this.tile(row, col, this.theme.colour("--ltw-tile"));
      if (letter === "S") this.letter(letter, row, col, "--ltw-tile-text");
    }
  }

  private plainTile(letter: string, row: number, col: number): void {
    this.tile(row, col, this.theme.colour("--ltw-tile"));
    if (letter.trim()) this.letter(letter, row, col, "--ltw-tile-text");
  }

  private mark({ kind, row, col, label }: Mark): void {
    const { pen, cell, theme } = this;
    const [x, y] = [col * cell, row * cell];
    if (kind === "cracked") {
      this.cracks(x, y, "--ltw-danger");
    } else if (kind === "destination" || kind === "start") {
      pen.strokeStyle = theme.colour(kind === "start" ? "--ltw-tile-text" : "--ltw-goal-line");
      pen.lineWidth = Math.max(2, cell * 0.07);
      pen.strokeRect(x + cell * 0.12, y + cell * 0.12, cell * 0.76, cell * 0.76);
    } else if (kind === "passenger") {
      this.disc(x + cell * 0.72, y + cell * 0.3, cell * 0.15, theme.colour("--ltw-passenger"));
    } else {
      this.letter(label || kind.charAt(0), row, col, "--ltw-tile-text");
    }
  }

  private agent(row: number, col: number, fallen: boolean): void {
    const { pen, cell, theme } = this;
    const [x, y, r] = [(col + 0.5) * cell, (row + 0.5) * cell, cell * 0.26];
    this.disc(x, y, r, theme.colour(fallen ? "--ltw-danger" : "--ltw-agent"));
    pen.strokeStyle = theme.colour("--ltw-agent-line");
    pen.lineWidth = Math.max(1.5, cell * 0.045);
    pen.stroke();
    for (const side of [-1, 1])
      this.disc(x + side * r * 0.36, y - r * 0.15, r * 0.15, theme.colour("--ltw-agent-line"));
  }

  private flag(x: number, y: number): void {
    const { pen, cell, theme } = this;
    pen.strokeStyle = theme.colour("--ltw-goal-line");
    pen.lineWidth = Math.max(1.5, cell * 0.05);
    this.line(x + cell * 0.36, y + cell * 0.22, x + cell * 0.36, y + cell * 0.8);
    pen.fillStyle = theme.colour("--ltw-goal-line");
    pen.beginPath();
    pen.moveTo(x + cell * 0.36, y + cell * 0.22);
    pen.lineTo(x + cell * 0.72, y + cell * 0.36);
    pen.lineTo(x + cell * 0.36, y + cell * 0.5);
    pen.fill();
  }

  private streaks(x: number, y: number): void {
    const { pen, cell, theme } = this;
    if (cell < 20) return;
    pen.strokeStyle = theme.colour("--ltw-ice-line");
    pen.lineWidth = Math.max(1, cell * 0.03);
    this.line(x + cell * 0.22, y + cell * 0.42, x + cell * 0.42, y + cell * 0.22);
    this.line(x + cell * 0.62, y + cell * 0.8, x + cell * 0.8, y + cell * 0.62);
  }

  private cracks(x: number, y: number, colour: `--ltw-${string}`): void {
    const { pen, cell, theme } = this;
    pen.strokeStyle = theme.colour(colour);
    pen.lineWidth = Math.max(1.5, cell * 0.04);
    const points = [0.1, 0.3, 0.3, 0.42, 0.45, 0.3, 0.62, 0.55, 0.78, 0.48, 0.9, 0.7];
    pen.beginPath();
    for (let i = 0; i < points.length; i += 2) pen.lineTo(x + (points[i] ?? 0) * cell, y + (points[i + 1] ?? 0) * cell);
    pen.stroke();
  }

  private letter(text: string, row: number, col: number, colour: `--ltw-${string}`): void {
    const { pen, cell, theme } = this;
    if (cell < 12) return;
    pen.fillStyle = theme.colour(colour);
    pen.font = `600 ${Math.round(cell * 0.34)}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, (col + 0.5) * cell, (row + 0.53) * cell);
  }

  private disc(x: number, y: number, r: number, colour: string): void {
    this.pen.fillStyle = colour;
    this.pen.beginPath();
    this.pen.arc(x, y, r, 0, Math.PI * 2);
    this.pen.fill();
  }

  private line(x0: number, y0: number, x1: number, y1: number): void {
    this.pen.beginPath();
    this.pen.moveTo(x0, y0);
    this.pen.lineTo(x1, y1);
    this.pen.stroke();
  }
}
