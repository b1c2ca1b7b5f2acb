// What stands above the curves: what is drawn, of whom, how smooth, what is under the cursor, and which line is whose.

import { type Bucket, type Curve, type Curves, keyOf, type Measure } from "./curves.ts";
import { plain } from "./plain.ts";
import type { Line } from "./plot.ts";

const TITLES: Record<Measure, string> = { total_reward: "Return", steps: "Length" };
const ALL = "all";
const EACH = "each";
/** Colour is not all that tells curves apart. As many as the kernel sends. */
const DASHES: readonly number[][] = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [4, 2, 1, 2], [1, 4], [12, 3, 3, 3]];

export interface Bar {
  readonly element: HTMLElement;
  readonly legend: HTMLElement;
  readonly measure: Measure;
  readonly title: string;
  /** Episodes that the line is a mean of. */
  window(buckets: readonly Bucket[]): number;
  /** The curves to draw, of those there are; `agent` is the one that is selected. */
  choose(curves: Curves, agent: string | null): Curve[];
  /** Whether one was chosen to be hidden. */
  readonly hides: boolean;
  nameOf(curve: Curve): string;
  look(curve: Curve): Pick<Line, "colour" | "dash">;
  /** Say what is under the cursor; and of one curve, beside its name. */
  read(text: string): void;
  tell(curve: Curve, value: string): void;
  /** Whether one looks closer. */
  zoomed(on: boolean): void;
}

export function makeBar(changed: () => void, showAll: () => void): Bar {
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
  const all = document.createElement("button");
  all.type = "button";
  all.className = "ltw-button";
  all.textContent = "All";
  all.title = "Show all episodes again (Escape)";
  all.hidden = true;
  all.dataset.testid = "ltw-curve-all";
  all.addEventListener("click", showAll);
  const readout = document.createElement("span");
  readout.className = "ltw-readout";
  readout.dataset.testid = "ltw-readout";
  element.append(measure, agents, smooth, all, readout);
  const legend = document.createElement("div");
  legend.className = "ltw-legend";
  legend.dataset.testid = "ltw-legend";
  legend.hidden = true;
  for (const select of [measure, agents, smooth]) select.addEventListener("change", changed);

  const off = new Set<string>();
  const values = new Map<string, HTMLElement>();
  let held: Curves = { series: [], more: 0 };
  let legendOf = "";
  let selected: string | null = null;

  const nameOf = (curve: Curve): string => {
    const names = new Map(held.series.map((one) => [one.run, one.name || one.run]));
    const name = names.get(curve.run) ?? curve.run;
    const alike = [...names.values()].filter((other) => other === name).length > 1;
    const run = alike ? `${name} (${curve.run})` : name;
    const parts = [names.size > 1 ? run : "", curve.agent ?? (names.size > 1 ? "" : "all")];
    return plain(parts.filter(Boolean).join(" · "));
  };
  const place = (curve: Curve): number => Math.max(0, held.series.indexOf(curve)) % DASHES.length;

  function item(curve: Curve): HTMLElement {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "ltw-legend-item";
    button.setAttribute("aria-pressed", String(!off.has(keyOf(curve))));
    button.title = `Show or hide ${nameOf(curve)}`;
    const name = document.createElement("span");
    name.textContent = nameOf(curve);
    const value = document.createElement("b");
    values.set(keyOf(curve), value);
    button.append(swatch(place(curve)), name, value);
    button.addEventListener("click", () => {
      if (!off.delete(keyOf(curve))) off.add(keyOf(curve));
      changed();
    });
    return button;
  }

  function showLegend(shown: readonly Curve[]): void {
    legend.hidden = shown.length < 2 && held.more === 0;
    const now = JSON.stringify([held.more, shown.map((one) => [keyOf(one), nameOf(one), off.has(keyOf(one))])]);
    if (now === legendOf) return;
    legendOf = now;
    values.clear();
    const focused = [...legend.children].indexOf(document.activeElement as Element);
    const more = document.createElement("span");
    more.textContent = held.more > 0 ? `${held.more} more not drawn` : "";
    more.title = "So many agents or runs have no curve here; a view of each has";
    legend.replaceChildren(...(shown.length > 1 ? shown.map(item) : []), more);
    (legend.children[focused] as HTMLElement | undefined)?.focus();
  }

  return {
    element,
    legend,
    get measure() {
      return measure.value === "steps" ? "steps" : "total_reward";
    },
    get title() {
      return TITLES[this.measure];
    },
    window(buckets) {
      const ended = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
      return Number(smooth.value) || Math.max(20, Math.round(ended / 100));
    },
    choose(curves, agent) {
      held = curves;
      const { series } = curves;
      const own = series[0]?.run;
      const names = series.flatMap((curve) => (curve.run === own && curve.agent !== null ? [curve.agent] : []));
      agents.hidden = names.length < 2;
      options(agents, [
        [ALL, "all agents"],
        [EACH, "each agent"],
        ...names.map((name): [string, string] => [`=${name}`, plain(name) || "(no name)"]),
      ]);
      if (agent !== selected) agents.value = agent !== null && names.includes(agent) ? `=${agent}` : ALL;
      selected = agent;
      if (!agents.value) agents.value = ALL;
      const wanted = series.filter((curve, i) => {
        if (curve.run !== own || names.length < 2) return true;
        if (agents.value === ALL) return i === 0;
        return i > 0 && (agents.value === EACH || agents.value === `=${curve.agent}`);
      });
      showLegend(wanted);
      return wanted.filter((curve) => !off.has(keyOf(curve)));
    },
    get hides() {
      return off.size > 0;
    },
    nameOf,
    look: (curve) => ({ colour: `--ltw-series-${place(curve)}`, dash: DASHES[place(curve)] as number[] }),
    read(words) {
      const text = plain(words);
      if (readout.textContent !== text) readout.textContent = readout.title = text;
    },
    tell(curve, value) {
      const shown = values.get(keyOf(curve));
      if (shown) shown.textContent = value;
    },
    zoomed(on) {
      all.hidden = !on;
    },
  };
}

const SVG = "http://www.w3.org/2000/svg";

/** A piece of the line itself. */
function swatch(place: number): Element {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "ltw-swatch");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", "M0 2h24");
  line.setAttribute("stroke-dasharray", (DASHES[place] as number[]).join(" "));
  line.style.stroke = `var(--ltw-series-${place})`;
  svg.append(line);
  return svg;
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
    wanted.every(([value, text], i) => select.options[i]?.value === value && select.options[i]?.textContent === text);
  if (same) return;
  const { value } = select;
  select.replaceChildren(...wanted.map(([held, text]) => new Option(text, held)));
  select.value = wanted.some(([held]) => held === value) ? value : (wanted[0]?.[0] ?? "");
}
