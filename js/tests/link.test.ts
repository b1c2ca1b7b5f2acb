import { expect, test, vi } from "vitest";
import { BLANK, FakeKernel, toArrow } from "../fake-kernel.ts";
import { type Answer, ASK_TIMEOUT_MS, type Handlers, type Model, openLink } from "../src/link.ts";
import type { Push } from "../src/messages.ts";
import { VERSION } from "../src/messages.ts";
import { FakeClock } from "./fakes.ts";

function page(kernel: FakeKernel, random = 0.5) {
  const clock = new FakeClock();
  const handlers = {
    push: vi.fn<Handlers["push"]>(),
    late: vi.fn<Handlers["late"]>(),
    faulted: vi.fn<Handlers["faulted"]>(),
    kernel: vi.fn<Handlers["kernel"]>(),
    expecting: true,
  };
  const link = openLink(kernel.model as unknown as Model, handlers, clock, () => random);
  return { clock, handlers, link };
}

const answer = (id: unknown, first = 0): [object, DataView[]] => [
  { kind: "answer", version: VERSION, id, spans: [{ table: "steps", first, count: 1, total: 9 }] },
  [toArrow([{ step_index: first }])],
];

test("says that it is ready, and hands pushes on with their buffers", () => {
  const kernel = new FakeKernel();
  const { handlers } = page(kernel);
  expect(kernel.heard).toEqual([{ kind: "ready", version: VERSION }]);
  expect(handlers.push).toHaveBeenCalledTimes(1);
  const [push, buffers] = handlers.push.mock.calls[0] as [Push, DataView[]];
  expect(push.keyframe).toBe(true);
  expect(buffers).toHaveLength(push.spans.length + 1); // and the curves
});

test("answers find their question, in whatever order they come", async () => {
  const kernel = new FakeKernel();
  kernel.deliver = () => {};
  const { link } = page(kernel);
  const one = link.ask("ask_rows", { table: "steps", first: 1, count: 1 });
  const two = link.ask("ask_rows", { table: "steps", first: 2, count: 1 });
  const [, first, second] = kernel.heard;
  expect(second).toMatchObject({ kind: "ask_rows", table: "steps", first: 2, count: 1 });
  kernel.say(...answer(second?.id, 2));
  kernel.say(...answer(first?.id, 1));
  expect((await one).spans[0]?.first).toBe(1);
  expect((await two).spans[0]?.first).toBe(2);
});

test("another page's answers are left alone", async () => {
  const kernel = new FakeKernel();
  kernel.deliver = () => {};
  const mine = page(kernel, 0.25);
  const theirs = page(kernel, 0.75);
  const asked = theirs.link.ask("ask_rows", { table: "steps", first: 4, count: 1 });
  kernel.say(...answer(kernel.heard.at(-1)?.id, 4));
  expect((await asked).spans[0]?.first).toBe(4);
  expect(mine.handlers.late).not.toHaveBeenCalled();
  expect(mine.handlers.faulted).not.toHaveBeenCalled();
});

test("a question without an answer fails after its time; an answer that comes later is still taken", async () => {
  const kernel = new FakeKernel();
  kernel.deliver = () => {};
  const { link, clock, handlers } = page(kernel);
  const asked = link.ask("ask_rows", { table: "steps", first: 1, count: 1 });
  const failed = expect(asked).rejects.toThrow("did not answer within 15 s");
  await clock.pass(ASK_TIMEOUT_MS);
  await failed;
  kernel.say(...answer(kernel.heard.at(-1)?.id, 1));
  expect(handlers.late).toHaveBeenCalledTimes(1);
  const [kind, late] = handlers.late.mock.calls[0] as [string, Answer];
  expect(kind).toBe("ask_rows");
  expect(late.spans[0]?.first).toBe(1);
});

test("a refusal fails the question with the kernel's words", async () => {
  const kernel = new FakeKernel();
  kernel.deliver = () => {};
  const { link, clock } = page(kernel);
  const asked = link.ask("ask_rows", { table: "steps", first: 1, count: 1 });
  kernel.say({ kind: "refused", version: VERSION, id: kernel.heard.at(-1)?.id, message: "no such table" });
  await expect(asked).rejects.toThrow("no such table");
  // Only the next look at whether the kernel lives.
  expect(clock.pending).toBe(1);
});

test("what is no message is told, and the next one still counts", () => {
  const kernel = new FakeKernel();
  const { handlers } = page(kernel);
  kernel.say({ kind: "push", version: VERSION + 1 });
  expect(handlers.faulted).toHaveBeenLastCalledWith(expect.stringContaining("reload the page"));
  kernel.say(
    {
      kind: "push",
      version: VERSION,
      number: 1,
      keyframe: true,
      state: BLANK,
      spans: [{ table: "steps", first: 0, count: 0, total: 0 }],
    },
    [],
  );
  expect(handlers.faulted).toHaveBeenLastCalledWith("a push names 1 buffers and brings 0");
  handlers.push.mockClear();
  kernel.push();
  expect(handlers.push).toHaveBeenCalledTimes(1);
});

test("a closed link hears nothing, fails what it waited for and leaves no timer", async () => {
  const kernel = new FakeKernel();
  kernel.deliver = () => {};
  const { link, clock, handlers } = page(kernel);
  const asked = link.ask("ask_rows", { table: "steps", first: 1, count: 1 });
  link.close();
  await expect(asked).rejects.toThrow("closed");
  expect(clock.pending).toBe(0);
  expect(kernel.listeners).toBe(0);
  kernel.push();
  expect(handlers.push).not.toHaveBeenCalled();
});
