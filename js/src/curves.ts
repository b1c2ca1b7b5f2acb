// Return and length by episode in buckets, as the kernel tells them. No DOM.

import type { Frame } from "./frames.ts";
import { numberText } from "./labels.ts";
import type { CurveSeries } from "./messages.ts";

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
/** What the kernel tells: first that of the run, then of its agents and of the runs beside it, and how many more it does not tell. */
export interface Curves {
  readonly series: readonly Curve[];
  readonly more: number;
}
export const NO_CURVES: Curves = { series: [], more: 0 };

export function readCurves(series: readonly CurveSeries[], more: number, frame: Frame): Curves {
  const curves = series.map((one): Curve => ({ ...one, buckets: { total_reward: [], steps: [] } }));
  const [which, measures] = [frame.columns.get("series"), frame.columns.get("measure")];
  readBuckets(frame).forEach((bucket, i) => {
    const measure = MEASURES[Number(measures?.at(i))];
    if (measure) curves[Number(which?.at(i))]?.buckets[measure].push(bucket);
  });
  return { series: curves, more };
}

export function keyOf(curve: CurveSeries): string {
  return JSON.stringify([curve.run, curve.agent]);
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

/** The buckets, with those of a stretch that was asked for closer in their place. */
export function closer(buckets: readonly Bucket[], stretch: readonly Bucket[]): readonly Bucket[] {
  const [first, last] = [stretch[0], stretch.at(-1)];
  if (!first || !last) return buckets;
  return [
    ...buckets.filter(({ place, places }) => place + places <= first.place),
    ...stretch,
    ...buckets.filter(({ place }) => place >= last.place + last.places),
  ];
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

/** Which place of a bucket is meant by a place on the axis. */
export function placeAt(bucket: Bucket, x: number, numbered: boolean): number {
  const share = numbered && bucket.to > bucket.from ? (x - bucket.from) / (bucket.to - bucket.from) : 0;
  const at = numbered ? bucket.place + Math.round(share * (bucket.places - 1)) : Math.round(x);
  return Math.min(Math.max(at, bucket.place), bucket.place + bucket.places - 1);
}

/** A bucket in words. */
export function bucketText({ places, from, to, mean, low, high }: Bucket): string {
  const short = (value: number | null): string => (value === null ? "?" : numberText(value, 4));
  if (places === 1) return `episode ${from}: ${mean === null ? "no finite value" : short(mean)}`;
  return `episodes ${from}–${to}: ${short(low)} to ${short(high)}, mean ${short(mean)}`;
}
