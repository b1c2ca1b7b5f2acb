// A kernel for the demo page and the tests: holds rows as plain objects and says what live.py says, in the same messages.

import {
  bool,
  type DataType,
  float64,
  int64,
  tableFromArrays,
  tableToIPC,
  timestamp,
  uint64,
  utf8,
} from "@uwdata/flechette";
import { MEASURES, type Measure } from "./src/curves.ts";
import { MAX_EPISODES, MAX_ROWS, type Push, type Span, type State, type TableName, VERSION } from "./src/messages.ts";
import { compileQuery, QueryError, type QueryKind } from "./src/query.ts";

export type Row = Record<string, unknown>;
type Listener = (content: unknown, buffers: DataView[]) => void;

const TYPES: Record<string, DataType> = {
  timestamp: timestamp(3, "UTC"),
  episode: int64(),
  step_index: int64(),
  steps: int64(),
  row: int64(),
  reward: float64(),
  total_reward: float64(),
  episode_seed: uint64(),
  terminated: bool(),
  truncated: bool(),
};

/** Rows as an Arrow IPC stream, at an odd place in a larger buffer as in a Jupyter message; columns of nulls are left out. */
export function toArrow(rows: readonly Row[]): DataView {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns: Record<string, unknown[]> = {};
  const types: Record<string, DataType> = {};
  for (const name of names) {
    const values = rows.map((row) => row[name] ?? null);
    if (rows.length > 0 && values.every((value) => value === null)) continue;
    columns[name] = values.map((value) => (isWide(name) && value !== null ? BigInt(value as number) : value));
    const kind = TYPES[name] ?? (values.some((value) => typeof value === "string") ? utf8() : undefined);
    if (kind) types[name] = kind;
  }
  const bytes = tableToIPC(tableFromArrays(columns, { types, useBigInt: true }), { format: "stream" }) as Uint8Array;
  const message = new Uint8Array(bytes.length + 24);
  message.set(bytes, 13);
  return new DataView(message.buffer, 13, bytes.length);
}

function isWide(name: string): boolean {
  const type = TYPES[name];
  return (
    type !== undefined &&
    (type === TYPES.episode || type === TYPES.episode_seed || ["step_index", "steps", "row"].includes(name))
  );
}

export const BLANK: State = {
  run_id: "run-1",
  name: "",
  status: "running",
  reason: "",
  connection: { state: "live", attempt: 0, retry_at: 0, message: "" },
  agents: [],
  steps: 0,
  episodes: 0,
  ended_episodes: 0,
  expected_episodes: null,
  steps_per_s: 0,
  problems: [],
  controls: null,
  grid: null,
};

/** The curve of all episodes in at most `points` buckets, as curves.py makes them. */
export function curveRows(episodes: readonly Row[], y: Measure, points: number, first = 0, end = Infinity): Row[] {
  const last = Math.min(end, episodes.length);
  let size = 1;
  while (Math.ceil(last / size) - Math.floor(first / size) > points) size *= 2;
  const rows: Row[] = [];
  for (let place = first - (first % size); place < last; place += size) {
    const held = episodes.slice(place, place + size);
    const ended = held.filter(({ outcome }) => outcome !== "Running").map((one) => Number(one[y] ?? Number.NaN));
    const finite = ended.filter(Number.isFinite);
    if (ended.length === 0) continue;
    const some = finite.length > 0;
    rows.push({
      place,
      places: held.length,
      from: held[0]?.episode,
      to: held.at(-1)?.episode,
      row: place,
      count: finite.length,
      odd: ended.length - finite.length,
      min: some ? Math.min(...finite) : null,
      max: some ? Math.max(...finite) : null,
      mean: some ? finite.reduce((a, b) => a + b, 0) / finite.length : null,
    });
  }
  return rows;
}

class FakeSignal {
  readonly slots = new Set<() => void>();
  connect(slot: () => void): void {
    this.slots.add(slot);
  }
  disconnect(slot: () => void): void {
    this.slots.delete(slot);
  }
  emit(): void {
    for (const slot of [...this.slots]) slot();
  }
}

export class FakeKernel {
  readonly steps: Row[] = [];
  readonly episodes: Row[] = [];
  state: State = { ...BLANK };
  /** What pages said. */
  readonly heard: Record<string, unknown>[] = [];
  /** How an answer goes out: at once, unless told otherwise. */
  deliver: (answer: () => void) => void = (answer) => answer();
  readonly #listeners = new Set<Listener>();
  #pushedSteps = 0;
  readonly #changed = new Set<number>();
  readonly #traitListeners = new Set<[string, () => void]>();
  /** The traits that both sides own. */
  readonly traits: Record<string, unknown> = { selection: {}, filter: "", step: null };
  pushes = 0;
  /** How often the page saved what it set. */
  saved = 0;

  /** What JupyterLab shows of its connection to the kernel. */
  readonly connection = {
    status: "idle",
    connectionStatus: "connected",
    isDisposed: false,
    statusChanged: new FakeSignal(),
    connectionStatusChanged: new FakeSignal(),
    disposed: new FakeSignal(),
  };

  /** The part of an anywidget model that the page uses. */
  readonly model = {
    widget_manager: { kernel: this.connection },
    get: (name: string): unknown => (name in this.traits ? this.traits[name] : "a demo run"),
    set: (name: string, value: unknown): void => {
      this.traits[name] = value;
    },
    save_changes: (): void => {
      this.saved++;
    },
    on: (name: string, listener: Listener): void => {
      if (name === "msg:custom") this.#listeners.add(listener);
      else this.#traitListeners.add([name, listener as () => void]);
    },
    off: (name: string, listener: Listener): void => {
      if (name === "msg:custom") this.#listeners.delete(listener);
      for (const held of this.#traitListeners)
        if (held[1] === (listener as () => void)) this.#traitListeners.delete(held);
    },
    send: (content: Record<string, unknown>): void => {
      this.heard.push(content);
      if (content.kind === "ready") this.deliver(() => this.push(true));
      else if (content.kind === "ask_rows") this.deliver(() => this.#answer(content));
      else if (content.kind === "ask_find") this.deliver(() => this.#find(content));
      else this.deliver(() => this.#further(content));
    },
  };

  /** Answers questions other than for rows: [fields, buffers]; null for none of its kind (nobody answers); what it throws is a refusal. */
  further: ((ask: Record<string, unknown>) => [Record<string, unknown>, DataView[]] | null)[] = [];

  get listeners(): number {
    const { statusChanged, connectionStatusChanged, disposed } = this.connection;
    const signals = statusChanged.slots.size + connectionStatusChanged.slots.size + disposed.slots.size;
    return this.#listeners.size + this.#traitListeners.size + signals;
  }

  /** Have the host say something of its kernel: a status, or whether it is connected. */
  become(change: { status?: string; connectionStatus?: string }): void {
    Object.assign(this.connection, change);
    this.connection[change.status ? "statusChanged" : "connectionStatusChanged"].emit();
  }

  /** Have the host say something of the model. */
  emit(event: string): void {
    for (const [name, listener] of [...this.#traitListeners]) if (name === event) listener();
  }

  /** Set a trait as Python does. */
  setTrait(name: string, value: unknown): void {
    this.traits[name] = value;
    this.emit(`change:${name}`);
  }

  addSteps(...rows: Row[]): void {
    this.steps.push(...rows);
  }

  setEpisode(row: number, values: Row): void {
    this.episodes[row] = { ...values, row };
    this.#changed.add(row);
  }

  push(keyframe = false): void {
    const spans: Span[] = [];
    const buffers: DataView[] = [];
    const first = Math.max(keyframe ? 0 : this.#pushedSteps, this.steps.length - MAX_ROWS);
    if (keyframe || first < this.steps.length) {
      const rows = this.steps.slice(first);
      spans.push({ table: "steps", first, count: rows.length, total: this.steps.length });
      buffers.push(toArrow(rows));
    }
    this.#pushedSteps = this.steps.length;
    const changed = keyframe
      ? this.episodes.slice(-MAX_EPISODES)
      : [...this.#changed].sort((a, b) => a - b).map((row) => this.episodes[row] as Row);
    this.#changed.clear();
    if (keyframe || changed.length > 0) {
      const lowest = Number(changed[0]?.row ?? 0);
      spans.push({ table: "episodes", first: lowest, count: changed.length, total: this.episodes.length });
      buffers.push(toArrow(changed));
    }
    const state: State = { ...this.state, steps: this.steps.length, episodes: this.episodes.length };
    const message: Push = { kind: "push", version: VERSION, number: ++this.pushes, keyframe, state, spans };
    if (keyframe || changed.length > 0) {
      const numbers = this.episodes.map((one) => Number(one.episode));
      const numbered = numbers.every((number, i) => i === 0 || number > (numbers[i - 1] as number));
      message.curves = [{ run: state.run_id, name: state.name, agent: null, numbered }];
      const told = MEASURES.flatMap((y, measure) =>
        curveRows(this.episodes, y, 256).map((row) => ({ ...row, series: 0, measure })),
      );
      buffers.push(toArrow(told));
    }
    this.say(message, buffers);
  }

  /** Send anything, sound or not. */
  say(content: unknown, buffers: DataView[] = []): void {
    for (const listener of [...this.#listeners]) listener(content, buffers);
  }

  #further(ask: Record<string, unknown>): void {
    const { id } = ask;
    try {
      for (const answer of this.further) {
        const found = answer(ask);
        if (!found) continue;
        this.say({ kind: "answer", version: VERSION, id, spans: [], ...found[0] }, found[1]);
        return;
      }
    } catch (error) {
      this.say({
        kind: "refused",
        version: VERSION,
        id,
        message: error instanceof Error ? error.message : String(error),
      });
    }
  }

  #answer(ask: Record<string, unknown>): void {
    const table = ask.table as TableName;
    const [first, most] = [Number(ask.first), table === "steps" ? MAX_ROWS : MAX_EPISODES];
    const all: readonly Row[] = this[table];
    const fields: Record<string, unknown> = { scanned: all.length, of: all.length };
    let numbers: number[] = [];
    try {
      numbers = this.#arranged(ask);
    } catch (error) {
      if (!(error instanceof QueryError)) throw error;
      const { reason, position, near } = error;
      this.say({ kind: "answer", version: VERSION, id: ask.id, spans: [], fault: { reason, position, near } });
      return;
    }
    const shown = numbers.slice(first, first + Math.min(Number(ask.count), most));
    const rows = shown.map((number) =>
      ask.where || ask.sort ? { ...all[number], row: number } : (all[number] as Row),
    );
    const span: Span = { table, first, count: rows.length, total: numbers.length };
    this.say({ kind: "answer", version: VERSION, id: ask.id, spans: [span], ...fields }, [toArrow(rows)]);
  }

  /** The numbers of the rows that are wished for, in the order wished for. */
  #arranged({ table, where, sort, descending }: Record<string, unknown>): number[] {
    const all = this[table as TableName];
    const names = new Set(all.flatMap((row) => Object.keys(row)));
    const kinds: Record<string, QueryKind> = { string: "text", boolean: "truth", number: "number", bigint: "number" };
    const columns = new Map(
      [...names].map((name) => {
        const kind = kinds[typeof all.find((row) => row[name] != null)?.[name]] ?? "nothing";
        return [name, { kind, at: (row: number) => all[row]?.[name] ?? null }];
      }),
    );
    const fits = where ? compileQuery(String(where), columns) : () => true;
    const found = [...all.keys()].filter(fits);
    if (sort) found.sort((a, b) => Number(all[a]?.[String(sort)]) - Number(all[b]?.[String(sort)]));
    return descending ? found.reverse() : found;
  }

  /** As view/find_question.py: one episode, by its number and whose it is. */
  #find(ask: Record<string, unknown>): void {
    const fits = (row: Row): boolean =>
      row.episode === ask.episode && [undefined, row.agent_id ?? ""].includes(ask.agent as string);
    const row = this.episodes.findIndex(fits);
    const rows = [...this.steps.keys()].filter((at) => fits(this.steps[at] as Row));
    const from = rows.filter((at) => Number(this.steps[at]?.step_index) >= Number(ask.step ?? 0));
    let place: number | null = from[0] ?? null;
    if (ask.where || ask.sort) {
      const order = this.#arranged(ask);
      const wanted = ask.table === "episodes" ? [row] : [...from, ...rows.reverse()];
      place = order.indexOf(wanted.find((one) => order.includes(one)) ?? -1);
    }
    const episode = { row, worker: "", agent: ask.agent ?? "", episode: ask.episode };
    const found = row < 0 ? [] : [{ episode, row: place !== null && place < 0 ? null : place }];
    this.say({ kind: "answer", version: VERSION, id: ask.id, spans: [], found });
  }
}
