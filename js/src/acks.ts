// Tells the kernel now and then that what it pushed is shown, and what a push costs the page: the kernel paces itself by that.

import type { Clock } from "./link.ts";
import { browserFrames, type Frames } from "./schedule.ts";

/** One in so many milliseconds is enough: each costs the kernel as much as a question. */
export const ACK_EVERY_MS = 1_000;

export interface Acks {
  /** A push was taken in, which took so long. */
  pushed(number: number, milliseconds: number): void;
  close(): void;
}

export type SendAck = (ack: { number: number; cost: number; hidden: boolean }) => void;

export function makeAcks(send: SendAck, clock: Clock, frames: Frames = browserFrames): Acks {
  let newest = 0;
  let shown = 0;
  let told = 0;
  let toldAt = Number.NEGATIVE_INFINITY;
  let cost = 0;
  let taken = 0;
  let frame: number | null = null;
  let stopClock: (() => void) | null = null;

  const tell = (): void => {
    stopClock?.();
    stopClock = null;
    told = shown;
    toldAt = clock.now();
    send({ number: shown, cost: Math.round(cost * 10) / 10, hidden: document.hidden });
  };

  const show = (): void => {
    frame = null;
    const begun = performance.now();
    const [number, before] = [newest, taken];
    taken = 0;
    // A task after the frame's: what is drawn for it was drawn.
    clock.after(0, () => {
      const spent = before + performance.now() - begun;
      cost = cost === 0 ? spent : cost * 0.8 + spent * 0.2;
      shown = number;
      if (stopClock === null && shown > told)
        stopClock = clock.after(Math.max(0, toldAt + ACK_EVERY_MS - clock.now()), tell);
    });
  };

  const onVisibility = (): void => {
    if (newest > 0) tell();
  };
  document.addEventListener("visibilitychange", onVisibility);

  return {
    pushed(number, milliseconds) {
      newest = number;
      if (document.hidden) {
        // No frame will come, and hardly a timer.
        shown = number;
        if (clock.now() - toldAt > ACK_EVERY_MS * 0.9) tell();
        return;
      }
      taken += milliseconds;
      frame ??= frames.request(show);
    },
    close() {
      document.removeEventListener("visibilitychange", onVisibility);
      if (frame !== null) frames.cancel(frame);
      stopClock?.();
      stopClock = null;
    },
  };
}
