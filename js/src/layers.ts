// What the kernel counted by cell: visits and values. Asked for only while a layer shows it. No DOM.

import type { Asker } from "./episode-store.ts";
import { best } from "./layout.ts";
import type { Clock } from "./link.ts";
import type { Cell } from "./messages.ts";
import { NO_OVERLAY, type Overlay } from "./picture.ts";

/** What is wanted: of which agent, over which rows of episodes, for which game and context. */
export interface Wish {
  agent: string | null;
  range: readonly [number, number] | null;
  game: string;
  context: string;
}

/** While a run goes on, sums are asked for again after so long; sums that are not whole yet sooner. */
const REFRESH_MS = 1_000;
const ON_MS = 80;

export class LayerSums {
  overlay: Pick<Overlay, "visits" | "policy"> = NO_OVERLAY;
  /** How much is counted, of 1. */
  progress = 1;
  /** Why there is nothing; "" when there is. */
  note = "";
  #key = "";
  #steps = -1;
  #asking = false;
  #notBefore = 0;
  #stopTimer: (() => void) | null = null;
  #closed = false;

  constructor(
    private readonly ask: Asker,
    private readonly clock: Clock,
    private readonly changed: () => void,
  ) {}

  close(): void {
    this.#closed = true;
    this.#stopTimer?.();
  }

  /** Have the sums of a wish, as of so many steps of the run. */
  want(wish: Wish, steps: number): void {
    const key = JSON.stringify(wish);
    if (key !== this.#key) {
      this.#key = key;
      this.#steps = -1;
      this.#notBefore = 0;
    }
    if (this.#asking || this.#closed || this.#steps === steps) return;
    const wait = this.#notBefore - this.clock.now();
    if (wait > 0) {
      this.#stopTimer ??= this.clock.after(wait, () => {
        this.#stopTimer = null;
        if (!this.#closed) this.changed();
      });
      return;
    }
    this.#asking = true;
    const { range, agent, ...rest } = wish;
    this.ask("ask_layers", {
      ...rest,
      ...(agent === null ? {} : { agent }),
      ...(range ? { first: range[0], last: range[1] } : {}),
    })
      .then(({ fields }) => {
        if (key === this.#key) this.#take(fields, steps);
      })
      .catch((error) => {
        this.note = error instanceof Error ? error.message : String(error);
        this.#notBefore = this.clock.now() + 2 * REFRESH_MS;
      })
      .finally(() => {
        this.#asking = false;
        if (!this.#closed) this.changed();
      });
  }

  #take(fields: Readonly<Record<string, unknown>>, steps: number): void {
    const [rows, total] = [Number(fields.rows), Number(fields.total)];
    const actions = list(fields.actions).map(String);
    const whole = rows >= total || fields.full === true;
    this.progress = total > 0 && !whole ? rows / total : 1;
    this.note = fields.full === true ? "There are too many different cells to count." : "";
    this.overlay = {
      visits: list(fields.visits).map((one) => {
        const [row, col, count] = list(one).map(Number) as [number, number, number];
        return { at: [row, col] as Cell, count };
      }),
      policy: list(fields.values).map((one) => {
        const [row, col, values] = list(one);
        const known = list(values).map((value) => (typeof value === "number" ? value : null));
        const numbers = known.filter((value) => value !== null);
        return {
          at: [Number(row), Number(col)] as Cell,
          actions: best(known).map((i) => actions[i] ?? ""),
          value: numbers.length > 0 ? Math.max(...numbers) : null,
        };
      }),
    };
    this.#steps = whole ? steps : -1;
    this.#notBefore = this.clock.now() + (whole ? REFRESH_MS : ON_MS);
  }
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
