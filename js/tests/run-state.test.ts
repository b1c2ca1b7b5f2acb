import { expect, test, vi } from "vitest";
import { FakeKernel, type Row } from "../fake-kernel.ts";
import { type Model, openLink } from "../src/link.ts";
import { RunState } from "../src/run-state.ts";
import { FakeClock, settled } from "./fakes.ts";

const step = (i: number): Row => ({ episode: 0, step_index: i, agent_id: "a", reward: 0.5, action: `${i}` });
const episode = (i: number, outcome = "Completed"): Row => ({ episode: i, agent_id: "a", total_reward: i, outcome });

function page(kernel: FakeKernel) {
  const clock = new FakeClock();
  const run = new RunState({ clock });
  const link = openLink(kernel.model as unknown as Model, run, clock);
  run.connect(link);
  return { clock, run, link };
}
const asks = (kernel: FakeKernel): Record<string, unknown>[] => kernel.heard.filter(({ kind }) => kind === "ask_rows");
const actionAt = (run: RunState, number: number): unknown => {
  const held = run.steps.row(number);
  return held?.frame.columns.get("action")?.at(held.index) ?? null;
};

test("pushes add up; a listener hears of each", () => {
  const kernel = new FakeKernel();
  const { run } = page(kernel);
  const heard = vi.fn();
  const stop = run.listen(heard);
  kernel.addSteps(step(0), step(1));
  kernel.push();
  kernel.addSteps(step(2));
  kernel.push();
  expect(run.state?.steps).toBe(3);
  expect([0, 1, 2].map((i) => actionAt(run, i))).toEqual(["0", "1", "2"]);
  expect(heard).toHaveBeenCalledTimes(2);
  stop();
  kernel.push();
  expect(heard).toHaveBeenCalledTimes(2);
});

test("a page that missed everything is right after one keyframe", () => {
  const kernel = new FakeKernel();
  kernel.deliver = () => {};
  for (let i = 0; i < 2000; i++) kernel.addSteps(step(i));
  kernel.setEpisode(0, episode(0, "Running"));
  kernel.push();
  const { run } = page(kernel);
  expect(run.state).toBeNull();
  kernel.push(true);
  expect(run.steps.total).toBe(2000);
  expect(actionAt(run, 1999)).toBe("1999");
  expect(actionAt(run, 1500)).toBe("1500");
  expect(run.steps.row(1499)).toBeNull();
  expect(run.episodes.total).toBe(1);
});

test("rows that are looked at and not here are asked for once, after a rest, with their neighbours", async () => {
  const kernel = new FakeKernel();
  for (let i = 0; i < 5000; i++) kernel.addSteps(step(i));
  const { run, clock } = page(kernel);
  const view = {};
  for (let first = 1000; first < 1100; first += 10) run.want(view, "steps", first, first + 20);
  expect(asks(kernel)).toHaveLength(0);
  await clock.pass(50);
  expect(asks(kernel)).toHaveLength(1);
  expect(asks(kernel)[0]).toMatchObject({ table: "steps", count: 500 });
  expect(actionAt(run, 1090)).toBe("1090");
  await clock.pass(10_000);
  expect(asks(kernel)).toHaveLength(1);
});

test("what is under way is not asked for again, whoever looks", async () => {
  const kernel = new FakeKernel();
  for (let i = 0; i < 5000; i++) kernel.addSteps(step(i));
  const { run, clock } = page(kernel);
  const held: (() => void)[] = [];
  kernel.deliver = (answer) => void held.push(answer);
  run.want({}, "steps", 1000, 1020);
  run.want({}, "steps", 1005, 1025);
  await clock.pass(1000);
  expect(asks(kernel)).toHaveLength(1);
  for (const answer of held) answer();
  await settled();
  expect(actionAt(run, 1024)).toBe("1024");
});

test("a kernel that does not answer is asked again, not flooded", async () => {
  const kernel = new FakeKernel();
  for (let i = 0; i < 5000; i++) kernel.addSteps(step(i));
  const { run, clock } = page(kernel);
  kernel.deliver = () => {};
  run.want({}, "steps", 1000, 1020);
  await clock.pass(60_000);
  expect(asks(kernel).length).toBeGreaterThanOrEqual(3);
  expect(asks(kernel).length).toBeLessThanOrEqual(5);
});

test("an answer without rows is not asked for in a ring", async () => {
  const kernel = new FakeKernel();
  kernel.addSteps(step(0));
  const { run, clock } = page(kernel);
  // The page believes in more rows than the kernel has.
  run.steps.total = 100;
  run.want({}, "steps", 50, 60);
  await clock.pass(10_000);
  expect(asks(kernel).length).toBeLessThanOrEqual(6);
});

test("nobody looking, nobody asking", async () => {
  const kernel = new FakeKernel();
  for (let i = 0; i < 5000; i++) kernel.addSteps(step(i));
  const { run, clock } = page(kernel);
  const view = {};
  run.want(view, "steps", 1000, 1020);
  run.unwant(view);
  await clock.pass(10_000);
  expect(asks(kernel)).toHaveLength(0);
});

test("older episodes come unasked, for the curve", async () => {
  const kernel = new FakeKernel();
  for (let i = 0; i < 5000; i++) kernel.setEpisode(i, episode(i));
  const { run, clock } = page(kernel);
  expect(run.episodes.row(2999)).toBeNull();
  await clock.pass(5_000);
  expect(run.episodes.size).toBe(5000);
  expect(asks(kernel)).toHaveLength(2);
});

test("an episode that ended replaces itself running", () => {
  const kernel = new FakeKernel();
  const { run } = page(kernel);
  const outcome = (): unknown => {
    const held = run.episodes.row(0);
    return held?.frame.columns.get("outcome")?.at(held.index) ?? null;
  };
  kernel.setEpisode(0, episode(0, "Running"));
  kernel.push();
  expect(outcome()).toBe("Running");
  kernel.setEpisode(0, episode(0, "Success"));
  kernel.push();
  expect(outcome()).toBe("Success");
  expect(run.episodes.total).toBe(1);
});

test("a keyframe of another, shorter run takes the old rows away", () => {
  const kernel = new FakeKernel();
  const { run } = page(kernel);
  for (let i = 0; i < 100; i++) kernel.addSteps({ ...step(i), old: 1 });
  kernel.push();
  kernel.steps.length = 0;
  kernel.addSteps({ ...step(0), action: "new" });
  kernel.push(true);
  expect(run.steps.total).toBe(1);
  expect(actionAt(run, 0)).toBe("new");
  expect(run.steps.row(50)).toBeNull();
  expect(run.steps.columns.map(({ name }) => name)).not.toContain("old");
});

test("a message that is none is kept as a fault until a sound one comes", () => {
  const kernel = new FakeKernel();
  const { run } = page(kernel);
  kernel.say({ kind: "dance" });
  expect(run.fault).toContain("dance");
  kernel.push();
  expect(run.fault).toBe("");
});

test("a closed run asks nothing and leaves no timer", async () => {
  const kernel = new FakeKernel();
  for (let i = 0; i < 5000; i++) kernel.addSteps(step(i));
  const { run, clock, link } = page(kernel);
  run.want({}, "steps", 1000, 1020);
  link.close();
  run.close();
  expect(clock.pending).toBe(0);
  await clock.pass(10_000);
  expect(asks(kernel)).toHaveLength(0);
});
