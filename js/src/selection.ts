// What a person has chosen to look at: one for each model, shared by its views and with Python. No DOM, no model.

/** Names one episode; `row` is its number in the episode table. */
export interface EpisodeRef {
  readonly row: number;
  readonly worker: string;
  readonly agent: string;
  readonly episode: number;
}

export interface Selected {
  /** The episode that is looked at; null: none. */
  readonly episode: EpisodeRef | null;
  /** A second one, to compare it with. */
  readonly other: EpisodeRef | null;
  /** The step (step_index) of the episode; null: none. */
  readonly step: number | null;
  /** A range of steps (step_index) of the episode, both ends in it. */
  readonly steps: readonly [number, number] | null;
  /** Only this agent; null: all. */
  readonly agent: string | null;
  /** Only rows for which this expression holds; "": all. */
  readonly filter: string;
  /** Follow the newest; then no episode is selected. */
  readonly live: boolean;
}

export const NOTHING_SELECTED: Selected = {
  episode: null,
  other: null,
  step: null,
  steps: null,
  agent: null,
  filter: "",
  live: true,
};

/** Hears of a change, with what was before. */
export type SelectionListener = (now: Selected, before: Selected) => void;

export class Selection {
  #now: Selected = NOTHING_SELECTED;
  readonly #listeners = new Set<SelectionListener>();

  get now(): Selected {
    return this.#now;
  }

  get episode(): EpisodeRef | null {
    return this.#now.episode;
  }

  get other(): EpisodeRef | null {
    return this.#now.other;
  }

  get step(): number | null {
    return this.#now.step;
  }

  get agent(): string | null {
    return this.#now.agent;
  }

  get filter(): string {
    return this.#now.filter;
  }

  get live(): boolean {
    return this.#now.live;
  }

  /**
   * Change some of it. Another episode takes the step with it, an episode ends "live", and "live" lets go of the episodes: what
   * `change` says itself stands. Listeners are called when anything is different afterwards.
   */
  set(change: Partial<Selected>): void {
    const before = this.#now;
    const now = { ...before, ...implied(before, change), ...change };
    if (now.live) Object.assign(now, { episode: null, other: null, step: null, steps: null });
    if (sameSelected(before, now)) return;
    this.#now = now;
    for (const listener of [...this.#listeners]) listener(now, before);
  }

  /** Have `listener` called after every change; return what ends that. */
  listen(listener: SelectionListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
  }
}

function implied(before: Selected, change: Partial<Selected>): Partial<Selected> {
  if (change.episode === undefined) return {};
  if (change.episode === null) return { live: true };
  const other = !sameEpisode(before.episode, change.episode);
  return other ? { live: false, step: null, steps: null } : { live: false };
}

export function sameEpisode(a: EpisodeRef | null, b: EpisodeRef | null): boolean {
  return (
    a === b ||
    (a !== null &&
      b !== null &&
      a.row === b.row &&
      a.worker === b.worker &&
      a.agent === b.agent &&
      a.episode === b.episode)
  );
}

export function sameSelected(a: Selected, b: Selected): boolean {
  return (
    sameEpisode(a.episode, b.episode) &&
    sameEpisode(a.other, b.other) &&
    a.step === b.step &&
    a.steps?.[0] === b.steps?.[0] &&
    a.steps?.[1] === b.steps?.[1] &&
    a.agent === b.agent &&
    a.filter === b.filter &&
    a.live === b.live
  );
}

/** What Python sent as a selection; a field that is none is as if nothing were selected. */
export function parseSelected(value: unknown): Selected {
  const held = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  const episode = parseEpisode(held.episode);
  return {
    episode,
    other: parseEpisode(held.other),
    step: whole(held.step),
    steps: parseSteps(held.steps),
    agent: typeof held.agent === "string" ? held.agent : null,
    filter: typeof held.filter === "string" ? held.filter : "",
    live: episode === null && held.live !== false,
  };
}

function parseEpisode(value: unknown): EpisodeRef | null {
  if (typeof value !== "object" || value === null) return null;
  const { row, worker, agent, episode } = value as Record<string, unknown>;
  if (whole(row) === null || whole(episode) === null) return null;
  return { row: row as number, worker: String(worker ?? ""), agent: String(agent ?? ""), episode: episode as number };
}

function parseSteps(value: unknown): readonly [number, number] | null {
  if (!Array.isArray(value)) return null;
  const [first, last] = value.map(whole);
  return first == null || last == null ? null : [first, last];
}

function whole(value: unknown): number | null {
  return Number.isSafeInteger(value) ? (value as number) : null;
}
