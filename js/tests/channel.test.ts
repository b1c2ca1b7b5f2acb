// @vitest-environment jsdom
import { expect, test, vi } from "vitest";
import { FakeKernel, toArrow } from "../fake-kernel.ts";
import { SUBSHELL_MS } from "../src/channel.ts";
import { ASK_TIMEOUT_MS, type Model, openLink } from "../src/link.ts";
import { VERSION } from "../src/messages.ts";
import { FakeClock, settled } from "./fakes.ts";

type OnMessage = (message: { content: { data: unknown }; buffers?: unknown[] }) => void;

class FakeComm {
  readonly sent: Record<string, unknown>[] = [];
  opened: unknown = null;
  closed = false;
  say: OnMessage = () => {};
  lose = (): void => {};
  constructor(readonly jsServicesComm: { subshellStarted: Promise<void> }) {}
  open(data: unknown): void {
    this.opened = data;
  }
  send(data: unknown): void {
    this.sent.push(data as Record<string, unknown>);
  }
  close(): void {
    this.closed = true;
  }
  on_msg(callback: OnMessage): void {
    this.say = callback;
  }
  on_close(callback: () => void): void {
    this.lose = callback;
  }
}

function page(subshell: Promise<void> = Promise.resolve()) {
  const kernel = new FakeKernel();
  kernel.traits.view_id = "v1";
  const comms: FakeComm[] = [];
  const widget_manager = {
    _create_comm: async () => {
      const comm = new FakeComm({ subshellStarted: subshell });
      comms.push(comm);
      return comm;
    },
  };
  const clock = new FakeClock();
  const handlers = { push: vi.fn(), late: vi.fn(), faulted: vi.fn(), kernel: vi.fn(), expecting: false };
  const link = openLink({ ...kernel.model, widget_manager } as unknown as Model, handlers, clock, () => 0.5);
  return { kernel, comms, clock, handlers, link };
}

const hello = { content: { data: { kind: "hello", version: VERSION } } };
const asked = (kernel: FakeKernel) => kernel.heard.filter(({ kind }) => kind === "ask_rows");

test("what was asked before the channel opened is asked over it again, and what comes then only there", async () => {
  const { kernel, comms, clock, handlers, link } = page();
  kernel.deliver = () => {};
  const early = link.ask("ask_rows", { table: "steps", first: 0, count: 1 });
  await clock.pass(0);
  const comm = comms[0] as FakeComm;
  expect(comm.opened).toEqual({ view_id: "v1", version: VERSION });
  expect(asked(kernel)).toHaveLength(1);
  comm.say(hello);
  const late = link.ask("ask_rows", { table: "steps", first: 5, count: 1 });
  expect(comm.sent.map(({ first }) => first)).toEqual([0, 5]);
  expect(asked(kernel)).toHaveLength(1);
  // A buffer may come as a view of a larger one.
  const rows = toArrow([{ step_index: 0 }]);
  for (const { id } of comm.sent) {
    const data = { kind: "answer", version: VERSION, id, spans: [{ table: "steps", first: 0, count: 1, total: 1 }] };
    comm.say({ content: { data }, buffers: [new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength)] });
  }
  expect((await early).buffers[0]?.byteLength).toBe(rows.byteLength);
  await late;
  expect(handlers.faulted).not.toHaveBeenCalled();
  link.close();
  expect(comm.closed).toBe(true);
  expect(clock.pending).toBe(0);
});

test("a host without subshells is not waited for, and one without such comms is asked over the widget's", async () => {
  const { comms, clock, link } = page(new Promise(() => {}));
  await settled();
  await clock.pass(SUBSHELL_MS - 1);
  expect(comms[0]?.opened).toBeNull();
  await clock.pass(1);
  expect(comms[0]?.opened).not.toBeNull();
  link.close();

  const kernel = new FakeKernel();
  kernel.addSteps({ step_index: 0 });
  const handlers = { push: vi.fn(), late: vi.fn(), faulted: vi.fn(), kernel: vi.fn(), expecting: false };
  const other = openLink({ ...kernel.model, widget_manager: {} } as unknown as Model, handlers, clock, () => 0.5);
  await settled();
  expect((await other.ask("ask_rows", { table: "steps", first: 0, count: 1 })).spans[0]?.count).toBe(1);
  other.close();
});

test("a channel that does not answer is given up for another; meanwhile the widget's comm is asked", async () => {
  const { kernel, comms, clock, link } = page();
  await clock.pass(0);
  comms[0]?.say(hello);
  kernel.deliver = () => {};
  const failed = expect(link.ask("ask_rows", { table: "steps", first: 0, count: 1 })).rejects.toThrow("did not answer");
  await clock.pass(ASK_TIMEOUT_MS);
  await failed;
  expect(comms[0]?.closed).toBe(true);
  const again = expect(link.ask("ask_rows", { table: "steps", first: 0, count: 1 })).rejects.toThrow("closed");
  expect(asked(kernel)).toHaveLength(1);
  await clock.pass(5_000);
  expect(comms).toHaveLength(2);
  comms[1]?.say(hello);
  expect(comms[1]?.sent).toHaveLength(1);
  // The kernel closes its end: as if there had been none.
  comms[1]?.lose();
  expect(asked(kernel)).toHaveLength(1);
  link.close();
  await again;
  expect(clock.pending).toBe(0);
});

test("what is shown is told at most once a second, with the newest number", async () => {
  const frames: (() => void)[] = [];
  vi.stubGlobal("requestAnimationFrame", (callback: () => void) => frames.push(callback));
  vi.stubGlobal("cancelAnimationFrame", () => {});
  try {
    const { kernel, comms, clock, link } = page();
    await clock.pass(0);
    const comm = comms[0] as FakeComm;
    comm.say(hello);
    const seen = () => comm.sent.filter(({ kind }) => kind === "seen").map(({ number }) => number);
    const show = async (): Promise<void> => {
      for (const frame of frames.splice(0)) frame();
      await clock.pass(1);
    };
    kernel.push();
    kernel.push();
    expect(frames).toHaveLength(1);
    await show();
    expect(seen()).toEqual([kernel.pushes]);
    kernel.push();
    await show();
    kernel.push();
    await show();
    expect(seen()).toHaveLength(1);
    await clock.pass(1_000);
    expect(seen()).toEqual([kernel.pushes - 2, kernel.pushes]);
    link.close();
    expect(clock.pending).toBe(0);
  } finally {
    vi.unstubAllGlobals();
  }
});
