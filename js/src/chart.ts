// The curves: return or length by episode, of all, of each agent, and of the runs beside this one.

import { makeBar } from "./chart-bar.ts";
import {
  type Bucket,
  bucketText,
  type Curve,
  type Curves,
  closer,
  keyOf,
  NO_CURVES,
  placeAt,
  readBuckets,
  smoothed,
  xOf,
} from "./curves.ts";
import { frameFrom } from "./frames.ts";
import { countText, numberText } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import type { Page } from "./page.ts";
import { type Line, makePlot } from "./plot.ts";
import { nearest, type Range } from "./plot-scale.ts";
import { isOver, noEpisodeText } from "./standing.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

/** A curve need not move faster than this to look alive. */
const EVERY_MS = 150;
/** With more, single points are a carpet. */
const POINTS_UP_TO = 3_000;
/** So many points of a closer look, of all curves together, but of each not fewer than it has to be of use. */
const ZOOM_POINTS = 1_024;
const ZOOM_LEAST = 128;
const ZOOM_MOST = 512;
const ZOOM_AFTER_MS = 120;
/** What is looked at closer is asked for again after a change, and not more often than this. */
const ZOOM_AGAIN_MS = 2_000;

/** A curve as it is drawn: its buckets at the resolution of what is seen, their places on the axis, and the mean at each. */
interface Drawn {
  curve: Curve;
  buckets: readonly Bucket[];
  x: number[];
  mean: (number | null)[];
  window: number;
}

export function makeChart(page: Page, theme: Theme, clock: Clock = browserClock): View & { repaint(): void } {
  const { run, selection, link } = page;
  const element = document.createElement("figure");
  element.className = "ltw-chart";
  element.dataset.testid = "ltw-chart";
  const bar = makeBar(
    () => {
      zoomed.clear();
      draw();
      askCloser();
    },
    () => plot.setZoom(null),
  );
  const plot = makePlot(theme, { moved: () => read(), chosen: choose, zoomed: onZoom }, clock);
  plot.element.dataset.testid = "ltw-curve";
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  plot.element.append(nothing);
  element.append(bar.element, bar.legend, plot.element);

  let drawn: Drawn[] = [];
  let numbered = true;
  let drawnOf: Curves | null = null;
  let drawnAt = 0;
  let stopClock: (() => void) | null = null;
  let stopZoom: (() => void) | null = null;
  /** Of each curve the stretch that was asked for closer; empty while nothing is zoomed. */
  const zoomed = new Map<string, Bucket[]>();
  let missed = "";

  const curves = (): Curves => run.curves ?? NO_CURVES;

  function draw(): void {
    stopClock?.();
    stopClock = null;
    const changed = drawnOf !== null && drawnOf !== run.curves;
    drawnOf = run.curves;
    drawnAt = clock.now();
    const shown = bar.choose(curves(), selection.agent);
    const some = shown.filter((curve) => curve.buckets[bar.measure].length > 0);
    numbered = some.every((curve) => curve.numbered);
    drawn = some.map((curve): Drawn => {
      const coarse = curve.buckets[bar.measure];
      const buckets = closer(coarse, zoomed.get(keyOf(curve)) ?? []);
      const window = bar.window(coarse);
      return { curve, buckets, x: buckets.map((b) => xOf(b, numbered)), mean: smoothed(buckets, window), window };
    });
    nothing.hidden = drawn.length > 0;
    sayNothing();
    plot.show(linesOf(), markOf());
    describe();
    read();
    if (changed && plot.zoom && !stopZoom) stopZoom = clock.after(ZOOM_AGAIN_MS, askCloser);
  }

  function sayNothing(): void {
    const none = drawn.length === 0 && bar.hides ? "No curve is shown." : noEpisodeText(run);
    if (nothing.textContent !== none) nothing.textContent = none;
  }

  /** Points where each episode that is seen has one and they are not too many, else bands. */
  function linesOf(): Line[] {
    const { low, high } = plot.zoom ?? { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
    const seen = drawn.flatMap(({ buckets, x }) =>
      buckets.filter((_, i) => Number(x[i]) >= low && Number(x[i]) <= high),
    );
    const dots = seen.length <= POINTS_UP_TO && seen.every(({ places }) => places === 1);
    return drawn.map(({ curve, buckets, x, mean }) => ({
      x,
      y: mean,
      low: buckets.map((bucket) => bucket.low),
      high: buckets.map((bucket) => bucket.high),
      dots,
      ...bar.look(curve),
    }));
  }

  /** Where the selected episode is, if the axis tells. */
  function markOf(): number | null {
    const { episode } = selection;
    if (!episode) return null;
    if (numbered) return episode.episode;
    return drawn[0]?.curve.agent === null ? episode.row : null;
  }

  function describe(): void {
    const said = drawn.map(({ curve, mean }) => {
      const ended = curve.buckets[bar.measure].reduce((sum, bucket) => sum + bucket.count + bucket.odd, 0);
      const last = mean.at(-1);
      return `${bar.nameOf(curve)}: ${countText(ended)} episodes${last == null ? "" : `, lately ${numberText(last)} in the mean`}`;
    });
    const text = `${bar.title} by episode. ${said.join("; ") || "No episode has ended yet"}. Arrow keys move, Enter opens the episode, plus and minus zoom.`;
    if (plot.element.getAttribute("aria-label") !== text) plot.element.setAttribute("aria-label", text);
  }

  /** Say what is under the cursor, or the newest. */
  function read(): void {
    const at = plot.cursor;
    const texts = drawn.map(({ curve, buckets, x, mean, window }) => {
      const i = at === null ? buckets.length - 1 : nearest(x, at);
      const [bucket, y] = [buckets[i], mean[i] ?? null];
      bar.tell(curve, y === null ? "" : numberText(y, 4));
      if (!bucket) return "";
      const smooth = y === null || window <= bucket.count ? "" : `, mean of ${countText(window)}: ${numberText(y, 4)}`;
      return bucketText(bucket) + smooth;
    });
    const odd = drawn.reduce((sum, { curve }) => sum + curve.buckets[bar.measure].reduce((n, b) => n + b.odd, 0), 0);
    const note = odd > 0 && at === null ? `${countText(odd)} without a finite value` : "";
    const whole = drawn.map(({ curve }, i) => `${bar.nameOf(curve)} ${texts[i]}`).join("; ");
    // Of several, each has its value beside its name.
    const where =
      at === null ? (isOver(run) ? "at the end" : "newest") : `${numbered ? "episode" : "place"} ${Math.round(at)}`;
    bar.read(missed || [drawn.length > 1 ? where : texts[0], note].filter(Boolean).join(" · "));
    plot.element.setAttribute("aria-valuetext", (drawn.length > 1 ? whole : texts[0]) || "no episode");
  }

  // -- looking closer

  function onZoom(range: Range | null): void {
    if (!range) zoomed.clear();
    bar.zoomed(range !== null);
    draw();
    stopZoom?.();
    stopZoom = range ? clock.after(ZOOM_AFTER_MS, askCloser) : null;
  }

  /** What is shown already stands until the kernel has answered. */
  function askCloser(): void {
    stopZoom?.();
    stopZoom = null;
    const range = plot.zoom;
    if (!range) return;
    const points = Math.min(Math.max(Math.floor(ZOOM_POINTS / drawn.length), ZOOM_LEAST), ZOOM_MOST);
    for (const { curve } of drawn) {
      const y = bar.measure;
      const coarse = curve.buckets[y];
      const x = coarse.map((bucket) => xOf(bucket, numbered));
      const first = coarse[Math.max(0, nearest(x, range.low) - 1)];
      const last = coarse[Math.min(coarse.length - 1, nearest(x, range.high) + 1)];
      if (!first || !last || coarse.every((bucket) => bucket.places === 1)) continue;
      const stretch = { first: first.place, end: last.place + last.places, points };
      link
        .ask("ask_curve", { run: curve.run, agent: curve.agent, y, ...stretch })
        .then((answer) => {
          if (plot.zoom !== range || bar.measure !== y || !answer.buffers[0]) return;
          zoomed.set(keyOf(curve), readBuckets(frameFrom(answer.buffers[0])));
          draw();
        })
        .catch(tell);
    }
  }

  function tell(error: unknown): void {
    missed = error instanceof Error ? error.message : String(error);
    read();
    missed = "";
  }

  // -- choosing an episode

  /** Select the episode at `x`, of the curve of this run that is nearest to it. */
  function choose(x: number, y: number | null): void {
    let best: { one: Drawn; bucket: Bucket; apart: number } | null = null;
    for (const one of drawn) {
      const i = nearest(one.x, x);
      const bucket = one.buckets[i];
      if (one.curve.run !== run.state?.run_id || !bucket) continue;
      const apart = y === null ? 0 : Math.abs((one.mean[i] ?? Number.POSITIVE_INFINITY) - y);
      if (!best || apart < best.apart) best = { one, bucket, apart };
    }
    if (best) void open(best.one.curve, best.bucket, placeAt(best.bucket, x, numbered)).catch(tell);
  }

  async function open(curve: Curve, bucket: Bucket, place: number): Promise<void> {
    let row = bucket.row;
    if (bucket.places > 1) {
      const ask = { run: curve.run, agent: curve.agent, y: bar.measure, first: place, end: place + 1, points: 1 };
      const { buffers } = await link.ask("ask_curve", ask);
      row = (buffers[0] && readBuckets(frameFrom(buffers[0]))[0]?.row) ?? -1;
    }
    if (row < 0) throw new Error("the episode there has not ended");
    let held = run.episodes.row(row);
    if (!held) {
      const { buffers } = await link.ask("ask_rows", { table: "episodes", first: row, count: 1 });
      if (!buffers[0]) throw new Error(`there is no episode in row ${row}`);
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

  const stopListening = selection.listen((now, before) => {
    if (now.agent !== before.agent || now.episode !== before.episode) draw();
  });

  draw();
  return {
    element,
    update() {
      sayNothing();
      if (drawnOf === run.curves || stopClock) return;
      const wait = drawnOf ? drawnAt + EVERY_MS - clock.now() : 0;
      if (wait <= 0) draw();
      else stopClock = clock.after(wait, draw);
    },
    repaint: plot.repaint,
    close() {
      stopClock?.();
      stopZoom?.();
      stopListening();
      plot.close();
    },
  };
}
