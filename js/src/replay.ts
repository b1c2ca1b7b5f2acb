// What is replayed, where it stands and how it goes on. The selection is its public state; no DOM.

import type { EpisodeStore } from "./episode-store.ts";
import { browserFrames, type Frames } from "./schedule.ts";
import { type EpisodeRef, type Selection, sameEpisode } from "./selection.ts";

export const SPEEDS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64] as const;
/** At speed 1. */
export const STEPS_PER_SECOND = 4;
/** A longer time between two frames is a page that slept: it is not made up for. */
const SLEPT_MS = 250;
/** Who wants less motion sees so many pictures a second at most. */
const CALM_MS = 500;
/** Steps to have here ahead of where it plays, at speed 1. */
const AHEAD = 64;
/** Rows that are looked at for the next episode of the same agent. */
const FAR = 5_000;
/** A step_index beyond the end of any episode. */
const BEYOND = 2 ** 52;

export interface ReplayOptions {
  /** Which episode is in a row, when the page knows. */
  refOf(row: number): EpisodeRef | null;
  /** How many episodes there are. */
  count(): number;
  /** Whether an episode may still get steps. */
  running(row: number): boolean;
  frames?: Frames;
  now?: () => number;
  /** Whether less motion is wanted. */
  calm?: () => boolean;
}

export class Replay {
  /** Where it stands, from 0: a place of the episode, or, beside a longer one, beyond its end. */
  place = 0;
  playing = false;
  speed = 1;
  /** The step_index to go to when its part is here; null: nowhere. */
  #sought: number | null = null;
  /** From where and when it has been playing. */
  #anchor = { place: 0, at: 0 };
  #last = 0;
  #shownAt = 0;
  #frame: number | null = null;
  #moving = false;
  #fromEnd = false;
  readonly #frames: Frames;
  readonly #now: () => number;
  readonly #calm: () => boolean;
  readonly #listeners = new Set<() => void>();
  readonly #stops: (() => void)[];

  constructor(
    readonly selection: Selection,
    readonly store: EpisodeStore,
    private readonly options: ReplayOptions,
  ) {
    this.#frames = options.frames ?? browserFrames;
    this.#now = options.now ?? (() => performance.now());
    this.#calm = options.calm ?? (() => false);
    this.#stops = [selection.listen((now, before) => this.#selected(now, before)), store.listen(() => this.#arrived())];
    if (selection.episode) this.#begin();
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.pause();
    for (const stop of this.#stops) stop();
    this.#listeners.clear();
  }

  /** The episode that is replayed; null: what is live is shown. */
  get episode(): EpisodeRef | null {
    return this.selection.episode;
  }

  get total(): number {
    return this.episode ? this.store.total(this.episode.row) : 0;
  }

  /** The last place there is to stand at: of the longer one, where two are compared. */
  get last(): number {
    const { other } = this.selection;
    const longest = other && this.total > 0 ? Math.max(this.total, this.store.total(other.row)) : this.total;
    return Math.max(0, longest - 1);
  }

  /** The place that is shown of the episode: its last when the other one goes on. */
  get shown(): number {
    return this.total > 0 ? Math.min(this.place, this.total - 1) : this.place;
  }

  /** By how many steps the other one has gone on after the end of the episode. */
  get beyond(): number {
    return this.place - this.shown;
  }

  /** The other episode's place for the same step; its last where it is shorter. */
  get otherPlace(): number | null {
    const { other } = this.selection;
    if (!other) return null;
    const last = Math.max(0, this.store.total(other.row) - 1);
    return Math.min(this.#beside, last);
  }

  /** Whether the other episode has ended before this step. */
  get otherEnded(): boolean {
    const { other } = this.selection;
    const total = other ? this.store.total(other.row) : 0;
    return total > 0 && this.#beside >= total;
  }

  /** The other's place for the same step, as if it had no end. */
  get #beside(): number {
    const { other, step } = this.selection;
    const same = other && step !== null ? this.store.placeOf(other.row, step) : null;
    return (same ?? this.shown) + this.beyond;
  }

  // -- what a person does

  toggle(): void {
    if (this.playing) this.pause();
    else if (this.episode) this.play();
    else this.freeze();
  }

  /** Stop following: stand at the newest step of the newest episode. */
  freeze(): void {
    const newest = this.options.refOf(this.options.count() - 1);
    if (!newest) return;
    this.#fromEnd = true;
    this.selection.set({ episode: newest });
    this.#fromEnd = false;
  }

  play(): void {
    if (!this.episode || this.playing) return;
    if (this.place >= this.last && !this.#growing) this.#go(0);
    this.playing = true;
    this.#shownAt = Number.NEGATIVE_INFINITY;
    this.#rebase();
    this.#request();
    this.#notify();
  }

  pause(): void {
    if (this.#frame !== null) this.#frames.cancel(this.#frame);
    this.#frame = null;
    if (!this.playing) return;
    this.playing = false;
    this.#notify();
  }

  setSpeed(speed: number): void {
    this.speed = speed;
    this.#rebase();
    this.#notify();
  }

  faster(by: 1 | -1): void {
    const at = SPEEDS.indexOf(this.speed as (typeof SPEEDS)[number]) + by;
    const speed = SPEEDS[at];
    if (speed !== undefined) this.setSpeed(speed);
  }

  /** Go some steps on or back; what plays stands still. */
  step(by: number): void {
    if (!this.episode) {
      this.freeze();
      return;
    }
    this.pause();
    this.seek(this.place + by);
  }

  seek(place: number): void {
    if (!this.episode) return;
    this.#go(place);
    this.#rebase();
    this.#notify();
  }

  /** Go to a step by its step_index. */
  seekIndex(index: number): void {
    const { episode, total } = this;
    if (!episode) return;
    const end = this.store.step(episode.row, total - 1)?.index ?? index;
    if (this.selection.other && index > end) this.seek(total - 1 + index - end);
    else if (this.beyond > 0 && index === end) this.seek(total - 1);
    else this.selection.set({ step: index });
  }

  home(): void {
    this.pause();
    this.seek(0);
  }

  end(): void {
    if (!this.episode) {
      this.freeze();
      return;
    }
    this.pause();
    this.seek(this.last);
  }

  live(): void {
    this.pause();
    this.selection.set({ live: true });
  }

  /** Go to the next (1) or the one before (-1) of the same agent's episodes. */
  async move(by: 1 | -1): Promise<void> {
    const from = this.episode;
    if (!from) this.freeze();
    if (!from || this.#moving) return;
    this.#moving = true;
    try {
      const to = await this.neighbour(from, by);
      if (to && sameEpisode(this.episode, from)) this.selection.set({ episode: to });
    } finally {
      this.#moving = false;
    }
  }

  async neighbour(from: EpisodeRef, by: 1 | -1): Promise<EpisodeRef | null> {
    for (
      let row = from.row + by, looked = 0;
      row >= 0 && row < this.options.count() && looked < FAR;
      row += by, looked++
    ) {
      const ref = this.options.refOf(row) ?? (await this.store.at(row));
      if (!ref) return null;
      if (ref.agent === from.agent && ref.worker === from.worker) return ref;
    }
    return null;
  }

  /** The run has gone on: an episode that is replayed may have more steps. */
  grown(row: number, total: number): void {
    this.store.grown(row, total);
  }

  // -- what happens

  #selected(now: Selection["now"], before: Selection["now"]): void {
    if (!sameEpisode(now.episode, before.episode)) this.#begin();
    else if (now.episode && now.step !== before.step && now.step !== null && now.step !== this.#index()) {
      this.#seekIndex(now.step);
    }
    if (now.other) this.#needOther();
    else if (this.beyond > 0) this.place = this.shown;
    this.#notify();
  }

  #begin(): void {
    const { episode, step } = this.selection;
    this.place = 0;
    this.#sought = null;
    if (!episode) {
      this.pause();
      return;
    }
    if (step !== null) this.#seekIndex(step);
    else if (this.#fromEnd) this.#seekIndex(BEYOND);
    else this.#go(0);
    this.#rebase();
  }

  /** The step_index of where it stands; null when that is not known yet. */
  #index(): number | null {
    return this.episode ? (this.store.step(this.episode.row, this.shown)?.index ?? null) : null;
  }

  #seekIndex(index: number): void {
    const { episode } = this;
    if (!episode) return;
    const place = this.store.placeOf(episode.row, index);
    this.#sought = null;
    if (place !== null) {
      this.#go(place);
      this.#rebase();
    } else {
      this.#sought = index;
      this.store.needIndex(episode.row, index);
    }
  }

  #go(place: number): void {
    const { episode } = this;
    if (!episode) return;
    // Before the first answer nothing is known of the episode's length.
    const last = this.total > 0 ? this.last : Number.MAX_SAFE_INTEGER;
    this.place = Math.max(0, Math.min(Math.floor(place), last));
    this.#sought = null;
    this.store.need(episode.row, this.shown);
    this.#needOther();
    this.#tell();
  }

  #needOther(): void {
    const { other } = this.selection;
    if (other) this.store.need(other.row, this.otherPlace ?? this.place);
  }

  /** Say in the selection where it stands. */
  #tell(): void {
    const index = this.#index();
    if (index !== null && index !== this.selection.step) this.selection.set({ step: index });
  }

  #arrived(): void {
    const { episode } = this;
    if (episode) {
      if (this.#sought !== null) {
        const place = this.store.placeOf(episode.row, this.#sought);
        // A step beyond the end is the last one.
        const beyond = place === null && this.store.step(episode.row, this.total - 1) !== null;
        if (place !== null || beyond) {
          this.#go(place ?? this.total - 1);
          this.#rebase();
        }
      } else {
        if (this.total > 0 && this.place > this.last) this.#go(this.last);
        this.store.need(episode.row, this.shown);
        this.#tell();
      }
      this.#needOther();
    }
    this.#notify();
  }

  // -- playing

  #rebase(): void {
    this.#last = this.#now();
    this.#anchor = { place: this.place, at: this.#last };
  }

  #request(): void {
    this.#frame ??= this.#frames.request(() => {
      this.#frame = null;
      this.#advance();
    });
  }

  /** One animation frame: where it stands follows from when it began, so nothing adds up. */
  #advance(): void {
    const { episode } = this;
    if (!this.playing || !episode) return;
    const now = this.#now();
    const slept = now - this.#last;
    this.#last = now;
    // What is not here yet, or was slept through, is waited for and not jumped over.
    if (slept > SLEPT_MS || !this.#here(episode)) {
      this.#anchor = { place: this.place, at: now };
      this.store.need(episode.row, this.shown);
      this.#needOther();
      this.#request();
      return;
    }
    const rate = this.speed * STEPS_PER_SECOND;
    const due = Math.floor(this.#anchor.place + ((now - this.#anchor.at) / 1000) * rate);
    const end = this.last;
    const ahead = Math.min(end, Math.max(due, this.place) + Math.ceil(AHEAD * Math.max(1, this.speed / 4)));
    this.store.need(episode.row, ahead);
    if (due > this.place && !(this.#calm() && now - this.#shownAt < CALM_MS)) {
      const to = Math.min(due, end);
      if (to > this.place) {
        // A place that is not here yet stops the clock there at the next frame.
        this.#shownAt = now;
        this.#go(to);
        this.#notify();
      }
      if (due >= end) {
        this.#anchor = { place: this.place, at: now };
        if (!this.#growing) {
          this.pause();
          return;
        }
      }
    }
    this.#request();
  }

  /** Whether what is to be seen now is here; of the other one only after the end of the first. */
  #here(episode: EpisodeRef): boolean {
    const { other } = this.selection;
    const second = other && this.beyond > 0 && this.store.step(other.row, this.otherPlace ?? 0) === null;
    return !second && this.store.step(episode.row, this.shown) !== null;
  }

  /** Whether one of those that are shown may still get steps. */
  get #growing(): boolean {
    return [this.episode, this.selection.other].some((one) => one !== null && this.options.running(one.row));
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
