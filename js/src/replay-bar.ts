// What replay is worked with: buttons, slider, speed, layers, comparing, help, and the keys.

import type { Shown } from "./picture.ts";
import { plain } from "./plain.ts";
import { makePopover, type Popover } from "./popover.ts";
import type { Replay } from "./replay.ts";
import { SPEEDS } from "./replay.ts";

const SVG = "http://www.w3.org/2000/svg";
/** Drawn in a square of 16. */
const ICONS = {
  before: "M3 3h2v10H3zM13 3v10L6 8z",
  back: "M11 3v10L4 8zM11 3h1.6v10H11z",
  play: "M4 2.5v11L13 8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  on: "M5 3v10l7-5zM3.4 3H5v10H3.4z",
  after: "M11 3h2v10h-2zM3 3v10l7-5z",
};

export const KEYS: readonly (readonly [string, string])[] = [
  ["Space", "play or pause"],
  ["← →", "a step back, on (with Shift ten)"],
  ["Home End", "first, last step"],
  ["[ ]", "episode before, after"],
  ["- +", "slower, faster"],
  ["L", "back to live, or to the end of the run"],
  ["?", "this help"],
];

const LAYERS: readonly (readonly [keyof Shown, string])[] = [
  ["direction", "Direction"],
  ["passenger", "Passenger"],
  ["destination", "Destination"],
  ["cracked", "Cracked ice"],
  ["path", "Last path"],
  ["heat", "Visits"],
  ["policy", "Best actions"],
  ["values", "Values"],
];

export interface BarState {
  /** What layers the picture can have. */
  possible: ReadonlySet<keyof Shown>;
  shown: Shown;
  /** Count visits in the replayed episode only. */
  ofEpisode: boolean;
  note: string;
  /** The step_index at which the two episodes first differ; null: nowhere, or not known. */
  differs: number | null;
  /** Whether the run is over: what was live is its end. */
  over: boolean;
}

export interface ReplayBar {
  readonly bar: HTMLElement;
  readonly tools: HTMLElement;
  /** What a key does; whether it did something. */
  key(event: KeyboardEvent): boolean;
  update(state: BarState): void;
  close(): void;
}

export interface ReplayBarOptions {
  replay: Replay;
  /** A layer was switched, or what is counted. */
  switched(change: Partial<Shown>, ofEpisode?: boolean): void;
  /** Compare with the episode of a number. */
  compare(episode: number): void;
}

export function makeReplayBar({ replay, switched, compare }: ReplayBarOptions): ReplayBar {
  let differs: number | null = null;
  const bar = make("div", "ltw-replay");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Replay");
  const before = iconButton("before", "Episode before ([)", "ltw-before", () => void replay.move(-1));
  const back = iconButton("back", "Step back (←)", "ltw-back", () => replay.step(-1));
  const play = iconButton("play", "Play (space)", "ltw-play", () => replay.toggle());
  const on = iconButton("on", "Step on (→)", "ltw-on", () => replay.step(1));
  const after = iconButton("after", "Episode after (])", "ltw-after", () => void replay.move(1));

  const track = make("span", "ltw-track");
  const slider = document.createElement("input");
  slider.type = "range";
  slider.min = "0";
  slider.step = "1";
  slider.dataset.testid = "ltw-slider";
  slider.setAttribute("aria-label", "Step");
  slider.addEventListener("input", () => replay.seek(Number(slider.value)));
  const mark = make("span", "ltw-difference-mark");
  track.append(slider, mark);

  const speed = document.createElement("select");
  speed.className = "ltw-speed";
  speed.dataset.testid = "ltw-speed";
  speed.setAttribute("aria-label", "Speed");
  speed.title = "Speed: 1× is 4 steps a second";
  for (const value of SPEEDS) {
    const option = document.createElement("option");
    option.value = String(value);
    option.textContent = `${value}×`;
    speed.append(option);
  }
  speed.addEventListener("change", () => replay.setSpeed(Number(speed.value)));

  const live = textButton("Live", "Follow the newest (L)", "ltw-live", () => replay.live());
  bar.append(before, back, play, on, after, track, speed, live);

  // -- tools

  const tools = make("span", "ltw-tools");
  const layers = makePopover("Layers", "Layers", "ltw-layers");
  const boxes = new Map<keyof Shown, HTMLLabelElement>();
  for (const [name, text] of LAYERS) {
    const box = checkbox(text, (value) => switched({ [name]: value }));
    box.dataset.testid = `ltw-layer-${name}`;
    boxes.set(name, box);
    layers.panel.append(box);
  }
  const ofEpisode = checkbox("Count this episode only", (value) => switched({}, value));
  const note = make("p", "ltw-note");
  layers.panel.append(ofEpisode, note);

  const comparing = makePopover("Compare", "Compare with another episode", "ltw-compare");
  const form = document.createElement("form");
  const number = document.createElement("input");
  number.type = "number";
  number.min = "0";
  number.step = "1";
  number.required = true;
  number.dataset.testid = "ltw-compare-episode";
  const label = document.createElement("label");
  label.append("Episode ", number);
  const submit = textButton("Show beside", "Show that episode beside this one", "ltw-compare-show");
  submit.type = "submit";
  form.append(label, submit);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    compare(Number(number.value));
    comparing.open(false);
  });
  // A host may have taken Enter for itself before the form's own way with it comes to pass.
  number.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    event.stopPropagation();
    form.requestSubmit();
  });
  const first = textButton("First difference", "Go to the first step that differs", "ltw-first-difference", () => {
    if (differs !== null) replay.seekIndex(differs);
    comparing.open(false);
  });
  const stop = textButton("Stop comparing", "Show one episode", "ltw-compare-stop", () => {
    replay.selection.set({ other: null });
    comparing.open(false);
  });
  comparing.panel.append(form, first, stop);

  const help = makePopover("?", "Keys", "ltw-keys");
  const keys = document.createElement("dl");
  for (const [key, does] of KEYS) {
    const name = document.createElement("dt");
    name.textContent = key;
    const text = document.createElement("dd");
    text.textContent = does;
    keys.append(name, text);
  }
  help.panel.append(keys);
  tools.append(layers.element, comparing.element, help.element);
  const popovers: Popover[] = [layers, comparing, help];

  const actions: Record<string, (event: KeyboardEvent) => void> = {
    " ": () => replay.toggle(),
    ArrowLeft: (event) => replay.step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => replay.step(event.shiftKey ? 10 : 1),
    Home: () => replay.home(),
    End: () => replay.end(),
    "[": () => void replay.move(-1),
    "]": () => void replay.move(1),
    "-": () => replay.faster(-1),
    "+": () => replay.faster(1),
    l: () => replay.live(),
    L: () => replay.live(),
    "?": () => help.open(help.panel.hidden),
  };

  return {
    bar,
    tools,
    key(event) {
      const target = event.target as HTMLElement;
      const does = actions[event.key];
      if (!does || event.ctrlKey || event.metaKey || event.altKey) return false;
      // What a field or a button itself does with a key is its own; the slider moves by arrows alone.
      if (target.closest("input:not([type=range]), select, textarea, .ltw-panel-over")) return false;
      if (target.closest("button") && event.key === " ") return false;
      does(event);
      return true;
    },
    update({ possible, shown, ofEpisode: only, note: words, differs: step, over }) {
      differs = step;
      const { episode, other } = replay.selection;
      const here = episode !== null;
      const { last } = replay;
      setIcon(play, replay.playing ? "pause" : here ? "play" : "pause");
      const does = replay.playing ? "Pause (space)" : here ? "Play (space)" : "Pause at this step (space)";
      play.title = does;
      play.setAttribute("aria-label", does);
      play.dataset.playing = String(replay.playing);
      back.disabled = here && replay.place <= 0;
      on.disabled = !here || replay.place >= last;
      slider.disabled = !here;
      slider.max = String(last);
      slider.value = String(here ? replay.place : 0);
      const more = replay.beyond > 0 ? `; the other one goes on, ${replay.beyond} steps after that` : "";
      const where = `step ${replay.selection.step ?? "…"} of ${replay.total}${more}`;
      slider.setAttribute("aria-valuetext", here ? where : over ? "at the end" : "live");
      speed.value = String(replay.speed);
      live.setAttribute("aria-pressed", String(!here));
      live.textContent = over ? "End" : "Live";
      live.title = over ? "The end of the run (L)" : "Follow the newest (L)";
      comparing.button.disabled = !here;
      if (!here) comparing.open(false);
      first.hidden = stop.hidden = other === null;
      comparing.button.setAttribute("aria-pressed", String(other !== null));
      const at = episode && step !== null ? (replay.store.placeOf(episode.row, step) ?? step) : null;
      first.disabled = at === null;
      mark.hidden = at === null || last === 0;
      if (at !== null) mark.style.left = `calc(7px + (100% - 14px) * ${Math.min(1, at / Math.max(1, last))})`;
      for (const [name, box] of boxes) {
        box.hidden = !possible.has(name);
        (box.firstChild as HTMLInputElement).checked = shown[name];
      }
      layers.element.hidden = possible.size === 0;
      ofEpisode.hidden = !here || !(shown.heat || shown.policy || shown.values);
      (ofEpisode.firstChild as HTMLInputElement).checked = only;
      note.textContent = plain(words);
      note.hidden = words === "";
    },
    close() {
      for (const popover of popovers) popover.close();
    },
  };
}

export function make(tag: string, className: string): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

function textButton(text: string, title: string, testid: string, does?: () => void): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "ltw-button";
  button.textContent = text;
  button.title = title;
  button.dataset.testid = testid;
  if (does) button.addEventListener("click", does);
  return button;
}

function iconButton(icon: keyof typeof ICONS, title: string, testid: string, does: () => void): HTMLButtonElement {
  const button = textButton("", title, testid, does);
  button.classList.add("ltw-icon");
  button.setAttribute("aria-label", title);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  button.append(svg);
  setIcon(button, icon);
  return button;
}

function setIcon(button: HTMLButtonElement, icon: keyof typeof ICONS): void {
  button.querySelector("path")?.setAttribute("d", ICONS[icon]);
}

function checkbox(text: string, switched: (value: boolean) => void): HTMLLabelElement {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.addEventListener("change", () => switched(box.checked));
  label.append(box, ` ${text}`);
  return label;
}
