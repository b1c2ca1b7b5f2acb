// The curves: return or length by episode, of all, of each agent, and of the runs beside this one.

import uPlot from "uplot";
import { makeBar } from "./chart-bar.ts";
import {
  type Bucket,
  type Curve,
  type Curves,
  heldCurves,
  nearest,
  placeAt,
  readBuckets,
  smoothed,
  xOf,
} from "./curves.ts";
import { frameFrom } from "./frames.ts";
import { countText, numberText } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import type { Page } from "./page.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

/** A curve need not move faster than this to look alive. */
const EVERY_MS = 150;
/** With more, single points are a carpet. */
const POINTS_UP_TO = 3_000;
const ZOOM_POINTS = 512;
const ZOOM_AFTER_MS = 120;
const COLOURS = 6;
/** Colour is not all that tells curves apart. */
const DASHES: readonly number[][] = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [4, 2, 1, 2]];

interface Range {
  low: number;
  high: number;
}

export function makeChart(page: Page, theme: Theme, clock: Clock = browserClock): View & { repaint(): void } {
  const { run, selection, link } = page;
  const element = document.createElement("figure");
  element.className = "ltw-chart";
  element.dataset.testid = "ltw-chart";
  const bar = makeBar(() => {
    zoomed.clear();
    draw();
    askCloser();
  });
  const readout = document.createElement("span");
  readout.className = "ltw-readout";
  readout.dataset.testid = "ltw-readout";
  bar.element.append(readout);
  const stage = document.createElement("div");
  stage.className = "ltw-stage";
  stage.tabIndex = 0;
  stage.dataset.testid = "ltw-curve";
  stage.setAttribute("role", "img");
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  nothing.textContent = "No episode has ended yet.";
  stage.append(nothing);
  element.append(bar.element, bar.legend, stage);

  let plot: uPlot | null = null;
  let shown: Curve[] = [];
  let numbered = true;
  let structure = "";
  let drawnRevision: unknown = -1;
  let drawnAt = 0;
  let stopClock: (() => void) | null = null;
  let stopZoom: (() => void) | null = null;
  let zoom: Range | null = null;
  /** Of each curve the stretch that was asked for closer; empty while nothing is zoomed. */
  const zoomed = new Map<string, Bucket[]>();
  let mark: number | null = null;
  let missed = "";

  const bucketsOf = (curve: Curve): Bucket[] => zoomed.get(keyOf(curve)) ?? curve.buckets[bar.measure];
  const revision = (): unknown => run.curves ?? run.episodesRevision;

  const series = (curve: Curve, at: number, points: boolean): [uPlot.Series[], uPlot.Band[]] => {
    const colour = theme.colour(`--ltw-series-${bar.colour(curve) % COLOURS}`);
    const faint = theme.colour(`--ltw-faint-${bar.colour(curve) % COLOURS}`);
    const hidden = { width: 0, points: { show: false }, spanGaps: true };
    const low: uPlot.Series = points
      ? { paths: () => null, points: { show: true, size: 4, width: 0, fill: faint } }
      : { ...hidden, stroke: "transparent" };
    const band: uPlot.Band[] = points ? [] : [{ series: [at + 1, at], fill: faint }];
    const dash = DASHES[bar.colour(curve) % DASHES.length] as number[];
    const line = { stroke: colour, width: 2, dash, spanGaps: true, points: { show: false } };
    return [[low, { ...hidden, stroke: "transparent" }, line], band];
  };

  const build = (data: uPlot.AlignedData, points: boolean): void => {
    plot?.destroy();
    plot = null;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (shown.length === 0 || width < 40 || height < 40) return;
    const family = getComputedStyle(element).fontFamily || "sans-serif";
    const axis: uPlot.Axis = {
      stroke: theme.colour("--ltw-muted"),
      font: `11px ${family}`,
      grid: { stroke: theme.colour("--ltw-rule"), width: 1 },
      ticks: { stroke: theme.colour("--ltw-rule"), width: 1, size: 4 },
    };
    const parts = shown.map((curve, i) => series(curve, 1 + 3 * i, points));
    plot = new uPlot(
      {
        width,
        height,
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
        scales: {
          x: { time: false, range: (_, low, high) => (zoom ? [zoom.low, zoom.high] : airy(low, high)) },
          y: { range: spread },
        },
        axes: [
          {
            ...axis,
            size: 28,
            space: 60,
            incrs: WHOLE_STEPS,
            values: (_, ticks) => ticks.map((tick) => countText(tick)),
          },
          { ...axis, size: 48 },
        ],
        series: [{}, ...parts.flatMap(([made]) => made)],
        bands: parts.flatMap(([, bands]) => bands),
        hooks: {
          setCursor: [(held) => read(held.cursor.left ?? -1)],
          setSelect: [onDragged],
          draw: [drawMark],
        },
      },
      data,
      stage,
    );
    plot.over.addEventListener("click", (event) => {
      if (event.detail < 2) choose();
    });
    plot.over.addEventListener("dblclick", () => setZoom(null));
  };

  const dataOf = (): [uPlot.AlignedData, boolean] => {
    const all = shown.map(bucketsOf);
    const points =
      all.every((one) => one.every((b) => b.places === 1)) && all.reduce((n, b) => n + b.length, 0) <= POINTS_UP_TO;
    const tables = shown.map((curve, i): uPlot.AlignedData => {
      const buckets = all[i] as Bucket[];
      return [
        buckets.map((bucket) => xOf(bucket, numbered)),
        buckets.map((bucket) => bucket.low),
        buckets.map((bucket) => bucket.high),
        smoothed(buckets, bar.window(curve.buckets[bar.measure])),
      ];
    });
    if (tables.length === 0) return [[[]], points];
    return [tables.length === 1 ? (tables[0] as uPlot.AlignedData) : uPlot.join(tables), points];
  };

  function draw(): void {
    stopClock?.();
    stopClock = null;
    drawnRevision = revision();
    drawnAt = clock.now();
    const curves: Curves = run.curves ?? heldCurves(run);
    shown = bar.choose(curves, selection.agent).filter((curve) => curve.buckets[bar.measure].length > 0);
    numbered = shown.every((curve) => curve.numbered);
    nothing.hidden = shown.length > 0;
    const [data, points] = dataOf();
    const now = `${points} ${shown.map((curve) => `${keyOf(curve)}${bar.colour(curve)}`).join("\n")}`;
    if (!plot || now !== structure || shown.length === 0) build(data, points);
    else plot.setData(data);
    structure = now;
    describe();
    read(plot?.cursor.left ?? -1);
  }

  function describe(): void {
    const said = shown.map((curve) => {
      const buckets = curve.buckets[bar.measure];
      const ended = buckets.reduce((sum, bucket) => sum + bucket.count + bucket.odd, 0);
      const last = smoothed(buckets, bar.window(buckets)).at(-1);
      const mean = last == null ? "" : `, lately ${numberText(last)} in the mean`;
      return `${bar.nameOf(curve)}: ${countText(ended)} episodes${mean}`;
    });
    const text = `${bar.title} by episode. ${said.join("; ") || "No episode has ended yet"}. Arrow keys move, Enter opens the episode, plus and minus zoom.`;
    if (stage.getAttribute("aria-label") !== text) stage.setAttribute("aria-label", text);
  }

  /** Say what is under the cursor, or the newest. */
  function read(left: number): void {
    const x = plot && left >= 0 ? plot.posToVal(left, "x") : Number.POSITIVE_INFINITY;
    const texts = shown.slice(0, 3).map((curve) => {
      const buckets = bucketsOf(curve);
      const at = x === Number.POSITIVE_INFINITY ? buckets.length - 1 : nearest(buckets, x, numbered);
      const bucket = buckets[at];
      return bucket ? `${shown.length > 1 ? `${bar.nameOf(curve)} ` : ""}${bucketText(bucket)}` : "";
    });
    const odd = shown.reduce((sum, curve) => sum + curve.buckets[bar.measure].reduce((n, b) => n + b.odd, 0), 0);
    if (odd > 0 && left < 0) texts.push(`${countText(odd)} without a finite value`);
    const text = missed || texts.filter(Boolean).join(" · ");
    if (readout.textContent !== text) readout.textContent = text;
    readout.title = text;
  }

  // -- looking closer

  function setZoom(range: Range | null): void {
    zoom = range;
    if (!range) zoomed.clear();
    stage.dataset.zoomed = String(range !== null);
    draw();
    plot?.redraw();
    stopZoom?.();
    stopZoom = range ? clock.after(ZOOM_AFTER_MS, askCloser) : null;
  }

  function onDragged(held: uPlot): void {
    const { left, width } = held.select;
    if (width < 4) return;
    held.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    setZoom({ low: held.posToVal(left, "x"), high: held.posToVal(left + width, "x") });
  }

  /** What is shown already stands until the kernel has answered. */
  function askCloser(): void {
    const range = zoom;
    if (!range) return;
    for (const curve of shown) {
      const coarse = curve.buckets[bar.measure];
      if (coarse.every((bucket) => bucket.places === 1)) continue;
      const first = coarse[Math.max(0, nearest(coarse, range.low, numbered) - 1)];
      const last = coarse[Math.min(coarse.length - 1, nearest(coarse, range.high, numbered) + 1)];
      if (!first || !last) continue;
      const y = bar.measure;
      const stretch = { first: first.place, end: last.place + last.places, points: ZOOM_POINTS };
      link
        .ask("ask_curve", { run: curve.run, agent: curve.agent, y, ...stretch })
        .then((answer) => {
          if (zoom !== range || bar.measure !== y || !answer.buffers[0]) return;
          zoomed.set(keyOf(curve), readBuckets(frameFrom(answer.buffers[0])));
          draw();
        })
        .catch((error: unknown) => tell(error));
    }
  }

  function tell(error: unknown): void {
    missed = error instanceof Error ? error.message : String(error);
    read(-1);
    missed = "";
  }

  // -- choosing an episode

  /** Select the episode under the cursor, of the curve that is nearest to it. */
  function choose(): void {
    const { left = -1, top = -1 } = plot?.cursor ?? {};
    if (!plot || left < 0) return;
    const x = plot.posToVal(left, "x");
    const y = top < 0 ? null : plot.posToVal(top, "y");
    const own = shown.filter((curve) => curve.run === run.state?.run_id);
    let best: { curve: Curve; bucket: Bucket; apart: number } | null = null;
    for (const curve of own) {
      const buckets = bucketsOf(curve);
      const bucket = buckets[nearest(buckets, x, numbered)];
      const apart = y === null ? 0 : Math.abs((bucket?.mean ?? Number.POSITIVE_INFINITY) - y);
      if (bucket && (!best || apart < best.apart)) best = { curve, bucket, apart };
    }
    if (best) void open(best.curve, best.bucket, placeAt(best.bucket, x, numbered)).catch(tell);
  }

  async function open(curve: Curve, bucket: Bucket, place: number): Promise<void> {
    let row = bucket.row;
    if (bucket.places > 1) {
      const ask = { run: curve.run, agent: curve.agent, y: bar.measure, first: place, end: place + 1, points: 1 };
      const { buffers } = await link.ask("ask_curve", ask);
      row = (buffers[0] && readBuckets(frameFrom(buffers[0]))[0]?.row) ?? -1;
    }
    if (row < 0) return;
    let held = run.episodes.row(row);
    if (!held) {
      const { buffers } = await link.ask("ask_rows", { table: "episodes", first: row, count: 1 });
      if (!buffers[0]) return;
      held = { frame: frameFrom(buffers[0]), index: 0 };
    }
    const { frame, index } = held;
    const cell = (name: string): unknown => frame.columns.get(name)?.at(index) ?? "";
    const episode = {
      row,
      worker: String(cell("worker_id")),
      agent: String(cell("agent_id")),
      episode: Number(cell("episode")),
    };
    selection.set({ episode });
  }

  /** A line where the selected episode is. */
  function drawMark(held: uPlot): void {
    const { episode } = selection;
    mark = null;
    if (episode && run.state) {
      const [whole] = shown;
      mark = numbered ? episode.episode : whole?.agent === null ? episode.row : null;
    }
    if (mark === null) return;
    const { ctx, bbox } = held;
    const at = held.valToPos(mark, "x", true);
    if (at < bbox.left || at > bbox.left + bbox.width) return;
    ctx.save();
    ctx.strokeStyle = theme.colour("--ltw-focus");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  const onKey = (event: KeyboardEvent): void => {
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = plot.over.clientWidth;
    const { min = 0, max = 1 } = plot.scales.x ?? {};
    const left = plot.cursor.left ?? -1;
    const x = left >= 0 ? plot.posToVal(left, "x") : (max ?? 1);
    const step = (event.shiftKey ? 10 : 1) * Math.max(1, (Number(max) - Number(min)) / Math.max(1, width));
    const go = (to: number): void =>
      plot?.setCursor({ left: Math.min(Math.max(0, plot.valToPos(to, "x")), width), top: -1 });
    const closer = (by: number): void => {
      const half = ((Number(max) - Number(min)) / 2) * by;
      setZoom(half * 2 < 1 ? zoom : { low: x - half, high: x + half });
    };
    const keys: Record<string, () => void> = {
      ArrowLeft: () => go(Math.round(x - step)),
      ArrowRight: () => go(Math.round(x + step)),
      Home: () => go(Number(min)),
      End: () => go(Number(max)),
      Enter: choose,
      "+": () => closer(0.5),
      "=": () => closer(0.5),
      "-": () => (zoom ? closer(2) : undefined),
      "0": () => setZoom(null),
      Escape: () => setZoom(null),
    };
    const act = keys[event.key];
    if (!act || (event.key === "Escape" && !zoom)) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
  stage.addEventListener("keydown", onKey);

  const resized = new ResizeObserver(() => {
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!plot) draw();
    else if (width >= 40 && height >= 40) plot.setSize({ width, height });
  });
  resized.observe(stage);
  const stopListening = selection.listen((now, before) => {
    if (now.agent !== before.agent) draw();
    else if (now.episode !== before.episode) plot?.redraw(false);
  });

  return {
    element,
    update() {
      if (drawnRevision === revision() || stopClock) return;
      const wait = drawnAt + EVERY_MS - clock.now();
      if (wait <= 0) draw();
      else stopClock = clock.after(wait, draw);
    },
    repaint() {
      // Between two style sheets (a change of theme) the stage has no size: the old curve is better than none.
      if (plot && stage.clientHeight < 40) return;
      plot?.destroy();
      plot = null;
      draw();
    },
    close() {
      stopClock?.();
      stopZoom?.();
      stopListening();
      stage.removeEventListener("keydown", onKey);
      resized.disconnect();
      plot?.destroy();
      plot = null;
    },
  };
}

function keyOf(curve: Curve): string {
  return JSON.stringify([curve.run, curve.agent]);
}

function bucketText({ places, from, to, mean, low, high }: Bucket): string {
  const short = (value: number | null): string => (value === null ? "?" : numberText(value));
  if (places === 1) return `episode ${from}: ${mean === null ? "no finite value" : short(mean)}`;
  return `episodes ${from}–${to}: ${short(low)} to ${short(high)}, mean ${short(mean)}`;
}

const WHOLE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

function airy(low: number, high: number): [number, number] {
  return low === high ? [low - 1, high + 1] : [low, high];
}

/** A range with air above and below, also where all values are the same. */
function spread(_: uPlot, low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const air = high === low ? Math.max(0.5, Math.abs(high) * 0.1) : high * 0.08 - low * 0.08;
  const range: [number, number] = [low - air, high + air];
  return range.every(Number.isFinite) ? range : [low, high];
}
