// The return curve: what each ended episode earned, and the mean of the last ones.

import { numberText } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import { type Line, makePlot } from "./plot.ts";
import { extent, nearest } from "./plot-scale.ts";
import type { RunState } from "./run-state.ts";
import { noEpisodeText } from "./standing.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

/** A curve need not move faster than this to look alive; a long one moves less, and costs more. */
const EVERY_MS = 150;
/** With more, single points are a carpet. */
const POINTS_UP_TO = 3_000;
const BUCKETS = 500;
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
  const head = document.createElement("figcaption");
  const title = document.createElement("span");
  title.textContent = "Return by episode";
  const readout = document.createElement("span");
  readout.className = "ltw-readout";
  head.append(title, readout);
  const plot = makePlot(theme, { moved: (x) => read(x), chosen() {}, zoomed() {} }, clock);
  const stage = plot.element;
  const nothing = document.createElement("p");
  nothing.className = "ltw-nothing";
  stage.append(nothing);
  element.append(head, stage);

  let curve: Curve = { x: [], total: [], mean: [], window: 20 };
  let drawnRevision = -1;
  let drawnAt = 0;
  let stopClock: (() => void) | null = null;

  const read = (at: number | null): void => {
    const i = at === null ? curve.x.length - 1 : nearest(curve.x, at);
    const [x, total, mean] = [curve.x[i], curve.total[i], curve.mean[i]];
    readout.textContent =
      x === undefined || total === undefined || mean === undefined
        ? ""
        : `episode ${x}: ${numberText(total)} · mean of ${Math.min(i + 1, curve.window)}: ${numberText(Number(mean.toFixed(3)))}`;
    stage.setAttribute("aria-valuetext", readout.textContent);
  };

  const draw = (): void => {
    stopClock?.();
    stopClock = null;
    drawnRevision = run.episodesRevision;
    drawnAt = clock.now();
    curve = curveOf(run);
    nothing.hidden = curve.x.length > 0;
    const last = curve.mean.at(-1);
    stage.setAttribute(
      "aria-label",
      last === undefined
        ? "Return by episode: no episode has ended yet"
        : `Return by episode: ${curve.x.length} episodes, mean of the last ${Math.min(curve.window, curve.x.length)} is ${numberText(last)}`,
    );
    plot.show([lineOf(curve)], null);
    read(plot.cursor);
  };

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
    repaint: plot.repaint,
    close() {
      stopClock?.();
      plot.close();
    },
  };
}

/** Each episode a point; of many, a band. */
function lineOf({ x, total, mean }: Curve): Line {
  const look = { colour: "--ltw-line", faint: "--ltw-point", dash: [] } as const;
  if (x.length <= POINTS_UP_TO) return { x, y: mean, low: total, high: total, dots: true, ...look };
  const size = Math.ceil(x.length / BUCKETS);
  const parts = Array.from({ length: Math.ceil(x.length / size) }, (_, i) => total.slice(i * size, (i + 1) * size));
  const at = (values: readonly number[]): number[] => parts.map((_, i) => values[i * size] as number);
  const ends = parts.map((part) => extent(part));
  const [low, high] = [ends.map((end) => end?.low ?? null), ends.map((end) => end?.high ?? null)];
  return { x: at(x), y: at(mean), low, high, dots: false, ...look };
}
