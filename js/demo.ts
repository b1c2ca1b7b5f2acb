// Shows the widget without Jupyter. `npm run demo`, then open the address it prints.
//
//   (nothing)              replays the recorded worker of tests/data
//   ?synthetic&rate=200    data made up here, and labelled so, at 200 steps/s; &preload=100000 begins with that many
//   ?speed=20              replays 20 times faster than the run was; ?speed=0 shows it whole
//   ?state=failed ...      the state drawn: waiting, paused, reconnecting, completed, failed, cancelled, recording, empty, incomplete,
//                          disconnected, restarted, gone, silent
//   ?games                 a picture of each game, of the kernel's own making
//   ?game=taxi             as the live picture: one of those names
//   ?theme=dark|light      ?bare (no controls)   ?views=2   ?extra=30 (further columns)   ?problems

import pictures from "../tests/data/pictures.json";
import sample from "../tests/data/worker-frozenlake-4x4.jsonl.gz";
import { answerOf } from "./fake-episodes.ts";
import { FakeKernel, type Row } from "./fake-kernel.ts";
import { natural, placed } from "./src/layout.ts";
import type { Connection, Grid } from "./src/messages.ts";
import { DEFAULT_SHOWN, makePicture, NO_OVERLAY } from "./src/picture.ts";
import { watchTheme } from "./src/theme.ts";
import factory from "./src/widget.ts";

const options = new URLSearchParams(location.search);
const theme = options.get("theme");
if (theme) document.body.classList.add(theme);
if (options.has("bare")) document.body.dataset.bare = "";

type Event = Record<string, unknown> & { type?: string; ts_unix_ns?: number };

let widget: ReturnType<typeof factory> | undefined;
let stop: (() => void)[] = [];

function show(kernel: FakeKernel): void {
  for (const end of stop) end();
  kernel.further.push((ask) =>
    answerOf({ steps: kernel.steps, episodes: kernel.episodes, picture: (step) => gridOf(asEvent(step)) }, ask),
  );
  widget = factory();
  // biome-ignore lint/suspicious/noExplicitAny: a fake of the part that is used
  const model = kernel.model as any;
  stop = [widget.initialize({ model })];
  for (let i = 0; i < Number(options.get("views") ?? 1); i++) {
    const el = document.createElement("div");
    el.style.marginBottom = "12px";
    document.querySelector("#view")?.append(el);
    const end = widget.render({ model, el });
    stop.unshift(() => {
      end();
      el.remove();
    });
  }
  // For a developer's console.
  Object.assign(globalThis, { kernel, stop });
}

async function linesOf(source: Blob): Promise<Event[]> {
  const start = new Uint8Array(await source.slice(0, 2).arrayBuffer());
  const zipped = start[0] === 0x1f && start[1] === 0x8b;
  const stream = zipped ? source.stream().pipeThrough(new DecompressionStream("gzip")) : source.stream();
  const events: Event[] = [];
  for (const line of (await new Response(stream).text()).split("\n")) {
    try {
      events.push(JSON.parse(line) as Event);
    } catch {
      // Other lines on a worker's standard output are not events.
    }
  }
  return events;
}

/** A step as its worker told it. */
function asEvent(step: Row): Event {
  return { ...step, observation: JSON.parse(String(step.observation)), action: Number(step.action) };
}

/** All pictures, large and small. */
function showGames(): void {
  const root = document.createElement("section");
  root.className = "ltw";
  root.style.cssText = "display: flex; flex-wrap: wrap; gap: 16px; padding: 12px";
  document.querySelector("#view")?.append(root);
  const theme = watchTheme(root, () => {});
  for (const [name, grid] of Object.entries(pictures as unknown as Record<string, Grid>)) {
    const size = natural(grid);
    const room = { width: grid.tiles[0]?.length === 12 ? 500 : 260, height: 260 };
    if (!size || placed(grid, size, room).width <= 0) continue;
    const picture = makePicture(theme);
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(picture.element, caption);
    root.append(figure);
    picture.show(grid, room, { ...NO_OVERLAY, path: grid.path ?? [] }, DEFAULT_SHOWN);
  }
}

const ACTIONS = ["left", "down", "right", "up"];

function gridOf(step: Event): Grid | null {
  const seen = step.observation as Record<string, never> | undefined;
  const { position, goal, holes, grid_size: size } = (seen ?? {}) as Record<string, unknown>;
  if (!position || !goal || typeof size !== "number") return null;
  const tiles = Array.from({ length: size }, () => Array<string>(size).fill("F"));
  const put = (at: unknown, letter: string): void => {
    const { row, col } = at as { row: number; col: number };
    (tiles[row] as string[])[col] = letter;
  };
  put({ row: 0, col: 0 }, "S");
  put(goal, "G");
  for (const hole of holes as unknown[]) put(hole, "H");
  const { row, col } = position as { row: number; col: number };
  const fallen = (tiles[row] as string[])[col] === "H";
  return {
    game: "FrozenLake",
    tiles: tiles.map((line) => line.join("")),
    agent: [row, col],
    marks: fallen ? [{ kind: "cracked", row, col }] : [],
    walls: [],
    action: ACTIONS[Number(step.action)] ?? String(step.action),
    caption: `episode ${step.episode}, step ${step.step_index}`,
  };
}

/** Feed worker events to a kernel the way the hub does, roughly. */
class Feeder {
  readonly #episodes = new Map<unknown, number>();
  constructor(private readonly kernel: FakeKernel) {}

  take(event: Event): void {
    const { kernel } = this;
    const timestamp = Number(event.ts_unix_ns ?? 0) / 1e6;
    if (event.type === "run_started") {
      const config = event.config as Record<string, unknown>;
      kernel.state = {
        ...kernel.state,
        run_id: String(event.run_id),
        name: String(config.game_id ?? ""),
        expected_episodes: Number(config.max_episodes) || null,
        ended_episodes: 0,
      };
    } else if (event.type === "step") {
      const { type, ts_unix_ns, run_id, observation, next_observation, action, ...rest } = event;
      kernel.addSteps({
        timestamp,
        worker_id: "",
        ...rest,
        action: JSON.stringify(action),
        observation: JSON.stringify(observation),
      });
      kernel.state = {
        ...kernel.state,
        agents: [String(event.agent_id ?? "")],
        grid: gridOf(event) ?? kernel.state.grid,
      };
      if (event.terminated || event.truncated) kernel.state.ended_episodes++;
      const row = this.#row(event.episode);
      const held = kernel.episodes[row] ?? { total_reward: 0, steps: 0 };
      kernel.setEpisode(row, {
        ...held,
        timestamp,
        worker_id: "",
        agent_id: event.agent_id,
        episode: event.episode,
        steps: Number(held.steps) + 1,
        total_reward: Number(held.total_reward) + Number(event.reward),
        terminated: event.terminated === true,
        truncated: event.truncated === true,
        outcome: event.terminated
          ? Number(event.reward) > 0
            ? "Success"
            : "Completed"
          : event.truncated
            ? "Timeout"
            : "Running",
      });
    } else if (event.type === "episode") {
      const { seed, control_mode, game_id } = event.metadata as Row;
      const row = this.#row(event.episode);
      kernel.setEpisode(row, { ...kernel.episodes[row], seed, control_mode, game_id });
    } else if (event.type === "run_completed") {
      kernel.state = { ...kernel.state, status: String(event.status) };
    }
  }

  #row(episode: unknown): number {
    const held = this.#episodes.get(episode);
    if (held !== undefined) return held;
    this.#episodes.set(episode, this.#episodes.size);
    return this.#episodes.size - 1;
  }
}

function* synthetic(): Generator<Event> {
  const holes = [
    [1, 1],
    [1, 3],
    [2, 3],
    [3, 0],
  ].map(([row, col]) => ({ row, col }));
  const extra = Number(options.get("extra") ?? 0);
  let now = Date.now() * 1e6;
  yield { type: "run_started", ts_unix_ns: now, run_id: "synthetic", config: { game_id: "SYNTHETIC data, not a run" } };
  for (let episode = 0; ; episode++) {
    let [row, col] = [0, 0];
    for (let step_index = 0; ; step_index++) {
      const action =
        Math.random() < 0.5 + Math.min(0.3, episode / 2000)
          ? 1 + Math.floor(Math.random() * 2)
          : Math.floor(Math.random() * 4);
      row = Math.max(0, Math.min(3, row + (action === 1 ? 1 : action === 3 ? -1 : 0)));
      col = Math.max(0, Math.min(3, col + (action === 2 ? 1 : action === 0 ? -1 : 0)));
      const fallen = holes.some((hole) => hole.row === row && hole.col === col);
      const goal = row === 3 && col === 3;
      now += 1e6;
      const observation = {
        state: row * 4 + col,
        position: { row, col },
        goal: { row: 3, col: 3 },
        grid_size: 4,
        holes,
      };
      const further = Object.fromEntries(
        Array.from({ length: extra }, (_, i) => [`extra_${i}`, i % 2 ? Math.random() : i]),
      );
      yield {
        type: "step",
        ts_unix_ns: now,
        episode,
        step_index,
        agent_id: "made_up",
        action,
        reward: goal ? 1 : 0,
        terminated: fallen || goal,
        truncated: false,
        observation,
        q_before: Math.random(),
        epsilon: 0.995 ** episode,
        ...further,
      };
      if (fallen || goal) break;
    }
  }
}

/** Take events at their own times, times `speed`. */
function replay(kernel: FakeKernel, events: Event[], speed: number): void {
  const feeder = new Feeder(kernel);
  if (speed === 0) {
    for (const event of events) feeder.take(event);
    kernel.push(true);
    return;
  }
  const began = performance.now();
  const zero = Number(events[0]?.ts_unix_ns ?? 0);
  let at = 0;
  ticking(kernel, () => {
    const until = zero + (performance.now() - began) * 1e6 * speed;
    while (at < events.length && Number((events[at] as Event).ts_unix_ns) <= until) feeder.take(events[at++] as Event);
    return at < events.length;
  });
}

function ticking(kernel: FakeKernel, tick: () => boolean): void {
  let pushes = 0;
  let last: [number, number] = [performance.now(), kernel.steps.length];
  const timer = setInterval(() => {
    const more = tick();
    const now = performance.now();
    if (now - last[0] > 1000) {
      kernel.state = { ...kernel.state, steps_per_s: (kernel.steps.length - last[1]) / ((now - last[0]) / 1000) };
      last = [now, kernel.steps.length];
    }
    if (!more) kernel.state = { ...kernel.state, steps_per_s: 0 };
    kernel.push(pushes++ % 80 === 0 || !more);
    if (!more) clearInterval(timer);
  }, 50);
  stop.push(() => clearInterval(timer));
}

const kernel = new FakeKernel();
kernel.deliver = (answer) => setTimeout(answer, 60);

const CONNECTIONS: Record<string, Partial<Connection>> = {
  reconnecting: {
    state: "reconnecting",
    attempt: 3,
    retry_at: Date.now() / 1000 + 4.2,
    message: "no trainer daemon answers at 127.0.0.1:50055 (connection refused)",
  },
  recording: { state: "recording" },
};
const state = options.get("state");
const PROBLEMS = [
  {
    kind: "bad_json",
    count: 3,
    detail: "line 17: Expecting value: line 1 column 1 (char 0): 'Traceback <b>not bold</b>'",
  },
  { kind: "gap", count: 12, detail: "steps 40 to 51 of episode 7 never came" },
];

const game = (pictures as unknown as Record<string, Grid>)[options.get("game") ?? ""];

if (options.has("games")) {
  showGames();
} else if (game) {
  kernel.state = { ...kernel.state, run_id: "a picture", grid: game };
  show(kernel);
} else if (state === "waiting" || state === "empty") {
  kernel.state = {
    ...kernel.state,
    run_id: "01JDQW8Z",
    name: "FrozenLake-v1",
    ...(state === "empty" ? { status: "completed" } : {}),
  };
  show(kernel);
} else if (options.has("synthetic")) {
  const events = synthetic();
  const feeder = new Feeder(kernel);
  for (let i = 0; i < Number(options.get("preload") ?? 0); i++) feeder.take(events.next().value as Event);
  show(kernel);
  const rate = Number(options.get("rate") ?? 200);
  let owed = 0;
  let then = performance.now();
  ticking(kernel, () => {
    owed += ((performance.now() - then) / 1000) * rate;
    then = performance.now();
    for (; owed >= 1; owed--) feeder.take(events.next().value as Event);
    return true;
  });
} else {
  const events = await linesOf(await (await fetch(sample)).blob());
  show(kernel);
  replay(kernel, events, Number(options.get("speed") ?? 1));
  if (state) {
    const status = ["paused", "failed", "cancelled", "completed"].includes(state) ? state : "running";
    const reason =
      status === "failed"
        ? "worker exited with code 1: KeyError: 'agent_position'"
        : status === "cancelled"
          ? "asked by user"
          : "";
    kernel.state = {
      ...kernel.state,
      status,
      reason,
      connection: { ...kernel.state.connection, ...CONNECTIONS[state] },
      problems: state === "incomplete" ? PROBLEMS : [],
    };
    kernel.push(true);
    // Not before the answer to the page's first word is there.
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (state === "disconnected") kernel.become({ connectionStatus: "connecting" });
    if (state === "restarted") kernel.become({ status: "autorestarting" });
    if (state === "gone") kernel.become({ status: "dead" });
  }
}
if (options.has("problems")) {
  kernel.state = { ...kernel.state, problems: PROBLEMS };
  kernel.push();
}

document.querySelector<HTMLInputElement>("#file")?.addEventListener("change", async (event) => {
  const file = (event.target as HTMLInputElement).files?.[0];
  if (!file) return;
  const chosen = new FakeKernel();
  const events = await linesOf(file);
  show(chosen);
  replay(chosen, events, Number(options.get("speed") ?? 1));
});
