import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { answerOf, type Rows } from "../fake-episodes.ts";
import type { Row } from "../fake-kernel.ts";
import { EpisodeStore, PART } from "../src/episode-store.ts";
import { type Answer, RefusedError } from "../src/link.ts";
import type { Grid } from "../src/messages.ts";
import { Replay, SPEEDS, STEPS_PER_SECOND } from "../src/replay.ts";
import { type EpisodeRef, Selection } from "../src/selection.ts";
import { FakeClock, settled } from "./fakes.ts";

const picture = (step: Row): Grid => ({
  game: "FrozenLake",
  tiles: ["SFFF", "FFFF", "FFFF", "FFFG"],
  agent: [Number(step.step_index) % 4, 0],
  marks: [],
  walls: [],
  action: String(step.action),
  caption: "",
});

const SECOND = 1000;
let rows: Rows & { steps: Row[]; episodes: Row[] };
let clock: FakeClock;
let selection: Selection;
let store: EpisodeStore;
let replay: Replay;
let asked: Record<string, unknown>[];
/** Answers wait here while the kernel is busy. */
let busy: (() => void)[] | null;
let frame: (() => void) | null;
let time: number;
let calm: boolean;

function addEpisode(episode: number, length: number, agent = "a", first = 0): void {
  rows.episodes.push({
    row: rows.episodes.length,
    episode,
    agent_id: agent,
    worker_id: "",
    steps: length,
    outcome: "Success",
  });
  for (let i = 0; i < length; i++)
    rows.steps.push({ episode, agent_id: agent, step_index: first + i, action: "1", reward: i });
}

const refOf = (row: number): EpisodeRef | null => {
  const held = rows.episodes[row];
  return held ? { row, worker: "", agent: String(held.agent_id), episode: Number(held.episode) } : null;
};

/** Let animation frames pass, `milliseconds` in all. */
async function play(milliseconds: number, every = 16): Promise<void> {
  for (const end = time + milliseconds; time < end; ) {
    time = Math.min(end, time + every);
    const held = frame;
    frame = null;
    held?.();
    await settled();
  }
}

beforeEach(() => {
  rows = { steps: [], episodes: [], picture };
  [asked, busy, frame, time, calm] = [[], null, null, 0, false];
  clock = new FakeClock();
  selection = new Selection();
  store = new EpisodeStore(async (kind, fields) => {
    asked.push({ kind, ...fields });
    if (busy) await new Promise<void>((resolve) => busy?.push(resolve));
    const found = answerOf(rows, { kind, ...fields });
    if (!found) throw new Error("unknown");
    return { spans: [], fields: found[0], buffers: found[1] };
  }, clock);
  replay = new Replay(selection, store, {
    refOf,
    count: () => rows.episodes.length,
    running: (row) => rows.episodes[row]?.outcome === "Running",
    frames: {
      request(callback) {
        frame = callback;
        return 1;
      },
      cancel() {
        frame = null;
      },
    },
    now: () => time,
    calm: () => calm,
  });
  addEpisode(3, 10);
  addEpisode(4, 1000);
  addEpisode(4, 5, "b");
  addEpisode(5, 20);
});
afterEach(() => {
  replay.close();
  store.close();
});

const choose = async (row: number): Promise<void> => {
  selection.set({ episode: refOf(row) });
  await settled();
};

describe("replay", () => {
  test("an episode that is chosen stands at its first step, and says so", async () => {
    await choose(0);
    expect([replay.place, replay.total, selection.step, replay.playing]).toEqual([0, 10, 0, false]);
    expect(store.step(0, 0)?.grid?.caption).toBe("episode 3, step 0");
  });

  test("steps, first and last, and no further", async () => {
    await choose(0);
    replay.step(1);
    replay.step(1);
    expect(selection.step).toBe(2);
    replay.step(-5);
    expect(selection.step).toBe(0);
    replay.end();
    expect([replay.place, selection.step]).toEqual([9, 9]);
    replay.step(1);
    expect(replay.place).toBe(9);
    replay.home();
    expect(replay.place).toBe(0);
  });

  test("a step that the table chooses is gone to, far away in a long episode too", async () => {
    await choose(1);
    selection.set({ step: 700 });
    await settled();
    expect(replay.place).toBe(700);
    expect(store.step(1, 700)?.index).toBe(700);
    expect(asked.at(-1)).toMatchObject({ kind: "ask_episode", row: 1, step: 700 });
  });

  test("where steps are missing, a step's place is not its index", async () => {
    addEpisode(6, 10, "a", 100);
    await choose(4);
    expect([replay.place, selection.step]).toEqual([0, 100]);
    selection.set({ step: 105 });
    expect(replay.place).toBe(5);
  });

  test.each([
    [1, 4],
    [0.25, 1],
    [8, 32],
  ])("at speed %d it makes %d steps a second", async (speed, steps) => {
    await choose(1);
    replay.setSpeed(speed);
    replay.play();
    // A hair more, for a step that is due at the very end.
    await play(SECOND + 1);
    expect(selection.step).toBe(steps);
    expect(steps).toBe(speed * STEPS_PER_SECOND);
  });

  test("nothing adds up: after a minute of uneven frames it stands where it should", async () => {
    await choose(1);
    replay.play();
    for (let i = 0; i < 60; i++) await play(SECOND, 7 + (i % 50));
    await play(1);
    expect(selection.step).toBe(60 * STEPS_PER_SECOND);
  });

  test("at the end it stands still, and playing again begins anew", async () => {
    await choose(0);
    replay.setSpeed(64);
    replay.play();
    await play(SECOND);
    expect([replay.playing, selection.step, frame]).toEqual([false, 9, null]);
    replay.play();
    expect([replay.playing, selection.step]).toEqual([true, 0]);
  });

  test("at the end of an episode that runs it waits for more", async () => {
    Object.assign(rows.episodes[3] as Row, { outcome: "Running" });
    await choose(3);
    replay.setSpeed(16);
    replay.play();
    await play(SECOND);
    expect([replay.playing, selection.step]).toEqual([true, 19]);
    for (let i = 20; i < 30; i++) rows.steps.push({ episode: 5, agent_id: "a", step_index: i, action: "1" });
    replay.grown(3, 30);
    await settled();
    expect(replay.total).toBe(30);
    await play(SECOND);
    expect(selection.step).toBe(29);
  });

  test("a page that slept goes on where it was", async () => {
    await choose(1);
    replay.play();
    await play(SECOND + 1);
    time += 3_600_000;
    await play(SECOND + 1);
    expect(selection.step).toBeLessThanOrEqual(8);
    expect(selection.step).toBeGreaterThan(5);
  });

  test("while the kernel is busy it waits where the steps end, and then goes on from there", async () => {
    await choose(1);
    busy = [];
    replay.setSpeed(64);
    replay.play();
    await play(3 * SECOND);
    expect(replay.playing).toBe(true);
    const waiting = replay.place;
    expect(waiting).toBeLessThan(PART + 64);
    const answers = busy;
    busy = null;
    for (const answer of answers) answer();
    await settled();
    await play(100);
    expect(replay.place).toBeGreaterThan(waiting);
    expect(replay.place).toBeLessThan(waiting + 64 * STEPS_PER_SECOND);
  });

  test("who wants less motion sees two pictures a second, in time", async () => {
    calm = true;
    await choose(1);
    replay.setSpeed(4);
    replay.play();
    const seen = new Set<number>();
    for (let i = 0; i < 125; i++) {
      await play(16);
      seen.add(replay.place);
    }
    expect(seen.size).toBeLessThanOrEqual(5);
    expect(replay.place).toBeGreaterThanOrEqual(24);
  });

  test("the next and the previous episode are of the same agent", async () => {
    await choose(1);
    await replay.move(1);
    expect(selection.episode).toEqual(refOf(3));
    await replay.move(1);
    expect(selection.episode).toEqual(refOf(3));
    await replay.move(-1);
    await replay.move(-1);
    expect(selection.episode).toEqual(refOf(0));
  });

  test("an episode whose row the page does not have is asked for", async () => {
    await choose(1);
    const known = replay as unknown as { options: { refOf(row: number): EpisodeRef | null } };
    known.options.refOf = () => null;
    await replay.move(1);
    expect(selection.episode).toEqual(refOf(3));
  });

  test("from live it stops at the newest step, and goes back to live", async () => {
    replay.toggle();
    await settled();
    expect([selection.episode?.row, replay.place, selection.step]).toEqual([3, 19, 19]);
    replay.live();
    expect([selection.live, selection.episode, selection.step, replay.playing]).toEqual([true, null, null, false]);
  });

  test("speeds go up and down within bounds", () => {
    for (let i = 0; i < 20; i++) replay.faster(1);
    expect(replay.speed).toBe(64);
    for (let i = 0; i < 20; i++) replay.faster(-1);
    expect(replay.speed).toBe(SPEEDS[0]);
  });

  test("the other episode follows by step, and stays at its end", async () => {
    await choose(1);
    selection.set({ other: refOf(0) });
    await settled();
    selection.set({ step: 4 });
    expect(replay.otherPlace).toBe(4);
    selection.set({ step: 200 });
    await settled();
    expect(replay.otherPlace).toBe(9);
    expect(store.difference(1, 0, 0)).toBeUndefined();
    await settled();
    expect(store.difference(1, 0, 0)).toEqual({ step: 10, what: "length" });
  });
});

describe("beside a longer episode", () => {
  beforeEach(async () => {
    await choose(0);
    selection.set({ other: refOf(3) });
    await settled();
  });

  test("it plays on to the end of the longer one, and the shorter stays at its last step", async () => {
    replay.setSpeed(4);
    replay.play();
    await play(SECOND / 2 + 1);
    expect([replay.playing, replay.shown, selection.step, replay.otherPlace, replay.beyond]).toEqual([
      true,
      8,
      8,
      8,
      0,
    ]);
    await play(SECOND / 2);
    expect([replay.playing, selection.step, replay.beyond]).toEqual([true, 9, replay.place - 9]);
    expect(replay.otherPlace).toBe(replay.place);
    await play(SECOND);
    expect([replay.playing, replay.place, replay.shown, selection.step, replay.otherPlace]).toEqual([
      false,
      19,
      9,
      9,
      19,
    ]);
    replay.play();
    expect([replay.playing, replay.place]).toEqual([true, 0]);
  });

  test("it is scrubbed and stepped over both, and one alone ends where it ends", async () => {
    replay.end();
    expect([replay.place, replay.shown, replay.otherPlace, replay.otherEnded]).toEqual([19, 9, 19, false]);
    replay.step(-10);
    expect([replay.place, selection.step, replay.beyond]).toEqual([9, 9, 0]);
    // Where they first differ is the first step that only one of them has.
    replay.seekIndex(10);
    expect([replay.place, selection.step, replay.otherPlace, replay.beyond]).toEqual([10, 9, 10, 1]);
    selection.set({ other: null });
    expect([replay.place, replay.last]).toEqual([9, 9]);
  });

  test("the other one says when it has ended", async () => {
    await choose(3);
    selection.set({ other: refOf(0), step: 9 });
    await settled();
    expect(replay.otherEnded).toBe(false);
    selection.set({ step: 10 });
    expect([replay.otherEnded, replay.otherPlace]).toEqual([true, 9]);
  });
});

describe("the store of episodes", () => {
  test("keeps so many parts and no more, the latest looked at", async () => {
    addEpisode(9, 40 * PART);
    const small = new EpisodeStore(
      async (kind, fields) => {
        const [answer, buffers] = answerOf(rows, { kind, ...fields }) ?? [{}, []];
        return { spans: [], fields: answer, buffers };
      },
      clock,
      4,
    );
    for (let place = 0; place < 40 * PART; place += PART) {
      small.need(4, place);
      await settled();
      expect(small.step(4, place)?.index).toBe(place);
      expect(small.parts).toBeLessThanOrEqual(4);
    }
    expect(small.step(4, 0)).toBeNull();
    expect(small.total(4)).toBe(40 * PART);
    small.close();
  });

  test("who scrubs asks for where it is, not for everything it passed", async () => {
    addEpisode(9, 100 * PART);
    await choose(4);
    busy = [];
    asked = [];
    for (let place = PART; place < 99 * PART; place += PART) replay.seek(place);
    for (let i = 0; i < 10 && busy; i++) {
      for (const answer of busy.splice(0)) answer();
      await settled();
    }
    expect(asked.length).toBeLessThanOrEqual(5);
    expect(store.step(4, 98 * PART)?.index).toBe(98 * PART);
  });

  test("a refusal is told of, and asked again after a while", async () => {
    store.need(99, 0);
    await settled();
    expect(store.fault).toContain("there is no episode");
    const before = asked.length;
    store.need(0, 0);
    await settled();
    expect(asked.length).toBe(before);
    await clock.pass(2_000);
    expect(store.step(0, 0)?.index).toBe(0);
    expect(store.fault).toBe("");
  });

  test("an episode that is refused keeps no other waiting, and is asked for again", async () => {
    const answers: (() => Answer)[] = [];
    const refusing = new EpisodeStore(async () => (answers.shift() as () => Answer)(), clock);
    const refuse = (): Answer => {
      throw new RefusedError("there is no episode in row 9");
    };
    const found = (): Answer => {
      const [fields, buffers] = answerOf(rows, { kind: "ask_episode", row: 0 }) ?? [{}, []];
      return { spans: [], fields, buffers };
    };
    answers.push(refuse, found, refuse);
    refusing.need(9, 0);
    await settled();
    const ref = { row: 9, worker: "", agent: "a", episode: 9 };
    expect(refusing.absent(ref)).toBe("There is no episode in row 9.");
    refusing.need(9, 0);
    refusing.need(0, 0);
    await settled();
    expect([refusing.step(0, 0)?.index, answers.length]).toEqual([0, 1]);
    refusing.listen(() => refusing.need(9, 0));
    await clock.pass(2_000);
    expect(answers.length).toBe(0);
    refusing.close();
  });

  test("an answer that is none is told of", async () => {
    const odd = new EpisodeStore(async () => ({ spans: [], fields: { row: 0 }, buffers: [] }), clock);
    odd.need(0, 0);
    await settled();
    expect(odd.fault).toBe("not a part of an episode");
    odd.close();
  });

  test("the way ends where the agent is not known", async () => {
    await choose(0);
    expect(store.path(0, 3)).toEqual([
      [0, 0],
      [1, 0],
      [2, 0],
      [3, 0],
    ]);
    expect(store.path(1, 500)).toEqual([]);
  });
});
