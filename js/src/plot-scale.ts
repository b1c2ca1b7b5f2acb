// Where things stand on an axis, and what is written beside it. No DOM.

import { countText } from "./labels.ts";

export interface Range {
  low: number;
  high: number;
}

/** Where `value` is between the ends, as a share of the way. Halves, because the distance of two numbers may be none. */
export function share({ low, high }: Range, value: number): number {
  return (value / 2 - low / 2) / (high / 2 - low / 2);
}

/** What stands at this share of the way. */
export function valueAt({ low, high }: Range, part: number): number {
  return low * (1 - part) + high * part;
}

/** The range of what is finite; null where nothing is. */
export function extent(values: Iterable<number | null | undefined>): Range | null {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (value == null || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low > high ? null : { low, high };
}

/** With air above and below, also where all values are the same. */
export function airy({ low, high }: Range): Range {
  const air = high === low ? Math.max(0.5, Math.abs(high) * 0.1) : high * 0.08 - low * 0.08;
  const wide = { low: low - air, high: high + air };
  return Number.isFinite(wide.low) && Number.isFinite(wide.high) ? wide : { low, high };
}

/** The distance of about `count` ticks: 1, 2 or 5 times a power of ten, `least` or more. */
export function tickStep({ low, high }: Range, count: number, least = 0): number {
  const raw = high / count - low / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * 0.999_999) ?? power * 10;
  return Math.max(step, least);
}

/** The multiples of `step` within the range. */
export function ticks({ low, high }: Range, step: number): number[] {
  // A tick at an end is one, whatever dividing makes of it.
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  // A range so small that its numbers cannot be told apart has none.
  if (!(count > 0 && count < 1_000)) return [];
  return Array.from({ length: count }, (_, i) => {
    const value = (first + i) * step;
    return Object.is(value, -0) ? 0 : value;
  });
}

/** A tick's value with as many digits as its step has. */
export function tickText(value: number, step: number): string {
  if (value === 0) return "0";
  if (Math.abs(value) >= 1e7 || step < 1e-4) {
    const digits = Math.floor(Math.log10(Math.abs(value))) - Math.floor(Math.log10(step));
    return value.toExponential(Math.min(Math.max(digits, 0), 6)).replace("e+", "e");
  }
  return step < 1 ? value.toFixed(Math.min(Math.ceil(-Math.log10(step) - 1e-9), 6)) : countText(value);
}

/** The first place in ascending values that is not below `x`. */
export function lowerBound(values: readonly number[], x: number): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The place of the value nearest to `x` in ascending ones; -1 where there is none. */
export function nearest(values: readonly number[], x: number): number {
  const at = lowerBound(values, x);
  const [before, after] = [values[at - 1], values[at]];
  if (after === undefined) return at - 1;
  return before !== undefined && x - before <= after - x ? at - 1 : at;
}
