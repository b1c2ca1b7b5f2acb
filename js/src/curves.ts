// Return and length by episode in buckets, as the kernel tells them or as made from the episodes that the page holds. No DOM.

import type { Frame } from "./frames.ts";
import type { CurveSeries } from "./messages.ts";
import type { RunState } from "./run-state.ts";

export const MEASURES = ["total_reward", "steps"] as const;
export type Measure = (typeof MEASURES)[number];

/** Episodes side by side that are drawn as one; `low`, `high` and `mean` are null where none of them has a finite value. */
export interface Bucket {
  /** Place of the first, in order of first sight, and how many places. */
  place: number;
  places: number;
  from: number;
  to: number;
  /** Row of the first in the episode table; -1: of another run. */
  row: number;
  count: number;
  /** How many ended with a value that is no finite number. */
  odd: number;
  low: number | null;
  high: number | null;
  mean: number | null;
}

export interface Curve extends CurveSeries {
  buckets: Record<Measure, Bucket[]>;
}
export type Curves = readonly Curve[];

/** Without a kernel that tells curves (a report) so many of the newest episodes are drawn. */
const NEWEST = 20_000;

export function readCurves(series: readonly CurveSeries[], frame: Frame): Curves {
  const curves = series.map((one): Curve => ({ ...one, buckets: { total_reward: [], steps: [] } }));
  const [which, measures] = [frame.columns.get("series"), frame.columns.get("measure")];
  readBuckets(frame).forEach((bucket, i) => {
    const measure = MEASURES[Number(measures?.at(i))];
    if (measure) curves[Number(which?.at(i))]?.buckets[measure].push(bucket);
  });
  return curves;
}

export function readBuckets(frame: Frame): Bucket[] {
  const number = (name: string, i: number): number => Number(frame.columns.get(name)?.at(i) ?? -1);
  const value = (name: string, i: number): number | null => {
    const held = frame.columns.get(name)?.at(i);
    return typeof held === "number" && Number.isFinite(held) ? held : null;
  };
  return Array.from({ length: frame.rows }, (_, i) => ({
    place: number("place", i),
    places: number("places", i),
    from: number("from", i),
    to: number("to", i),
    row: number("row", i),
    count: number("count", i),
    odd: number("odd", i),
    low: value("min", i),
    high: value("max", i),
    mean: value("mean", i),
  }));
}

/** The ended episodes that the page holds, one bucket each. */
export function heldCurves(run: RunState): Curves {
  const { episodes, state } = run;
  const curve: Curve = {
    run: state?.run_id ?? "",
    name: state?.name ?? "",
    agent: null,
    numbered: true,
    buckets: { total_reward: [], steps: [] },
  };
  let last = -1;
  for (let row = Math.max(0, episodes.total - NEWEST); row < episodes.total; row++) {
    const held = episodes.row(row);
    const cell = (name: string): unknown => held?.frame.columns.get(name)?.at(held.index);
    if (!held || ["Running", "Unfinished"].includes(String(cell("outcome")))) continue;
    const number = Number(cell("episode") ?? row);
    curve.numbered &&= number > last;
    last = number;
    for (const measure of MEASURES) {
      const value = cell(measure);
      const mean = typeof value === "number" && Number.isFinite(value) ? value : null;
      const count = mean === null ? 0 : 1;
      const at = { place: row, places: 1, from: number, to: number, row };
      curve.buckets[measure].push({ ...at, count, odd: 1 - count, low: mean, high: mean, mean });
    }
  }
  return [curve];
}

/** The mean over each bucket and those before it, as many as hold `window` episodes. */
export function smoothed(buckets: readonly Bucket[], window: number): (number | null)[] {
  let [sum, count, tail] = [0, 0, 0];
  return buckets.map((bucket) => {
    sum += (bucket.mean ?? 0) * bucket.count;
    count += bucket.count;
    while (count - (buckets[tail] as Bucket).count >= window) {
      const gone = buckets[tail++] as Bucket;
      sum -= (gone.mean ?? 0) * gone.count;
      count -= gone.count;
    }
    return count > 0 && Number.isFinite(sum) ? sum / count : null;
  });
}

/** Where a bucket stands on the axis: in its middle. */
export function xOf(bucket: Bucket, numbered: boolean): number {
  return numbered ? (bucket.from + bucket.to) / 2 : bucket.place + (bucket.places - 1) / 2;
}

/** The bucket nearest to a place on the axis. */
export function nearest(buckets: readonly Bucket[], x: number, numbered: boolean): number {
  let [low, high] = [0, buckets.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xOf(buckets[middle] as Bucket, numbered) <= x) low = middle;
    else high = middle;
  }
  const apart = (i: number): number => Math.abs(xOf(buckets[i] as Bucket, numbered) - x);
  return high > low && apart(high) < apart(low) ? high : low;
}

/** Which place of a bucket is meant by a place on the axis. */
export function placeAt(bucket: Bucket, x: number, numbered: boolean): number {
  const share = numbered && bucket.to > bucket.from ? (x - bucket.from) / (bucket.to - bucket.from) : 0;
  const at = numbered ? bucket.place + Math.round(share * (bucket.places - 1)) : Math.round(x);
  return Math.min(Math.max(at, bucket.place), bucket.place + bucket.places - 1);
}
