// Stands in for the kernel in a report: a model whose questions are answered from what the file holds.

import { MAX_EPISODES, MAX_ROWS, type Push, VERSION } from "./messages.ts";
import { REPLIES } from "./report-answers.ts";
import type { Answer as Reply } from "./report-ask.ts";
import { pushedCurves } from "./report-curves.ts";
import { arrowOf, numbers, type Pick, type ReportData } from "./report-data.ts";
import { NOTHING_SELECTED } from "./selection.ts";

type Listener = (...parts: never[]) => void;

/** The part of an anywidget model that the page uses. */
export class ReportModel {
  readonly #traits = new Map<string, unknown>();
  readonly #listeners = new Map<string, Set<Listener>>();

  constructor(private readonly data: ReportData) {
    this.#traits.set("title", data.meta.title);
    this.#traits.set("view_id", "report");
    this.#traits.set("selection", NOTHING_SELECTED);
    this.#traits.set("filter", "");
    this.#traits.set("step", null);
  }

  get(name: string): unknown {
    return this.#traits.get(name);
  }

  set(name: string, value: unknown): void {
    if (this.#traits.get(name) === value) return;
    this.#traits.set(name, value);
    this.#tell(`change:${name}`);
  }

  save_changes(): void {
    // There is nobody to save for.
  }

  on(name: string, listener: Listener): void {
    const held = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, held.add(listener));
  }

  off(name: string, listener: Listener): void {
    this.#listeners.get(name)?.delete(listener);
  }

  send(content: Record<string, unknown>): void {
    if (content.kind === "ready") void this.#push();
    else void this.#answer(content);
  }

  async #push(): Promise<void> {
    const { data } = this;
    const first = Math.max(0, data.steps - MAX_ROWS);
    const steps = await data.stepsAt(numbers(first, data.steps));
    const lowest = Math.max(0, data.episodes.rows - MAX_EPISODES);
    const episodes = numbers(lowest, data.episodes.rows).map((row): Pick => [data.episodes, row]);
    const { told, buffer } = pushedCurves(data);
    const push: Push = {
      kind: "push",
      version: VERSION,
      number: 1,
      keyframe: true,
      state: data.meta.state,
      spans: [
        { table: "steps", first, count: steps.length, total: data.steps },
        { table: "episodes", first: lowest, count: episodes.length, total: data.episodes.rows },
      ],
      ...told,
    };
    this.#say(push, [arrowOf(steps), arrowOf(episodes), buffer]);
  }

  async #answer(content: Record<string, unknown>): Promise<void> {
    const { kind, id } = content;
    const head = { version: VERSION, id };
    try {
      const reply = REPLIES[String(kind)];
      if (!reply) throw new Error(`a report has no answer to ${String(kind)}`);
      const { fields, buffers }: Reply = await reply(this.data, content);
      this.#say({ spans: [], ...fields, ...head, kind: "answer" }, buffers);
    } catch (error) {
      this.#say({ ...head, kind: "refused", message: error instanceof Error ? error.message : String(error) }, []);
    }
  }

  #say(content: unknown, buffers: DataView[]): void {
    this.#tell("msg:custom", content, buffers);
  }

  #tell(name: string, ...parts: unknown[]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(...(parts as never[]));
  }
}
