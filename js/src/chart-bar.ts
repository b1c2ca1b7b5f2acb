// What stands above the curves: what is drawn, of whom, how smooth, and which line is whose.

import type { Bucket, Curve, Curves, Measure } from "./curves.ts";

const TITLES: Record<Measure, string> = { total_reward: "Return", steps: "Length" };
const ALL = "all";
const EACH = "each";
const STYLES = ["solid", "dashed", "dotted", "dashed", "dashed", "dotted"];

export interface Bar {
  readonly element: HTMLElement;
  readonly legend: HTMLElement;
  readonly measure: Measure;
  readonly title: string;
  /** Episodes that the line is a mean of. */
  window(buckets: readonly Bucket[]): number;
  /** The curves to draw, of those there are; `agent` is the one that is selected. */
  choose(curves: Curves, agent: string | null): Curve[];
  nameOf(curve: Curve): string;
  colour(curve: Curve): number;
}

export function makeBar(changed: () => void): Bar {
  const element = document.createElement("figcaption");
  const measure = choice("Shown by episode", "ltw-curve-measure");
  options(measure, [
    ["total_reward", "Return by episode"],
    ["steps", "Length by episode"],
  ]);
  const agents = choice("Agents", "ltw-curve-agents");
  agents.hidden = true;
  const smooth = choice("Smoothing", "ltw-curve-smooth");
  options(smooth, [
    ["", "smooth"],
    ["1", "as is"],
    ...[10, 100, 1000].map((n): [string, string] => [String(n), `mean of ${n}`]),
  ]);
  element.append(measure, agents, smooth);
  const legend = document.createElement("div");
  legend.className = "ltw-legend";
  legend.dataset.testid = "ltw-legend";
  legend.hidden = true;

  const off = new Set<string>();
  let all: Curves = [];
  let legendOf = "";
  let selected: string | null = null;
  for (const select of [measure, agents, smooth]) select.addEventListener("change", changed);

  const runs = (): string[] => [...new Set(all.map((curve) => curve.run))];
  const nameOf = (curve: Curve): string => {
    const names = new Map(all.map((one) => [one.run, one.name || one.run]));
    const name = names.get(curve.run) ?? curve.run;
    const alike = [...names.values()].filter((other) => other === name).length > 1;
    const run = alike ? `${name} (${curve.run})` : name;
    return [runs().length > 1 ? run : "", curve.agent ?? (runs().length > 1 ? "" : "all")].filter(Boolean).join(" · ");
  };
  const key = (curve: Curve): string => JSON.stringify([curve.run, curve.agent]);

  function showLegend(shown: readonly Curve[]): void {
    legend.hidden = shown.length < 2;
    const now = JSON.stringify(shown.map((curve) => [key(curve), nameOf(curve), off.has(key(curve))]));
    if (now === legendOf) return;
    legendOf = now;
    const focused = [...legend.children].indexOf(document.activeElement as Element);
    legend.replaceChildren(
      ...shown.map((curve) => {
        const item = document.createElement("button");
        item.type = "button";
        item.className = "ltw-legend-item";
        item.setAttribute("aria-pressed", String(!off.has(key(curve))));
        item.title = "Show or hide this curve";
        const swatch = document.createElement("span");
        swatch.className = "ltw-swatch";
        swatch.style.borderTopStyle = STYLES[bar.colour(curve) % STYLES.length] as string;
        swatch.style.borderTopColor = `var(--ltw-series-${bar.colour(curve) % 6})`;
        const name = document.createElement("span");
        name.textContent = nameOf(curve);
        item.append(swatch, name);
        item.addEventListener("click", () => {
          if (!off.delete(key(curve))) off.add(key(curve));
          changed();
        });
        return item;
      }),
    );
    (legend.children[focused] as HTMLElement | undefined)?.focus();
  }

  const bar: Bar = {
    element,
    legend,
    get measure() {
      return measure.value === "steps" ? "steps" : "total_reward";
    },
    get title() {
      return TITLES[bar.measure];
    },
    window(buckets) {
      const chosen = Number(smooth.value);
      const ended = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
      return chosen || Math.max(20, Math.round(ended / 100));
    },
    choose(curves, agent) {
      all = curves;
      const own = curves[0]?.run;
      const names = curves.flatMap((curve) => (curve.run === own && curve.agent !== null ? [curve.agent] : []));
      agents.hidden = names.length < 2;
      options(agents, [
        [ALL, "all agents"],
        [EACH, "each agent"],
        ...names.map((name): [string, string] => [`=${name}`, name || "(no name)"]),
      ]);
      if (agent !== selected) agents.value = agent !== null && names.includes(agent) ? `=${agent}` : ALL;
      selected = agent;
      if (!agents.value) agents.value = ALL;
      const wanted = curves.filter((curve, i) => {
        if (curve.run !== own || names.length < 2) return true;
        if (agents.value === ALL) return i === 0;
        return i > 0 && (agents.value === EACH || agents.value === `=${curve.agent}`);
      });
      showLegend(wanted);
      return wanted.filter((curve) => !off.has(key(curve)));
    },
    nameOf,
    colour: (curve) => Math.max(0, all.indexOf(curve)),
  };
  return bar;
}

function choice(name: string, testid: string): HTMLSelectElement {
  const select = document.createElement("select");
  select.className = "ltw-choice";
  select.setAttribute("aria-label", name);
  select.dataset.testid = testid;
  return select;
}

/** Make these the options, and keep what is chosen while it is one of them; an open list is left alone when nothing changed. */
function options(select: HTMLSelectElement, wanted: readonly (readonly [value: string, text: string])[]): void {
  const same =
    select.options.length === wanted.length &&
    wanted.every(([value, text], i) => select.options[i]?.value === value && select.options[i]?.text === text);
  if (same) return;
  const { value } = select;
  select.replaceChildren(...wanted.map(([held, text]) => new Option(text, held)));
  select.value = wanted.some(([held]) => held === value) ? value : (wanted[0]?.[0] ?? "");
}
