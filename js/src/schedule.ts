// Latest wins: however often work is asked for, it is done once, in the next animation frame.

export interface Frames {
  request(callback: () => void): number;
  cancel(handle: number): void;
}

export const browserFrames: Frames = {
  request: (callback) => requestAnimationFrame(callback),
  cancel: (handle) => cancelAnimationFrame(handle),
};

export interface Scheduled {
  /** Ask for the work in the next frame; asking again before it changes nothing. */
  request(): void;
  /** Never do it again. */
  close(): void;
}

export function scheduled(work: () => void, frames: Frames = browserFrames): Scheduled {
  let pending: number | null = null;
  let closed = false;
  return {
    request() {
      if (closed || pending !== null) return;
      pending = frames.request(() => {
        pending = null;
        if (!closed) work();
      });
    },
    close() {
      closed = true;
      if (pending !== null) frames.cancel(pending);
      pending = null;
    },
  };
}
