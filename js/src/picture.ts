// One canvas that shows a grid: sized to its room, sharp on dense screens; frames are decoded without the page's parser.

import { brief, heat, natural, placed, type Size, trail } from "./layout.ts";
import type { Cell, Grid, Picture } from "./messages.ts";
import { ALL_LAYERS, type Layers, Painter } from "./paint.ts";
import { LayerPainter } from "./paint-layers.ts";
import { plain } from "./plain.ts";
import type { Theme } from "./theme.ts";

/** What lies between the tiles and the things on them. */
export interface Overlay {
  path: readonly Cell[];
  /** How often each cell was visited. */
  visits: readonly { at: Cell; count: number }[];
  /** The best actions of a cell, and the value of the best. */
  policy: readonly { at: Cell; actions: readonly string[]; value: number | null }[];
}

export const NO_OVERLAY: Overlay = { path: [], visits: [], policy: [] };

/** Which layers are shown, those of the overlay included. */
export interface Shown extends Layers {
  path: boolean;
  heat: boolean;
  policy: boolean;
  values: boolean;
}

export const DEFAULT_SHOWN: Shown = { ...ALL_LAYERS, path: true, heat: false, policy: false, values: false };

/** A frame's side that is decoded, at most; what the kernel sends is below. */
const MAX_SIDE = 4096;

/** What a picture shows, in words. */
export function describe(grid: Grid): string {
  const parts = [grid.game || (grid.image ? "frame" : "grid")];
  if (grid.caption) parts.push(grid.caption);
  if (grid.cards) {
    const { player, dealer, usable_ace } = grid.cards;
    parts.push(
      `player has ${player}${usable_ace ? " with a usable ace" : ""}, dealer shows ${dealer === 1 ? "an ace" : dealer}`,
    );
  }
  if (grid.agent) {
    const looks = grid.facing ? ` facing ${grid.facing}` : "";
    parts.push(`agent at row ${grid.agent[0]}, column ${grid.agent[1]}${looks}`);
  }
  for (const { kind, row, col } of grid.marks) {
    if (kind === "passenger" || kind === "destination") parts.push(`${kind} at row ${row}, column ${col}`);
    if (kind === "cracked") parts.push("fallen into a hole");
  }
  if (grid.action) parts.push(`action ${grid.action}`);
  return parts.join(", ");
}

export interface PictureView {
  readonly element: HTMLCanvasElement;
  /** Show a grid in a room; false when there is nothing to draw, or no room. */
  show(grid: Grid, room: Size, overlay?: Overlay, shown?: Shown): boolean;
  /** Paint anew what is shown, after colours changed. */
  forget(): void;
  close(): void;
}

export function makePicture(theme: Theme, faulted: (message: string) => void = () => {}): PictureView {
  const element = document.createElement("canvas");
  element.setAttribute("role", "img");
  let painted = "";
  let paintedData: string | undefined;
  /** The frame that is decoded, and the one that is wanted. */
  let frame: { data: string; bitmap: ImageBitmap } | null = null;
  let wanted: { picture: Picture; paint: () => void } | null = null;
  let decoding = false;
  let closed = false;

  const decode = async (): Promise<void> => {
    if (decoding) return;
    decoding = true;
    // Latest wins: what came while one was decoded is decoded next, what came between is not.
    while (wanted && wanted.picture.data !== frame?.data && !closed) {
      const { picture } = wanted;
      try {
        const bitmap = await createImageBitmap(blobOf(picture));
        frame?.bitmap.close();
        frame = { data: picture.data, bitmap };
        faulted("");
      } catch {
        faulted(`A ${picture.format.toUpperCase()} frame could not be decoded.`);
        if (wanted?.picture === picture) wanted = null;
      }
      if (closed) frame?.bitmap.close();
      else wanted?.paint();
    }
    decoding = false;
  };

  const show = (grid: Grid, room: Size, overlay = NO_OVERLAY, shown = DEFAULT_SHOWN): boolean => {
    const size = natural(grid);
    if (!size || Math.max(size.width, size.height) > MAX_SIDE) return false;
    const words = plain(describe(grid));
    if (element.getAttribute("aria-label") !== words) element.setAttribute("aria-label", words);
    const ratio = devicePixelRatio || 1;
    // A frame's text is long: it is compared, not written down again.
    const key = JSON.stringify([{ ...grid, image: null }, room, overlay, shown, ratio]);
    const data = grid.image?.data;
    if (key === painted && data === paintedData) return true;
    // Between two style sheets (a change of theme) the stage has no size: what is there stays until it has one again.
    const none = Math.min(room.width / size.width, room.height / size.height) <= 0;
    if (none && element.height > 0 && element.style.height) return true;
    painted = key;
    paintedData = data;
    const place = placed(grid, size, room);
    const paint = (): void => {
      element.width = Math.round(place.width * ratio);
      element.height = Math.round(place.height * ratio);
      element.style.width = `${place.width}px`;
      element.style.height = `${place.height}px`;
      const pen = element.getContext("2d");
      if (!pen) return;
      if (grid.image) {
        if (!frame) return;
        pen.imageSmoothingEnabled = place.cell * ratio < 2;
        pen.drawImage(frame.bitmap, 0, 0, element.width, element.height);
        return;
      }
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      const painter = new Painter(pen, place.cell, theme);
      if (grid.cards) {
        painter.cards(grid.cards, place.width, place.height);
        return;
      }
      const layers = new LayerPainter(pen, place.cell, theme);
      painter.ground(grid);
      paintVisits(layers, overlay, shown);
      painter.letters(grid);
      if (shown.path) layers.trail(trail(overlay.path));
      painter.things(grid, shown);
      paintPolicy(layers, overlay, shown);
    };
    if (grid.image && grid.image.data !== frame?.data) {
      // The last frame stays until this one is there.
      wanted = { picture: grid.image, paint };
      void decode();
    } else paint();
    return true;
  };

  return {
    element,
    show,
    forget() {
      painted = "";
    },
    close() {
      closed = true;
      wanted = null;
      if (!decoding) frame?.bitmap.close();
    },
  };
}

function paintVisits(layers: LayerPainter, { visits }: Overlay, shown: Shown): void {
  if (!shown.heat) return;
  const most = Math.max(0, ...visits.map(({ count }) => count));
  for (const { at, count } of visits) layers.tint(at[0], at[1], heat(count, most));
}

function paintPolicy(layers: LayerPainter, { policy }: Overlay, shown: Shown): void {
  for (const { at, actions, value } of policy) {
    if (shown.policy) layers.policy(at[0], at[1], actions);
    if (shown.values && value !== null) layers.value(at[0], at[1], brief(value), shown.policy ? actions : []);
  }
}

function blobOf({ data, format }: Picture): Blob {
  const text = atob(data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Blob([bytes], { type: `image/${format}` });
}
