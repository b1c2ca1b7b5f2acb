import { expect, test, vi } from "vitest";
import { BLANK, FakeKernel } from "../fake-kernel.ts";
import { LOOK_MS, SILENT_LOOKS } from "../src/kernel-watch.ts";
import { type Model, openLink } from "../src/link.ts";
import { RunState } from "../src/run-state.ts";
import { FakeClock, settled } from "./fakes.ts";

function page(state: Partial<typeof BLANK> = {}) {
  const kernel = new FakeKernel();
  kernel.state = { ...BLANK, ...state };
  const clock = new FakeClock();
  const run = new RunState({ clock });
  const link = openLink(kernel.model as unknown as Model, run, clock);
  run.connect(link);
  const readies = (): number => kernel.heard.filter(({ kind }) => kind === "ready").length;
  return { kernel, clock, run, link, readies };
}

test.each([
  ["a restart", { status: "restarting" }, "restarted", /was restarted/],
  ["a kernel that died and is started anew", { status: "autorestarting" }, "restarted", /was restarted/],
  ["a kernel that is shut down", { status: "terminating" }, "gone", /is gone/],
  ["a dead kernel", { status: "dead" }, "gone", /is gone/],
])("%s is for good: nothing is asked any more, and being idle again proves nothing", async (_, change, lost, why) => {
  const { kernel, run, link } = page();
  kernel.deliver = () => {};
  const early = link.ask("ask_rows", {});
  kernel.become(change);
  expect(run.lost).toBe(lost);
  expect(run.isStatic).toBe(true);
  await expect(early).rejects.toThrow(why);
  const heard = kernel.heard.length;
  await expect(link.ask("ask_rows", {})).rejects.toThrow(why);
  kernel.become({ status: "idle" });
  kernel.become({ connectionStatus: "connecting" });
  kernel.become({ connectionStatus: "connected" });
  expect(run.lost).toBe(lost);
  expect(kernel.heard).toHaveLength(heard);
  // Only its word is proof.
  kernel.push();
  expect(run.lost).toBe("");
});

test("a connection that comes back begins with all that the kernel has", async () => {
  const { kernel, run, readies } = page();
  kernel.become({ status: "busy" });
  expect(run.lost).toBe("");
  kernel.become({ connectionStatus: "connecting" });
  expect(run.lost).toBe("connection");
  kernel.addSteps({ episode: 0, step_index: 0 });
  expect(readies()).toBe(1);
  kernel.become({ connectionStatus: "connected" });
  expect(readies()).toBe(2);
  expect(run.lost).toBe("");
  expect(run.steps.total).toBe(1);
});

test("a host that disposes of the connection, or says that the model is dead, has no kernel for this page", () => {
  const disposed = page();
  disposed.kernel.connection.disposed.emit();
  expect(disposed.run.lost).toBe("gone");
  const dead = page();
  dead.kernel.emit("comm_live_update");
  expect(dead.run.lost).toBe("restarted");
  const closed = page();
  closed.kernel.emit("comm:close");
  expect(closed.run.lost).toBe("gone");
});

test("rows that are wanted wait for a kernel, and are asked for when there is one", async () => {
  const { kernel, clock, run } = page();
  kernel.state = { ...BLANK };
  for (let i = 0; i < 2_000; i++) kernel.addSteps({ episode: 0, step_index: i });
  kernel.push();
  kernel.become({ connectionStatus: "disconnected" });
  run.want({}, "steps", 0, 20);
  await clock.pass(60_000);
  expect(kernel.heard.filter(({ kind }) => kind === "ask_rows")).toEqual([]);
  kernel.become({ connectionStatus: "connected" });
  await clock.pass(1_000);
  await settled();
  expect(run.steps.row(0)).not.toBeNull();
});

test("a kernel that says nothing of a run that goes on is told of, and is asked nevertheless", async () => {
  const { kernel, clock, run, link } = page({ steps: 1 });
  for (let i = 0; i < 10; i++) {
    await clock.pass((SILENT_LOOKS - 1) * LOOK_MS);
    kernel.push();
  }
  expect(run.lost).toBe("");
  await clock.pass(SILENT_LOOKS * LOOK_MS);
  expect(run.lost).toBe("silent");
  expect(run.isStatic).toBe(false);
  await link.ask("ask_rows", { table: "steps", first: 0, count: 1 });
  expect(run.lost).toBe("");
});

test.each([
  [{ status: "completed" }],
  [{ status: "failed" }],
  [{ connection: { state: "recording" as const, attempt: 0, retry_at: 0, message: "" } }],
])("of a run that is %j nothing is expected", async (state) => {
  const { clock, run } = page(state);
  await clock.pass(100 * LOOK_MS);
  expect(run.lost).toBe("");
});

test("a page that the kernel never spoke to says so", async () => {
  const { clock, run } = (() => {
    const kernel = new FakeKernel();
    kernel.deliver = () => {};
    const clock = new FakeClock();
    const run = new RunState({ clock });
    openLink(kernel.model as unknown as Model, run, clock);
    return { clock, run };
  })();
  await clock.pass(SILENT_LOOKS * LOOK_MS);
  expect(run.lost).toBe("silent");
});

test("after it is closed nothing listens and no clock runs", () => {
  const { kernel, clock, link } = page();
  link.close();
  expect(kernel.listeners).toBe(0);
  expect(clock.pending).toBe(0);
});

test("hosts that show nothing of their kernel are as well as any", () => {
  const kernel = new FakeKernel();
  const model = { ...kernel.model, widget_manager: {} };
  const handlers = { push: vi.fn(), late: vi.fn(), faulted: vi.fn(), kernel: vi.fn(), expecting: true };
  openLink(model as unknown as Model, handlers, new FakeClock()).close();
  expect(handlers.kernel).not.toHaveBeenCalled();
});
