// The request channel: a comm of this page's own, on which the kernel only ever replies, so that it answers while a cell is busy
// (src/live_telemetry_widget/view/channel.py says why). Hosts that cannot have one ask over the widget's comm instead.

import type { Clock } from "./link.ts";
import { VERSION } from "./messages.ts";

export const TARGET = "live_telemetry_widget.questions";
/** A host that makes no subshell is not waited for any longer. */
export const SUBSHELL_MS = 1_500;
/** After a channel failed, another is tried. */
const AGAIN_MS = 5_000;

/** The part of a comm that is used here, as the widget managers of Jupyter make it. */
interface Comm {
  open(data: unknown): unknown;
  send(data: unknown): unknown;
  close(): unknown;
  on_msg(callback: (message: { content?: { data?: unknown }; buffers?: unknown[] }) => void): void;
  on_close(callback: () => void): void;
  /** JupyterLab's own comm below. */
  jsServicesComm?: { subshellStarted?: Promise<void>; dispose?(): void };
}

/** The part of a widget manager that is used here. */
export interface CommMaker {
  _create_comm?(target: string, id: string): Promise<Comm>;
}

export interface Channel {
  /** Whether the kernel has said that it hears. */
  readonly open: boolean;
  /** Returns whether it could be sent. */
  send(message: object): boolean;
  /** What was asked over it was not answered: have another. */
  failed(): void;
  close(): void;
}

export interface ChannelHandlers {
  opened(): void;
  received(content: unknown, buffers: DataView[]): void;
}

export function openChannel(maker: CommMaker, viewId: string, handlers: ChannelHandlers, clock: Clock): Channel {
  let comm: Comm | null = null;
  let open = false;
  let closed = false;
  let stopClock = (): void => {};

  const begin = async (): Promise<void> => {
    if (typeof maker._create_comm !== "function") return;
    const made = await maker._create_comm(TARGET, randomId());
    if (closed) return dispose(made);
    comm = made;
    made.on_msg(({ content, buffers }) => {
      if (comm !== made) return;
      const data = content?.data;
      if (isHello(data)) {
        open = true;
        handlers.opened();
      } else {
        handlers.received(data, (buffers ?? []).map(asView));
      }
    });
    made.on_close(() => {
      if (comm === made) lost();
    });
    // Before it has its subshell, what it sends would wait for the cell.
    await Promise.race([made.jsServicesComm?.subshellStarted ?? Promise.resolve(), after(SUBSHELL_MS)]);
    if (comm === made) made.open({ view_id: viewId, version: VERSION });
  };

  const after = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      stopClock = clock.after(milliseconds, resolve);
    });

  const lost = (): void => {
    const again = open && !closed;
    comm = null;
    open = false;
    stopClock();
    // A kernel that never said hello has nobody who would: another was started, or the view is gone from it.
    if (again) stopClock = clock.after(AGAIN_MS, start);
  };

  const start = (): void => {
    // A host that has another idea of comms, or a kernel that is gone: the widget's comm is asked meanwhile.
    begin().catch(() => {
      drop();
      lost();
    });
  };

  const drop = (): void => {
    const held = comm;
    comm = null;
    if (held) dispose(held);
  };

  start();
  return {
    get open() {
      return open;
    },
    send(message) {
      if (!comm || !open) return false;
      try {
        comm.send(message);
        return true;
      } catch {
        // The kernel was started anew, and the comm went with it.
        drop();
        lost();
        return false;
      }
    },
    failed() {
      if (!open) return;
      drop();
      lost();
    },
    close() {
      closed = true;
      open = false;
      stopClock();
      drop();
    },
  };
}

function dispose(comm: Comm): void {
  try {
    comm.close();
  } catch {
    // The kernel is gone, and its end of the comm with it.
    comm.jsServicesComm?.dispose?.();
  }
}

function isHello(data: unknown): boolean {
  return typeof data === "object" && data !== null && (data as { kind?: unknown }).kind === "hello";
}

function asView(buffer: unknown): DataView {
  if (buffer instanceof DataView) return buffer;
  if (buffer instanceof ArrayBuffer) return new DataView(buffer);
  const view = buffer as ArrayBufferView;
  return new DataView(view.buffer, view.byteOffset, view.byteLength);
}

function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
