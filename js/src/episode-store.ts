// Parts of episodes as the kernel answered them: steps with their pictures. Bounded, whatever is replayed. No DOM.

import { type Frame, frameFrom } from "./frames.ts";
import { type Answer, type Clock, RefusedError } from "./link.ts";
import { type Cell, grid as checkGrid, type Grid } from "./messages.ts";
import type { EpisodeRef } from "./selection.ts";

/** Steps in one question. */
export const PART = 256;
/** At most so many parts are kept, and no more pictures than take so many characters. */
const MOST_PARTS = 64;
const MOST_CHARACTERS = 24_000_000;
const IN_FLIGHT = 2;
const AGAIN_MS = 2_000;
const GROWN_MS = 500;
/** So many of the agent's last places are drawn. */
const PATH = 64;

export type Asker = (kind: string, fields: Record<string, unknown>) => Promise<Answer>;

/** One step of an episode that is here. */
export interface Step {
  /** Its step_index. */
  index: number;
  /** Its number in the step table. */
  row: number;
  grid: Grid | null;
  reward: number | null;
}

/** Where two episodes first differ. */
export interface Difference {
  /** The step_index; null: nowhere. */
  step: number | null;
  what: string;
}

interface Part {
  first: number;
  count: number;
  frame: Frame;
  grids: Grid[];
  drawn: number[];
  actions: string[];
  weight: number;
  used: number;
}

interface Held {
  ref: EpisodeRef;
  total: number;
  parts: Part[];
}

export class EpisodeStore {
  /** Why the last question was not answered; "" when it was. */
  fault = "";
  readonly #held = new Map<number, Held>();
  /** Why the kernel has no steps of an episode, by row. */
  readonly #refused = new Map<number, { why: string; until: number }>();
  readonly #asked = new Set<string>();
  readonly #differences = new Map<string, Difference | null>();
  readonly #listeners = new Set<() => void>();
  #wanted = new Map<string, Record<string, unknown>>();
  #notBefore = 0;
  #grownAt = 0;
  #stopTimer: (() => void) | null = null;
  #stopAgain: (() => void) | null = null;
  #tick = 0;
  #closed = false;

  constructor(
    private readonly ask: Asker,
    private readonly clock: Clock,
    private readonly mostParts = MOST_PARTS,
  ) {}

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#closed = true;
    this.#stopTimer?.();
    this.#stopAgain?.();
    this.#listeners.clear();
    this.#held.clear();
  }

  /** How many parts are held. */
  get parts(): number {
    let sum = 0;
    for (const { parts } of this.#held.values()) sum += parts.length;
    return sum;
  }

  get waiting(): boolean {
    return this.#asked.size > 0;
  }

  ref(row: number): EpisodeRef | null {
    return this.#held.get(row)?.ref ?? null;
  }

  /** How many steps of an episode the kernel has, as far as it said. */
  total(row: number): number {
    return this.#held.get(row)?.total ?? 0;
  }

  /** Why there is nothing to show of an episode, for a person; "" when there is something, or nothing is known yet. */
  absent({ row, worker, agent, episode }: EpisodeRef): string {
    const held = this.#held.get(row);
    if (!held) return this.#refused.get(row)?.why ?? "";
    const is = held.ref;
    if (is.episode !== episode || (agent !== "" && is.agent !== agent) || (worker !== "" && is.worker !== worker)) {
      const whose = (of: string) => (of === "" ? "" : ` of ${of}`);
      return `There is no episode ${episode}${whose(agent)} in row ${row}: that is episode ${is.episode}${whose(is.agent)}.`;
    }
    return held.total === 0 ? `Episode ${episode} has no steps here.` : "";
  }

  /** The step at a place of an episode, from 0; null when it is not here. */
  step(row: number, place: number): Step | null {
    const held = this.#held.get(row);
    const part = held && partAt(held, place);
    if (!held || !part) return null;
    part.used = ++this.#tick;
    const at = place - part.first;
    const index = Number(part.frame.columns.get("step_index")?.at(at) ?? place);
    const drawn = part.grids[part.drawn[at] ?? -1];
    const reward = part.frame.columns.get("reward")?.at(at);
    return {
      index,
      row: Number(part.frame.columns.get("row")?.at(at) ?? -1),
      reward: typeof reward === "number" ? reward : null,
      grid: drawn
        ? { ...drawn, action: part.actions[at] ?? "", caption: `episode ${held.ref.episode}, step ${index}` }
        : null,
    };
  }

  /** Where the agent was in the steps up to a place, as far as they are here; the newest last. */
  path(row: number, place: number): Cell[] {
    const path: Cell[] = [];
    for (let at = place; at >= 0 && path.length < PATH; at--) {
      const agent = this.step(row, at)?.grid;
      if (!agent?.agent || agent.partial) break;
      path.push(agent.agent);
    }
    return path.reverse();
  }

  /** The place of a step by its step_index: of the nearest where it is not held; null when its part is not here. */
  placeOf(row: number, index: number): number | null {
    for (const part of this.#held.get(row)?.parts ?? []) {
      const column = part.frame.columns.get("step_index");
      if (!column || part.count === 0) continue;
      if (index < Number(column.at(0)) || index > Number(column.at(part.count - 1))) continue;
      let [low, high] = [0, part.count - 1];
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (Number(column.at(middle)) < index) low = middle + 1;
        else high = middle;
      }
      return part.first + low;
    }
    return null;
  }

  /** Have the step at a place here soon. */
  need(row: number, place: number): void {
    const held = this.#held.get(row);
    if (held && (partAt(held, place) || place >= held.total)) return;
    // From where an earlier part ended: parts with large pictures are shorter.
    let first = place - (place % PART);
    for (const part of held?.parts ?? []) {
      const end = part.first + part.count;
      if (part.first <= first && end > first && end <= place) first = end;
    }
    this.#want(`${row}:${first}`, { row, first, count: PART });
  }

  /** Have the part around the step of a step_index here soon. */
  needIndex(row: number, index: number): void {
    if (this.placeOf(row, index) === null) this.#want(`${row}:step ${index}`, { row, step: index, count: PART });
  }

  /** An episode has more steps by now: its end is asked for again, now and then. */
  grown(row: number, total: number): void {
    const held = this.#held.get(row);
    if (!held || total <= held.total || this.clock.now() < this.#grownAt + GROWN_MS) return;
    this.#grownAt = this.clock.now();
    const last = held.parts.find((part) => part.first + part.count >= held.total);
    const first = last && last.count < PART ? last.first : held.total - (held.total % PART);
    this.#want(`${row}:${first}`, { row, first, count: PART });
  }

  /** Find an episode by its number; null when there is none. */
  async find(ref: Omit<EpisodeRef, "row">): Promise<EpisodeRef | null> {
    try {
      const { fields, buffers } = await this.ask("ask_episode", { ...ref, count: PART });
      this.fault = "";
      return this.#take(fields, buffers)?.ref ?? null;
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  /** Which episode is in a row, by asking when it is not known. */
  async at(row: number): Promise<EpisodeRef | null> {
    const known = this.ref(row);
    if (known) return known;
    try {
      return refIn((await this.ask("ask_episode", { row, first: 0, count: 1 })).fields);
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  /** Where two episodes first differ; undefined while that is not known. `version` grows while one of them runs. */
  difference(row: number, other: number, version: number): Difference | undefined {
    const key = `${row}:${other}`;
    const found = this.#differences.get(`${key}:${version}`) ?? this.#differences.get(key);
    const asked = `difference ${key}:${version}`;
    if (!this.#differences.has(`${key}:${version}`) && !this.#asked.has(asked) && this.clock.now() >= this.#notBefore) {
      this.#asked.add(asked);
      this.ask("ask_difference", { row, other })
        .then(({ fields }) => {
          const step = typeof fields.step === "number" ? fields.step : null;
          if (this.#differences.size > 32) this.#differences.clear();
          const difference = { step, what: String(fields.what ?? "") };
          this.#differences.set(`${key}:${version}`, difference);
          this.#differences.set(key, difference);
        })
        .catch((error) => this.#failed(error))
        .finally(() => {
          this.#asked.delete(asked);
          this.#notify();
        });
    }
    return found ?? undefined;
  }

  // -- asking

  #want(key: string, fields: Record<string, unknown>): void {
    if (this.#asked.has(key) || (this.#refused.get(Number(fields.row))?.until ?? 0) > this.clock.now()) return;
    // The newest wishes count: whoever scrubs has left the older ones behind.
    this.#wanted.delete(key);
    this.#wanted.set(key, fields);
    for (const oldest of this.#wanted.keys()) {
      if (this.#wanted.size <= IN_FLIGHT) break;
      this.#wanted.delete(oldest);
    }
    this.#plan();
  }

  #plan(): void {
    if (this.#closed || this.#stopTimer) return;
    const wait = this.#notBefore - this.clock.now();
    if (wait > 0) {
      this.#stopTimer = this.clock.after(wait, () => {
        this.#stopTimer = null;
        this.#plan();
      });
      return;
    }
    for (const [key, fields] of this.#wanted) {
      if (this.#asked.size >= IN_FLIGHT) return;
      this.#wanted.delete(key);
      this.#asked.add(key);
      this.ask("ask_episode", fields)
        .then((answer) => {
          this.fault = "";
          if (!this.#closed) this.#take(answer.fields, answer.buffers);
        })
        .catch((error) => {
          if (error instanceof RefusedError) this.#refuse(Number(fields.row), error.message);
          else this.#failed(error);
        })
        .finally(() => {
          this.#asked.delete(key);
          this.#notify();
          this.#plan();
        });
    }
  }

  #refuse(row: number, why: string): void {
    this.fault = why;
    if (this.#refused.size > 100) this.#refused.clear();
    // Other episodes need not wait; this one may come to be.
    const said = `${why.charAt(0).toUpperCase()}${why.slice(1)}.`;
    this.#refused.set(row, { why: said, until: this.clock.now() + AGAIN_MS });
    this.#stopAgain?.();
    if (!this.#closed) this.#stopAgain = this.clock.after(AGAIN_MS, () => this.#notify());
  }

  #failed(error: unknown): void {
    this.fault = error instanceof Error ? error.message : String(error);
    this.#notBefore = this.clock.now() + AGAIN_MS;
  }

  /** Put an answer's part where it belongs; throws when it is no answer to `ask_episode`. */
  #take(fields: Readonly<Record<string, unknown>>, buffers: readonly DataView[]): Held | null {
    const [row, total, first] = [fields.row, fields.total, fields.first].map(Number) as [number, number, number];
    const [grids, drawn, actions] = [fields.grids, fields.drawn, fields.actions];
    if (![row, total, first].every(Number.isSafeInteger) || !buffers[0]) throw new Error("not a part of an episode");
    if (!Array.isArray(grids) || !Array.isArray(drawn) || !Array.isArray(actions)) throw new Error("no pictures");
    grids.forEach((one, i) => {
      checkGrid(one, `grids[${i}]`);
    });
    const ref = refIn(fields);
    const held = this.#held.get(row) ?? { ref, total, parts: [] };
    held.ref = ref;
    this.#refused.delete(row);
    held.total = total;
    this.#held.delete(row);
    this.#held.set(row, held);
    const frame = frameFrom(buffers[0]);
    const count = Math.min(frame.rows, drawn.length);
    if (count > 0) {
      const weight = grids.reduce((sum, one: Grid) => sum + (one.image?.data.length ?? 0) + 400, frame.bytes);
      held.parts = held.parts.filter((part) => part.first + part.count <= first || part.first >= first + count);
      held.parts.push({ first, count, frame, grids, drawn, actions, weight, used: ++this.#tick });
      this.#evict();
    }
    return held;
  }

  #evict(): void {
    for (;;) {
      let [parts, weight] = [0, 0];
      let oldest: [Held, Part] | null = null;
      for (const held of this.#held.values()) {
        for (const part of held.parts) {
          parts++;
          weight += part.weight;
          if (!oldest || part.used < oldest[1].used) oldest = [held, part];
        }
      }
      if (!oldest || parts <= 1 || (parts <= this.mostParts && weight <= MOST_CHARACTERS)) break;
      const [held, gone] = oldest;
      held.parts = held.parts.filter((part) => part !== gone);
    }
    for (const [row, held] of this.#held) {
      if (this.#held.size <= this.mostParts) break;
      if (held.parts.length === 0) this.#held.delete(row);
    }
  }

  #notify(): void {
    if (!this.#closed) for (const listener of [...this.#listeners]) listener();
  }
}

function refIn({ row, worker, agent, episode }: Readonly<Record<string, unknown>>): EpisodeRef {
  return { row: Number(row), worker: String(worker), agent: String(agent), episode: Number(episode) };
}

function partAt(held: Held, place: number): Part | undefined {
  return held.parts.find((part) => place >= part.first && place < part.first + part.count);
}
