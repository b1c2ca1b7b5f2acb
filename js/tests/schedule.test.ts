import { expect, test, vi } from "vitest";
import { scheduled } from "../src/schedule.ts";

function fakeFrames() {
  const waiting = new Map<number, () => void>();
  let next = 1;
  return {
    waiting,
    request: (callback: () => void): number => {
      waiting.set(next, callback);
      return next++;
    },
    cancel: (handle: number): void => void waiting.delete(handle),
    frame(): void {
      const now = [...waiting.values()];
      waiting.clear();
      for (const callback of now) callback();
    },
  };
}

test("many requests are one piece of work in the next frame", () => {
  const frames = fakeFrames();
  const work = vi.fn();
  const soon = scheduled(work, frames);
  for (let i = 0; i < 100; i++) soon.request();
  expect(work).not.toHaveBeenCalled();
  expect(frames.waiting.size).toBe(1);
  frames.frame();
  expect(work).toHaveBeenCalledTimes(1);
  frames.frame();
  expect(work).toHaveBeenCalledTimes(1);
});

test("work may ask for the next frame", () => {
  const frames = fakeFrames();
  let done = 0;
  const soon = scheduled(() => {
    if (++done < 3) soon.request();
  }, frames);
  soon.request();
  for (let i = 0; i < 5; i++) frames.frame();
  expect(done).toBe(3);
});

test("after close nothing is done, and the frame is given back", () => {
  const frames = fakeFrames();
  const work = vi.fn();
  const soon = scheduled(work, frames);
  soon.request();
  soon.close();
  expect(frames.waiting.size).toBe(0);
  soon.request();
  frames.frame();
  expect(work).not.toHaveBeenCalled();
});
