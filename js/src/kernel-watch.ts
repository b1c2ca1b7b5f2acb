// Whether there is still a kernel behind the page: what its host says of it, and for how long it has said nothing.

import type { Clock, Model } from "./link.ts";

/** Why there is no kernel; "" while there is one, as far as can be known. */
export type Lost = "" | "connection" | "restarted" | "gone" | "silent";

/** What a question is refused with meanwhile. A silent kernel may be busy: it is asked. */
export const WHY: Readonly<Record<Exclude<Lost, "" | "silent">, string>> = {
  connection: "the connection to the kernel is lost",
  restarted: "the kernel was restarted",
  gone: "the kernel is gone",
};

/** Looked at so often; a computer that slept has one look behind it, not a hundred. */
export const LOOK_MS = 5_000;
/** A kernel whose run goes on pushes at least with every second look (live.py). */
export const SILENT_LOOKS = 5;

interface Signal {
  connect(slot: () => void): unknown;
  disconnect(slot: () => void): unknown;
}

/** The part of JupyterLab's connection to a kernel that is used here; other hosts show none. */
interface Connection {
  readonly status?: string;
  readonly connectionStatus?: string;
  readonly isDisposed?: boolean;
  readonly statusChanged?: Signal;
  readonly connectionStatusChanged?: Signal;
  readonly disposed?: Signal;
}

export interface KernelWatch {
  readonly lost: Lost;
  /** The kernel has said something: whatever was thought of it, it is there. */
  heard(): void;
  close(): void;
}

export interface WatchOptions {
  /** Whether the kernel, if it lives, says something every now and then. */
  expecting(): boolean;
  changed(lost: Lost): void;
}

/** A kernel that was started anew knows nothing of this page, so only its word ends that; a connection comes and goes. */
export function watchKernel(model: Model, { expecting, changed }: WatchOptions, clock: Clock): KernelWatch {
  const manager = model.widget_manager as { kernel?: Connection | null } | undefined;
  const kernel = manager?.kernel ?? null;
  let lost: Lost = "";
  let ended: Lost = "";
  let looks = 0;

  const decide = (): void => {
    const away = kernel?.connectionStatus !== undefined && kernel.connectionStatus !== "connected";
    const now: Lost = ended || (away ? "connection" : looks >= SILENT_LOOKS ? "silent" : "");
    if (now === lost) return;
    lost = now;
    changed(now);
  };
  const onKernel = (): void => {
    const status = kernel?.status ?? "";
    if (kernel?.isDisposed || status === "dead" || status === "terminating") ended = "gone";
    else if (status.endsWith("restarting")) ended = "restarted";
    decide();
  };
  const onDisposed = (): void => {
    ended ||= "gone";
    decide();
  };
  /** Widget managers say so of every model when they know that nobody is at its other end. */
  const onDead = (): void => {
    ended ||= "restarted";
    decide();
  };
  const look = (): void => {
    looks = expecting() ? looks + 1 : 0;
    decide();
    stopClock = clock.after(LOOK_MS, look);
  };

  let stopClock = clock.after(LOOK_MS, look);
  kernel?.statusChanged?.connect(onKernel);
  kernel?.connectionStatusChanged?.connect(onKernel);
  kernel?.disposed?.connect(onDisposed);
  model.on("comm_live_update", onDead);
  model.on("comm:close", onDisposed);
  return {
    get lost() {
      return lost;
    },
    heard() {
      looks = 0;
      ended = "";
      decide();
    },
    close() {
      stopClock();
      kernel?.statusChanged?.disconnect(onKernel);
      kernel?.connectionStatusChanged?.disconnect(onKernel);
      kernel?.disposed?.disconnect(onDisposed);
      model.off("comm_live_update", onDead);
      model.off("comm:close", onDisposed);
    },
  };
}
