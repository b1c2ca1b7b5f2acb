// Lines and bands over linear axes on a canvas, with a cursor, a stretch to look at closer, and keys for all of it.

import { browserClock, type Clock } from "./link.ts";
import {
  airy,
  extent,
  lowerBound,
  nearest,
  type Range,
  share,
  tickStep,
  ticks,
  tickText,
  valueAt,
} from "./plot-scale.ts";
import type { Theme } from "./theme.ts";

type Colour = `--ltw-${string}`;
type Values = readonly (number | null)[];

export interface Line {
  /** Ascending, as long as the others. What is null or not finite is a gap. */
  x: readonly number[];
  y: Values;
  /** Behind the line: from `low` to `high` a band, or each point by itself. */
  dots: boolean;
  low: Values;
  high: Values;
  colour: Colour;
  dash: readonly number[];
}

export interface Hands {
  /** The cursor is at `x`; null: nowhere. */
  moved(x: number | null): void;
  /** A click or Enter; `y` null where no height was meant. */
  chosen(x: number, y: number | null): void;
  zoomed(range: Range | null): void;
}

export interface Plot {
  readonly element: HTMLElement;
  /** What is looked at closer; null: everything. */
  readonly zoom: Range | null;
  /** Where the cursor is. */
  readonly cursor: number | null;
  /** Draw these lines, and a mark (null: none) across them. */
  show(lines: readonly Line[], mark: number | null): void;
  setZoom(range: Range | null): void;
  /** Draw again: colours or sizes changed. */
  repaint(): void;
  close(): void;
}

const BOTTOM = 20;
const TOP = 8;
const RIGHT = 12;
/** A drag shorter than this is a click. */
const DRAG = 4;
/** A second click that comes within this time takes the first one back. */
const SECOND_CLICK_MS = 250;

interface Box {
  left: number;
  width: number;
  height: number;
  x: Range;
  y: Range;
}

export function makePlot(theme: Theme, hands: Hands, clock: Clock = browserClock): Plot {
  const element = document.createElement("div");
  element.className = "ltw-stage";
  element.tabIndex = 0;
  element.setAttribute("role", "slider");
  element.setAttribute("aria-valuenow", "0");
  // The cursor has a canvas of its own: moving it draws no line anew.
  const [ground, above] = [document.createElement("canvas"), document.createElement("canvas")];
  element.append(ground, above);

  let lines: readonly Line[] = [];
  let mark: number | null = null;
  let zoom: Range | null = null;
  let cursor: number | null = null;
  let box: Box | null = null;
  let down: number | null = null;
  let drag: number | null = null;
  let stopChoice: (() => void) | null = null;
  let ratio = 1;

  const toX = (value: number, at: Box): number => at.left + share(at.x, value) * at.width;
  const toY = (value: number, at: Box): number => TOP + (1 - share(at.y, value)) * at.height;
  const fromX = (pixel: number, at: Box): number =>
    valueAt(at.x, Math.min(Math.max((pixel - at.left) / at.width, 0), 1));
  const whole = (): Range => {
    const found = extent(lines.flatMap(({ x }) => [x[0], x.at(-1)])) ?? { low: 0, high: 1 };
    return found.low === found.high ? { low: found.low - 1, high: found.high + 1 } : found;
  };

  /** Which values of a line are seen: those within the range, and one on each side. */
  const seen = ({ x }: Line, range: Range): [first: number, end: number] => [
    Math.max(0, lowerBound(x, range.low) - 1),
    Math.min(x.length, lowerBound(x, range.high) + 2),
  ];

  function sized(canvas: HTMLCanvasElement): CanvasRenderingContext2D | null {
    const { clientWidth: width, clientHeight: height } = element;
    ratio = devicePixelRatio || 1;
    const [across, upright] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== upright) {
      [canvas.width, canvas.height] = [across, upright];
      Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    }
    const pen = canvas.getContext("2d");
    pen?.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen?.clearRect(0, 0, width, height);
    return pen;
  }

  /** In the middle of device pixels. */
  const crisp = (at: number): number => (Math.round(at * ratio) + (Math.max(1, Math.floor(ratio)) % 2) / 2) / ratio;

  function draw(): void {
    const { clientWidth: width, clientHeight: height } = element;
    // Between two style sheets (a change of theme) there is no size: the old picture is better than none.
    if (width < 60 || height < 40) return;
    const pen = sized(ground);
    const some = lines.some(({ x }) => x.length > 0);
    if (!pen || !some) {
      box = null;
      drawAbove();
      return;
    }
    const x = zoom ?? whole();
    const heights = lines.flatMap((line) => {
      const [first, end] = seen(line, x);
      return [line.low, line.high, line.y].map((held) => extent(held.slice(first, end)));
    });
    const y = airy(extent(heights.flatMap((held) => (held ? [held.low, held.high] : []))) ?? { low: 0, high: 1 });
    const inner = height - TOP - BOTTOM;
    pen.font = `11px ${getComputedStyle(element).fontFamily || "sans-serif"}`;
    const step = tickStep(y, Math.max(2, inner / 36));
    const yTicks = ticks(y, step).map((value): [number, string] => [value, tickText(value, step)]);
    const left = Math.ceil(Math.max(24, ...yTicks.map(([, text]) => pen.measureText(text).width)) + 10);
    box = { left, width: width - left - RIGHT, height: inner, x, y };
    drawAxes(pen, box, yTicks);
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, box.width + RIGHT, height - BOTTOM);
    pen.clip();
    for (const line of lines) drawBehind(pen, line, box);
    for (const line of lines) drawLine(pen, line, box);
    if (mark !== null) upright(pen, crisp(toX(mark, box)), theme.colour("--ltw-focus"), 2);
    pen.restore();
    drawAbove();
  }

  function upright(pen: CanvasRenderingContext2D, at: number, colour: string, width: number): void {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.setLineDash([]);
    pen.beginPath();
    pen.moveTo(at, TOP);
    pen.lineTo(at, TOP + (box?.height ?? 0));
    pen.stroke();
  }

  function drawAxes(pen: CanvasRenderingContext2D, at: Box, yTicks: readonly [number, string][]): void {
    const bottom = TOP + at.height;
    const widest = pen.measureText(tickText(at.x.high, 1)).width;
    const step = tickStep(at.x, Math.max(2, at.width / (widest + 36)), 1);
    pen.strokeStyle = theme.colour("--ltw-rule");
    pen.fillStyle = theme.colour("--ltw-muted");
    pen.lineWidth = Math.max(1, Math.floor(ratio)) / ratio;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.beginPath();
    for (const [value, text] of yTicks) {
      const y = crisp(toY(value, at));
      pen.moveTo(at.left - 4, y);
      pen.lineTo(at.left + at.width, y);
      pen.fillText(text, at.left - 7, y);
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const value of ticks(at.x, step)) {
      const x = crisp(toX(value, at));
      pen.moveTo(x, TOP);
      pen.lineTo(x, bottom + 4);
      const text = tickText(value, step);
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(x, at.left + at.width + RIGHT - half), bottom + 6);
    }
    pen.stroke();
  }

  /** The stretches without a gap. */
  function* stretches(line: Line, values: Values, at: Box): Generator<[first: number, end: number]> {
    let [i, last] = seen(line, at.x);
    for (let first = i; i <= last; i++) {
      if (i < last && values[i] != null && Number.isFinite(values[i])) continue;
      if (i > first) yield [first, i];
      first = i + 1;
    }
  }

  function drawBehind(pen: CanvasRenderingContext2D, line: Line, at: Box): void {
    const x = (i: number): number => toX(line.x[i] as number, at);
    const y = (values: Values, i: number): number => toY(values[i] as number, at);
    pen.fillStyle = theme.colour(line.colour);
    pen.globalAlpha = 0.33;
    pen.beginPath();
    for (const [first, end] of stretches(line, line.low, at)) {
      if (line.dots || end - first === 1) {
        for (let i = first; i < end; i++) {
          const [top, foot] = [y(line.high, i), y(line.low, i)];
          pen.rect(x(i) - 2, top - 2, 4, foot - top + 4);
        }
        continue;
      }
      for (let i = first; i < end; i++) pen.lineTo(x(i), y(line.high, i));
      for (let i = end - 1; i >= first; i--) pen.lineTo(x(i), y(line.low, i));
      pen.closePath();
      pen.moveTo(x(end - 1), y(line.high, end - 1));
    }
    pen.fill();
    pen.globalAlpha = 1;
  }

  function drawLine(pen: CanvasRenderingContext2D, line: Line, at: Box): void {
    pen.strokeStyle = pen.fillStyle = theme.colour(line.colour);
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.setLineDash([...line.dash]);
    pen.beginPath();
    for (const [first, end] of stretches(line, line.y, at)) {
      for (let i = first; i < end; i++) {
        const [x, y] = [toX(line.x[i] as number, at), toY(line.y[i] as number, at)];
        if (i > first) pen.lineTo(x, y);
        else pen.moveTo(x, y);
        // One alone is no line.
        if (end - first === 1) pen.fillRect(x - 3, y - 3, 6, 6);
      }
    }
    pen.stroke();
  }

  function drawAbove(): void {
    const pen = sized(above);
    if (!pen || !box) return;
    if (down !== null && drag !== null) {
      pen.globalAlpha = 0.2;
      pen.fillStyle = theme.colour("--ltw-focus");
      pen.fillRect(Math.min(down, drag), TOP, Math.abs(drag - down), box.height);
      pen.globalAlpha = 1;
    }
    if (cursor === null || cursor < box.x.low || cursor > box.x.high) return;
    upright(pen, crisp(toX(cursor, box)), theme.colour("--ltw-muted"), 1);
    for (const line of lines) {
      const i = nearest(line.x, cursor);
      const y = line.y[i];
      if (y == null || !Number.isFinite(y)) continue;
      pen.fillStyle = theme.colour(line.colour);
      pen.beginPath();
      pen.arc(toX(line.x[i] as number, box), toY(y, box), 4, 0, 7);
      pen.fill();
    }
  }

  function move(to: number | null): void {
    cursor = to;
    if (to !== null) element.setAttribute("aria-valuenow", String(to));
    drawAbove();
    hands.moved(to);
  }

  function setZoom(range: Range | null): void {
    const all = whole();
    if (range) {
      // Not closer than one, and not beyond the ends.
      const half = Math.max(range.high - range.low, 1) / 2;
      const middle = (range.low + range.high) / 2;
      range = { low: Math.max(all.low, middle - half), high: Math.min(all.high, middle + half) };
      if (range.high <= range.low || (range.low === all.low && range.high === all.high)) range = null;
    }
    if (range === zoom) return;
    zoom = range;
    element.dataset.zoomed = String(range !== null);
    draw();
    hands.zoomed(range);
  }

  // -- with the pointer

  const pixel = (event: MouseEvent): number => event.clientX - element.getBoundingClientRect().left;

  const onDown = (event: PointerEvent): void => {
    if (event.button !== 0 || !box) return;
    down = pixel(event);
    element.setPointerCapture(event.pointerId);
  };
  const onMove = (event: PointerEvent): void => {
    if (!box) return;
    const at = pixel(event);
    if (down !== null && Math.abs(at - down) >= DRAG) drag = at;
    else if (drag !== null) drag = at;
    move(fromX(at, box));
  };
  const onUp = (event: PointerEvent): void => {
    const [from, to] = [down, drag];
    down = drag = null;
    if (!box || from === null) return;
    if (to !== null) {
      const ends = [fromX(from, box), fromX(to, box)];
      setZoom({ low: Math.min(...ends), high: Math.max(...ends) });
      return;
    }
    const top = event.clientY - element.getBoundingClientRect().top;
    const choose = hands.chosen.bind(hands, fromX(from, box), valueAt(box.y, 1 - (top - TOP) / box.height));
    stopChoice?.();
    // Two clicks show all again, where there is more than is shown; they are to choose nothing.
    if (zoom) stopChoice = clock.after(SECOND_CLICK_MS, choose);
    else choose();
  };
  const onDouble = (): void => {
    stopChoice?.();
    setZoom(null);
  };
  const onLeave = (): void => {
    if (down === null) move(null);
  };
  const onCancel = (): void => {
    down = drag = null;
    drawAbove();
  };

  // -- with keys

  /** The nearest place of a point beyond `from`, or (`at`) there too. */
  function next(from: number, by: 1 | -1, at = false): number {
    const found = lines.flatMap(({ x }) => {
      let i = lowerBound(x, from);
      if (by > 0 && !at && x[i] === from) i++;
      if (by < 0 && !(at && x[i] === from)) i--;
      return x[i] ?? [];
    });
    return found.length === 0 ? from : by < 0 ? Math.max(...found) : Math.min(...found);
  }

  function walk(by: 1 | -1, steps: number): void {
    const range = zoom ?? whole();
    let to = cursor ?? next(by < 0 ? range.high : range.low, by, true);
    if (cursor !== null) for (let i = 0; i < steps; i++) to = next(to, by);
    // What is looked at moves along.
    const off = to < range.low ? to - range.low : Math.max(0, to - range.high);
    if (zoom && off !== 0) setZoom({ low: range.low + off, high: range.high + off });
    move(to);
  }

  function closer(by: number): void {
    const range = zoom ?? whole();
    const middle = cursor ?? (range.low + range.high) / 2;
    const half = ((range.high - range.low) / 2) * by;
    setZoom({ low: middle - half, high: middle + half });
  }

  const onKey = (event: KeyboardEvent): void => {
    if (!box || event.ctrlKey || event.metaKey || event.altKey) return;
    const { x } = box;
    const steps = event.shiftKey ? 10 : 1;
    const keys: Record<string, () => void> = {
      ArrowLeft: () => walk(-1, steps),
      ArrowRight: () => walk(1, steps),
      Home: () => move(next(x.low, 1, true)),
      End: () => move(next(x.high, -1, true)),
      Enter: () => cursor !== null && hands.chosen(cursor, null),
      "+": () => closer(0.5),
      "=": () => closer(0.5),
      "-": () => closer(2),
      "0": () => setZoom(null),
      Escape: () => setZoom(null),
    };
    const act = keys[event.key];
    // Escape means something to others where it means nothing here.
    if (!act || (event.key === "Escape" && !zoom)) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };

  const heard: [string, (event: never) => void][] = [
    ["pointerdown", onDown],
    ["pointermove", onMove],
    ["pointerup", onUp],
    ["pointercancel", onCancel],
    ["pointerleave", onLeave],
    ["dblclick", onDouble],
    ["keydown", onKey],
  ];
  for (const [kind, act] of heard) element.addEventListener(kind, act as EventListener);
  const resized = new ResizeObserver(draw);
  resized.observe(element);

  return {
    element,
    get zoom() {
      return zoom;
    },
    get cursor() {
      return cursor;
    },
    show(wanted, at) {
      lines = wanted;
      mark = at;
      draw();
    },
    setZoom,
    repaint: draw,
    close() {
      stopChoice?.();
      resized.disconnect();
      for (const [kind, act] of heard) element.removeEventListener(kind, act as EventListener);
    },
  };
}
