// The only file that touches the anywidget model: kernel messages in, questions out.

import type { AnyModel } from "@anywidget/types";
import { type Acks, makeAcks } from "./acks.ts";
import { type Channel, type CommMaker, openChannel } from "./channel.ts";
import { type Lost, WHY, watchKernel } from "./kernel-watch.ts";
import {
  type AnswerMessage,
  type AnswerSpan,
  type KernelMessage,
  type Push,
  parseMessage,
  type Seen,
  VERSION,
} from "./messages.ts";

/** What of a model is used here, so that a test or a report can be one. */
export type Model = Pick<AnyModel, "get" | "on" | "off" | "send"> & { readonly widget_manager?: unknown };

export interface Clock {
  now(): number;
  after(milliseconds: number, callback: () => void): () => void;
}

export const browserClock: Clock = {
  now: () => Date.now(),
  after: (milliseconds, callback) => {
    const handle = setTimeout(callback, milliseconds);
    return () => clearTimeout(handle);
  },
};

/** The kernel has understood a question and says why it has no answer to it. */
export class RefusedError extends Error {
  override name = "RefusedError";
}

export interface Answer {
  spans: AnswerSpan[];
  buffers: DataView[];
  /** Everything that stands in the answer; whoever asked checks what it takes from it. */
  fields: Readonly<Record<string, unknown>>;
}

export interface Handlers {
  push(push: Push, buffers: DataView[]): void;
  /** What this page asked for and no longer waits for: the kernel was busy for longer than the timeout. */
  late(kind: string, answer: Answer): void;
  /** A message that is none; text for a person. */
  faulted(message: string): void;
  /** There is no kernel any more, or there is one again. */
  kernel(lost: Lost): void;
  /** Whether the kernel, if it lives, pushes every now and then. */
  readonly expecting: boolean;
}

export interface Link {
  /**
   * Ask the kernel. Fails with its words when it refuses, at once when there is none, and with an Error when it does not answer in
   * time: while a cell is busy it may not, and the page must be useful meanwhile.
   */
  ask(kind: string, fields: Record<string, unknown>): Promise<Answer>;
  close(): void;
}

export const ASK_TIMEOUT_MS = 15_000;
const MOST_EXPIRED = 64;

interface Waiting {
  message: object;
  resolve(answer: Answer): void;
  reject(reason: Error): void;
  stopClock(): void;
}

/**
 * Listen to a model and tell its kernel that a page is here.
 *
 * The kernel's answers reach every page that shows the model (two browsers on one kernel), so ids start at a random number
 * and an answer to somebody else's question is left alone.
 */
export function openLink(model: Model, handlers: Handlers, clock: Clock = browserClock, random = Math.random): Link {
  let nextId = 1 + Math.floor(random() * 2 ** 30) * 2 ** 20;
  const waiting = new Map<number, Waiting>();
  /** What was not answered in time, by number. */
  const expired = new Map<number, string>();

  const receive = (content: unknown, views: DataView[] = []): void => {
    let message: KernelMessage;
    try {
      message = parseMessage(content);
      watch.heard();
      const named = message.kind === "refused" ? 0 : message.spans.length + ("curves" in message ? 1 : 0);
      if (named > views.length) {
        throw new Error(`a ${message.kind} names ${named} buffers and brings ${views.length}`);
      }
      if (message.kind === "push") pushed(message, views);
      else if (message.kind === "answer") answered(message, views);
      else settle(message.id)?.reject(new RefusedError(message.message));
    } catch (error) {
      handlers.faulted(error instanceof Error ? error.message : String(error));
    }
  };

  const pushed = (push: Push, buffers: DataView[]): void => {
    const begun = performance.now();
    handlers.push(push, buffers);
    acks?.pushed(push.number, performance.now() - begun);
  };

  const answered = (message: AnswerMessage, buffers: DataView[]): void => {
    const answer: Answer = { spans: message.spans, buffers, fields: message };
    const asked = settle(message.id);
    const kind = expired.get(message.id);
    expired.delete(message.id);
    if (asked) asked.resolve(answer);
    else if (kind !== undefined) handlers.late(kind, answer);
  };

  const settle = (id: number): Waiting | undefined => {
    const held = waiting.get(id);
    waiting.delete(id);
    held?.stopClock();
    return held;
  };

  const onKernel = (lost: Lost): void => {
    // What was said while nobody was connected is lost, so the page begins anew with what the kernel has.
    if (lost === "") model.send({ kind: "ready", version: VERSION });
    else if (lost !== "silent") for (const id of [...waiting.keys()]) settle(id)?.reject(new Error(WHY[lost]));
    handlers.kernel(lost);
  };
  const watch = watchKernel(model, { expecting: () => handlers.expecting, changed: onKernel }, clock);

  let acks: Acks | null = null;

  const onOpen = (): void => {
    acks ??= makeAcks((ack) => {
      const seen: Seen = { kind: "seen", version: VERSION, ...ack };
      channel?.send(seen);
    }, clock);
    // What was asked over the widget's comm may wait for a cell there; an answer that comes twice is left alone.
    for (const { message } of waiting.values()) channel?.send(message);
  };

  const send = (message: object): void => {
    if (!channel?.send(message)) model.send(message);
  };

  model.on("msg:custom", receive);
  model.send({ kind: "ready", version: VERSION });
  const maker = model.widget_manager as CommMaker | undefined;
  const viewId = String(model.get("view_id"));
  const channel: Channel | null = maker
    ? openChannel(maker, viewId, { opened: onOpen, received: receive }, clock)
    : null;

  return {
    ask(kind, fields) {
      const { lost } = watch;
      if (lost !== "" && lost !== "silent") return Promise.reject(new Error(WHY[lost]));
      const id = nextId++;
      const message = { ...fields, kind, version: VERSION, id };
      return new Promise<Answer>((resolve, reject) => {
        const stopClock = clock.after(ASK_TIMEOUT_MS, () => {
          channel?.failed();
          expired.set(id, kind);
          for (const [oldest] of expired) if (expired.size > MOST_EXPIRED) expired.delete(oldest);
          settle(id)?.reject(new Error(`the kernel did not answer within ${ASK_TIMEOUT_MS / 1000} s`));
        });
        waiting.set(id, { message, resolve, reject, stopClock });
        try {
          send(message);
        } catch (error) {
          settle(id)?.reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    },
    close() {
      model.off("msg:custom", receive);
      watch.close();
      acks?.close();
      channel?.close();
      for (const id of [...waiting.keys()]) settle(id)?.reject(new Error("the view was closed"));
    },
  };
}
