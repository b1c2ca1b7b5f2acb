// The grid view: the picture of a step, with its caption.

import { makePicture } from "./picture.ts";
import type { RunState } from "./run-state.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

export function makeGrid(run: RunState, theme: Theme): View & { repaint(): void } {
  const element = document.createElement("figure");
  element.className = "ltw-grid";
  const stage = document.createElement("div");
  stage.className = "ltw-stage";
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  const fault = (message: string): void => {
    where.title = message;
  };
  const picture = makePicture(theme, fault);
  const canvas = picture.element;
  canvas.dataset.testid = "ltw-grid";
  stage.append(canvas, nothing);
  const caption = document.createElement("figcaption");
  const where = document.createElement("span");
  const action = document.createElement("span");
  action.className = "ltw-action";
  caption.append(where, action);
  element.append(stage, caption);

  const repaint = (): void => {
    picture.forget();
    update();
  };
  const resized = new ResizeObserver(repaint);
  resized.observe(stage);

  const update = (): void => {
    const grid = run.state?.grid ?? null;
    const room = { width: stage.clientWidth, height: stage.clientHeight };
    const empty = !grid || !picture.show(grid, room, { path: grid.path ?? [], visits: [], policy: [] });
    canvas.hidden = empty;
    nothing.hidden = !empty;
    caption.hidden = empty;
    if (empty) {
      nothing.textContent = (run.state?.steps ?? 0) > 0 ? "Nothing to draw in these steps." : "No picture yet.";
      canvas.setAttribute("aria-label", "no grid yet");
      return;
    }
    where.textContent = grid.caption || grid.game;
    where.title = [grid.game, grid.caption].filter(Boolean).join(", ");
    action.textContent = grid.action ? `action: ${grid.action}` : "";
  };

  return {
    element,
    update,
    repaint,
    close() {
      resized.disconnect();
      picture.close();
    },
  };
}
