import { describe, expect, test } from "vitest";
import { BLANK, toArrow } from "../fake-kernel.ts";
import { type Bucket, bucketText, closer, placeAt, readCurves, smoothed, xOf } from "../src/curves.ts";
import { frameFrom } from "../src/frames.ts";
import { parseMessage, VERSION } from "../src/messages.ts";
import { nearest } from "../src/plot-scale.ts";

function bucket(place: number, places: number, mean: number | null, count = places): Bucket {
  const ends = { from: 10 * place, to: 10 * (place + places - 1) };
  return { place, places, ...ends, row: place, count, odd: places - count, low: mean, high: mean, mean };
}

describe("curves", () => {
  test("points go to their series and measure, and what is no number is none", () => {
    const row = { place: 0, places: 4, from: 0, to: 3, row: 0, count: 3, odd: 1, min: -1, max: 2, mean: 0.5 };
    const frame = frameFrom(
      toArrow([
        { ...row, series: 0, measure: 0 },
        { ...row, series: 1, measure: 1, min: null, max: null, mean: Number.NaN },
        { ...row, series: 9, measure: 0 },
      ]),
    );
    const one = { run: "r", name: "r", numbered: true };
    const { series, more } = readCurves(
      [
        { ...one, agent: null },
        { ...one, agent: "a" },
      ],
      3,
      frame,
    );
    const [whole, agent] = series;
    expect([more, series.length]).toEqual([3, 2]);
    expect(whole?.buckets.total_reward).toEqual([
      { place: 0, places: 4, from: 0, to: 3, row: 0, count: 3, odd: 1, low: -1, high: 2, mean: 0.5 },
    ]);
    expect(whole?.buckets.steps).toEqual([]);
    expect(agent?.buckets.steps[0]).toMatchObject({ low: null, high: null, mean: null });
  });

  test("a mean is of as many episodes as are asked for, whatever the buckets", () => {
    const single = [1, 2, 3, 4].map((value, i) => bucket(i, 1, value));
    expect(smoothed(single, 2)).toEqual([1, 1.5, 2.5, 3.5]);
    expect(smoothed(single, 1)).toEqual([1, 2, 3, 4]);
    const gone = [bucket(0, 1, null, 0), bucket(1, 1, 5), bucket(2, 1, null, 0)];
    expect(smoothed(gone, 2)).toEqual([null, 5, 5]);
    expect(smoothed([bucket(0, 10, 1), bucket(10, 10, 3), bucket(20, 10, 5)], 20)).toEqual([1, 2, 4]);
    expect(smoothed([bucket(0, 10, 1), bucket(10, 10, 3)], 2)).toEqual([1, 3]);
  });

  test("what is under the cursor", () => {
    const buckets = [bucket(0, 4, 1), bucket(4, 4, 1), bucket(8, 2, 1)];
    const under = (x: number, numbered: boolean): number =>
      nearest(
        buckets.map((one) => xOf(one, numbered)),
        x,
      );
    expect([-5, 14, 36, 200].map((x) => under(x, true))).toEqual([0, 0, 1, 2]);
    expect([-5, 3, 3.6, 200].map((x) => under(x, false))).toEqual([0, 0, 1, 2]);
    expect([39, 51, 500].map((x) => placeAt(buckets[1] as Bucket, x, true))).toEqual([4, 5, 7]);
    expect(placeAt(buckets[1] as Bucket, 6.2, false)).toBe(6);
  });

  test("a stretch looked at closer stands in the place of what it is of, and the rest stays", () => {
    const coarse = [bucket(0, 8, 1), bucket(8, 8, 2), bucket(16, 8, 3), bucket(24, 4, 4)];
    const fine = [bucket(8, 4, 2), bucket(12, 4, 2)];
    expect(closer(coarse, fine).map(({ place, places }) => [place, places])).toEqual([
      [0, 8],
      [8, 4],
      [12, 4],
      [16, 8],
      [24, 4],
    ]);
    expect(closer(coarse, [])).toBe(coarse);
  });

  test("a bucket in words", () => {
    expect(bucketText({ ...bucket(3, 1, 0.123_456) })).toBe("episode 30: 0.1235");
    expect(bucketText({ ...bucket(3, 1, null, 0) })).toBe("episode 30: no finite value");
    expect(bucketText({ ...bucket(0, 8, 2), low: -1, high: 5 })).toBe("episodes 0–70: -1 to 5, mean 2");
  });

  test("a push whose curves are none is named", () => {
    const push = { kind: "push", version: VERSION, number: 1, keyframe: true, state: BLANK, spans: [] };
    const good = { run: "r", name: "r", agent: null, numbered: true };
    expect(parseMessage({ ...push, curves: [good] })).toBeTruthy();
    expect(() => parseMessage({ ...push, curves: [good], curves_more: 0.5 })).toThrow(/curves_more/);
    for (const bad of [{ ...good, agent: 3 }, { ...good, numbered: "yes" }, null]) {
      expect(() => parseMessage({ ...push, curves: [bad] })).toThrow(/curves\[0\]/);
    }
  });
});
