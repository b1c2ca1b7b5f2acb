// The return curve: what each ended episode earned, and the mean of the last ones.

import uPlot from "uplot";
import { countText, numberText } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import type { RunState } from "./run-state.ts";
import { noEpisodeText } from "./standing.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

/** A curve need not move faster than this to look alive; a long one moves less, and costs more. */
const EVERY_MS = 150;
/** With more, single points are a carpet. */
const POINTS_UP_TO = 3_000;
const NEWEST = 20_000;

export interface Curve {
  /** Episode numbers where they ascend, else the place in order of first sight. */
  x: number[];
  total: number[];
  mean: number[];
  /** Episodes that the mean is taken over. */
  window: number;
}

/** Collect the ended episodes that the page holds. */
export function curveOf(run: RunState): Curve {
  const { episodes } = run;
  const [x, numbers, total]: [number[], number[], number[]] = [[], [], []];
  let ascending = true;
  for (let row = Math.max(0, episodes.total - NEWEST); row < episodes.total; row++) {
    const held = episodes.row(row);
    if (!held || held.frame.columns.get("outcome")?.at(held.index) === "Running") continue;
    const reward = held.frame.columns.get("total_reward")?.at(held.index);
    if (typeof reward !== "number" || !Number.isFinite(reward)) continue;
    const number = Number(held.frame.columns.get("episode")?.at(held.index) ?? row);
    ascending &&= numbers.length === 0 || number > (numbers.at(-1) as number);
    x.push(row);
    numbers.push(number);
    total.push(reward);
  }
  const window = Math.max(20, Math.round(total.length / 100));
  return { x: ascending ? numbers : x, total, mean: movingMean(total, window), window };
}

/** The mean of each value and up to `window - 1` before it. */
export function movingMean(values: readonly number[], window: number): number[] {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= window ? (values[i - window] as number) : 0);
    return sum / Math.min(i + 1, window);
  });
}

export function makeChart(run: RunState, theme: Theme, clock: Clock = browserClock): View & { repaint(): void } {
  const element = document.createElement("figure");
  element.className = "ltw-chart";
  element.dataset.testid = "ltw-chart";
  element.setAttribute("role", "img");
  const head = document.createElement("figcaption");
  const title = document.createElement("span");
  title.textContent = "Return by episode";
  const readout = document.createElement("span");
  readout.className = "ltw-readout";
  head.append(title, readout);
  const stage = document.createElement("div");
  stage.className = "ltw-stage";
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  stage.append(nothing);
  element.append(head, stage);

  let plot: uPlot | null = null;
  let curve: Curve = { x: [], total: [], mean: [], window: 20 };
  let drawnRevision = -1;
  let drawnAt = 0;
  let stopClock: (() => void) | null = null;

  const read = (at: number | null | undefined): void => {
    const i = at ?? curve.x.length - 1;
    const [x, total, mean] = [curve.x[i], curve.total[i], curve.mean[i]];
    readout.textContent =
      x === undefined || total === undefined || mean === undefined
        ? ""
        : `episode ${x}: ${numberText(total)} · mean of ${Math.min(i + 1, curve.window)}: ${numberText(Number(mean.toFixed(3)))}`;
  };

  const build = (): void => {
    plot?.destroy();
    plot = null;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (curve.x.length === 0 || width < 40 || height < 40) return;
    const family = getComputedStyle(element).fontFamily || "sans-serif";
    const axis: uPlot.Axis = {
      stroke: theme.colour("--ltw-muted"),
      font: `11px ${family}`,
      grid: { stroke: theme.colour("--ltw-rule"), width: 1 },
      ticks: { stroke: theme.colour("--ltw-rule"), width: 1, size: 4 },
    };
    const points = curve.x.length <= POINTS_UP_TO;
    plot = new uPlot(
      {
        width,
        height,
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: false, y: false, setScale: false }, points: { size: 6 }, y: false },
        scales: {
          x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
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
        series: [
          {},
          {
            stroke: theme.colour(points ? "--ltw-point" : "--ltw-points"),
            width: 1,
            ...(points ? { paths: () => null } : {}),
            points: { show: points, size: 4, width: 0, fill: theme.colour("--ltw-point") },
          },
          { stroke: theme.colour("--ltw-line"), width: 2, points: { show: false } },
        ],
        hooks: { setCursor: [(held) => read(held.cursor.idx)] },
      },
      [curve.x, curve.total, curve.mean],
      stage,
    );
  };

  const draw = (): void => {
    stopClock?.();
    stopClock = null;
    drawnRevision = run.episodesRevision;
    drawnAt = clock.now();
    const had = curve.x.length;
    curve = curveOf(run);
    nothing.hidden = curve.x.length > 0;
    const last = curve.mean.at(-1);
    element.setAttribute(
      "aria-label",
      last === undefined
        ? "Return by episode: no episode has ended yet"
        : `Return by episode: ${curve.x.length} episodes, mean of the last ${Math.min(curve.window, curve.x.length)} is ${numberText(last)}`,
    );
    if (!plot || had <= POINTS_UP_TO !== curve.x.length <= POINTS_UP_TO || curve.x.length === 0) build();
    else plot.setData([curve.x, curve.total, curve.mean]);
    read(plot?.cursor.idx);
  };

  const resized = new ResizeObserver(() => {
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!plot) build();
    else if (width >= 40 && height >= 40) plot.setSize({ width, height });
  });
  resized.observe(stage);

  return {
    element,
    update() {
      const none = noEpisodeText(run);
      if (nothing.textContent !== none) nothing.textContent = none;
      if (drawnRevision === run.episodesRevision || stopClock) return;
      const wait = drawnAt + EVERY_MS + curve.x.length / 10 - clock.now();
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
      resized.disconnect();
      plot?.destroy();
      plot = null;
    },
  };
}

const WHOLE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

/** A range with air above and below, also where all values are the same. */
function spread(_: uPlot, low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const air = high === low ? Math.max(0.5, Math.abs(high) * 0.1) : (high - low) * 0.08;
  return [low - air, high + air];
}
