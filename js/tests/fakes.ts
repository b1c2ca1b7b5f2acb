import { vi } from "vitest";
import type { Clock } from "../src/link.ts";

/** A clock that stands still until told. */
export class FakeClock implements Clock {
  #now = 1_000_000;
  #timers: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, callback: () => void): () => void {
    const timer = { at: this.#now + milliseconds, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((held) => held !== timer);
    };
  }

  get pending(): number {
    return this.#timers.length;
  }

  /** Let time pass, timer by timer, and what they set off settle. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((held) => held !== due);
      this.#now = due.at;
      due.callback();
      await settled();
    }
    this.#now = end;
    await settled();
  }
}

/** What promises that are already resolved set off. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

/** A pen that writes down what it draws, in the colour it draws it. */
export class Pen {
  done: string[] = [];
  fillStyle = "";
  strokeStyle = "";
  font = "";
  #path: string[] = [];
  measureText = (text: string) => ({ width: 6 * text.length });
  beginPath = () => {
    this.#path = [];
  };
  moveTo = (x: number, y: number) => this.#path.push(`M${Math.round(x)},${Math.round(y)}`);
  lineTo = (x: number, y: number) => this.#path.push(`L${Math.round(x)},${Math.round(y)}`);
  rect = (x: number, y: number, w: number, h: number) => this.#path.push(`R${[x, y, w, h].map(Math.round)}`);
  arc = (x: number, y: number) => this.#path.push(`A${Math.round(x)},${Math.round(y)}`);
  stroke = () => this.done.push(`stroke ${this.strokeStyle} ${this.#path.join("")}`);
  fill = () => this.done.push(`fill ${this.fillStyle} ${this.#path.join("")}`);
  fillRect = (x: number, y: number, w: number, h: number) =>
    this.done.push(`rect ${this.fillStyle} ${[x, y, w, h].map(Math.round)}`);
  fillText = (text: string) => this.done.push(`text ${text}`);
  clearRect = () => {
    this.done = [];
  };
  setLineDash() {}
  setTransform() {}
  save() {}
  restore() {}
  clip() {}
  closePath() {}

  /** What was drawn in a colour. */
  in(colour: string): string[] {
    return this.done.filter((one) => one.includes(`--ltw-${colour} `));
  }
}

/** Let canvases be drawn on; returns their pens. */
export function drawable(): Map<unknown, Pen> {
  const pens = new Map<unknown, Pen>();
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockImplementation(function (this: HTMLCanvasElement) {
    if (!pens.has(this)) pens.set(this, new Pen());
    return pens.get(this) as never;
  });
  return pens;
}
