// The line above the tables: filter, go to an episode, choose columns.

import { faultOf, lacking, meant, written } from "./filter-words.ts";
import { label } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import type { Page } from "./page.ts";
import { plain } from "./plain.ts";
import { makePopover } from "./popover.ts";
import type { Selected } from "./selection.ts";
import type { View } from "./status.ts";
import { foundIn } from "./table-hands.ts";
import { DIGITS, type TableState } from "./table-state.ts";

/** Typing for so long without a pause is one filter. */
const TYPED_MS = 300;

export function makeTableBar(page: Page, clock: Clock = browserClock): View {
  const { selection, link } = page;
  const states: TableState[] = [page.tables.steps, page.tables.episodes];
  const element = document.createElement("div");
  element.className = "ltw-bar";

  const filter = field(
    "Filter rows by columns of the steps, as in: reward > 0 and action == 2; or of the episodes, as in: outcome == 'Failed' and steps < 10",
    "filter, as in: reward > 0",
    "ltw-filter",
  );
  filter.spellcheck = false;
  filter.autocapitalize = "off";
  const go = field("Episode, or episode:step", "go to 12:5", "ltw-go");
  const note = document.createElement("span");
  note.className = "ltw-bar-note";
  note.id = `ltw-note-${Math.random().toString(36).slice(2, 8)}`;
  note.setAttribute("role", "status");
  note.dataset.testid = "ltw-filter-note";
  filter.setAttribute("aria-describedby", note.id);
  const columns = makePopover("Columns", "Choose and order columns", "ltw-columns");
  columns.panel.classList.add("ltw-column-list");
  element.append(filter, note, go, columns.element);

  let stopTyping = (): void => {};
  let goFault = "";
  const namesOf = (state: TableState): string[] => [
    ...new Set([...page.run.rows(state.table).columns, ...state.columns].map(({ name }) => name)),
  ];
  const typed = (): string => {
    const names = new Set(states.flatMap(namesOf));
    return meant(filter.value.trim(), (name) => names.has(name));
  };
  const apply = (): void => {
    stopTyping();
    selection.set({ filter: typed() });
  };
  /** Who is done with typing sees what the columns are called. */
  const settle = (): void => {
    apply();
    if (filter.value.trim() !== selection.filter) filter.value = selection.filter;
  };
  const onInput = (): void => {
    stopTyping();
    stopTyping = clock.after(TYPED_MS, apply);
  };
  const onFilterKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter") settle();
    else if (event.key === "Escape" && filter.value !== "") {
      event.stopPropagation();
      filter.value = "";
      apply();
    }
  };

  const goTo = async (): Promise<void> => {
    const [, episode, step] = /^\s*(\d+)(?:\s*[:,.\s]\s*(\d+))?\s*$/.exec(go.value) ?? [];
    goFault = "";
    if (episode === undefined) goFault = go.value.trim() === "" ? "" : "Write an episode's number, or episode:step.";
    else {
      try {
        const asked = { episode: Number(episode), ...(step === undefined ? {} : { step: Number(step) }) };
        const [found] = foundIn((await link.ask("ask_find", asked)).fields.found);
        if (!found) goFault = `There is no episode ${episode}.`;
        else if (step !== undefined && found.row === null) goFault = `Step ${step} of episode ${episode} is not here.`;
        if (found) selection.set({ episode: found.episode, step: step === undefined ? null : Number(step) });
      } catch (error) {
        goFault = error instanceof Error ? error.message : String(error);
      }
    }
    go.toggleAttribute("aria-invalid", goFault !== "");
    update();
  };
  const onGoKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter") void goTo();
  };

  // -- columns

  const fill = (): void => {
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.key : undefined;
    columns.panel.replaceChildren(...states.map(listOf));
    if (focused) columns.panel.querySelector<HTMLElement>(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  };
  const listOf = (state: TableState): HTMLElement => {
    const list = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = state.table === "steps" ? "Steps" : "Episodes";
    list.append(legend);
    const all = state.columns;
    for (const [i, { name }] of all.entries()) {
      const row = document.createElement("div");
      const choice = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !state.hidden.has(name);
      box.dataset.key = `${state.table} ${name}`;
      box.addEventListener("change", () => state.show(name, box.checked));
      choice.append(box, label(state.table, name));
      const up = small("↑", `Move ${label(state.table, name)} to the left`, `${state.table} ${name} up`, i === 0);
      up.addEventListener("click", () => state.move(name, -1));
      const down = small(
        "↓",
        `Move ${label(state.table, name)} to the right`,
        `${state.table} ${name} down`,
        i === all.length - 1,
      );
      down.addEventListener("click", () => state.move(name, 1));
      row.append(choice, up, down);
      list.append(row);
    }
    const foot = document.createElement("div");
    const digits = document.createElement("select");
    digits.className = "ltw-speed";
    digits.dataset.key = `${state.table} digits`;
    digits.setAttribute("aria-label", `Digits of numbers in ${legend.textContent}`);
    for (const count of DIGITS) {
      const option = new Option(count === 17 ? "all digits" : `${count} digits`, String(count));
      option.selected = count === state.digits;
      digits.append(option);
    }
    digits.addEventListener("change", () => state.setDigits(Number(digits.value)));
    const reset = small("Reset", `Columns of ${legend.textContent} as they were`, `${state.table} reset`, false);
    reset.addEventListener("click", () => state.reset());
    foot.append(digits, reset);
    list.append(foot);
    return list;
  };

  // -- what it shows

  const update = (): void => {
    const { filter: wanted } = selection;
    filter.disabled = go.disabled = page.run.isStatic;
    const faults = states.map((state) => state.arrangement?.fault ?? null);
    const [steps, episodes] = faults;
    // An expression that fits one of the tables is none that is wrong.
    const wrong =
      wanted !== "" && steps && episodes
        ? faultOf({ steps, episodes }, { steps: namesOf(page.tables.steps), episodes: namesOf(page.tables.episodes) })
        : null;
    filter.setAttribute("aria-invalid", String(wrong !== null));
    let text = goFault;
    if (wrong) {
      // Beside an agent's name the expression stands in brackets.
      const at = wrong.position - (selection.agent === null ? 0 : 1);
      text = `${wrong.text} (at character ${Math.max(0, Math.min(at, wanted.length)) + 1})`;
    } else if (wanted !== "" && text === "") text = states.map(matchText).filter(Boolean).join(" · ");
    note.classList.toggle("ltw-bar-fault", wrong !== null || goFault !== "");
    text = plain(text);
    if (note.textContent !== text) note.textContent = text;
    note.title = text;
  };
  const matchText = (state: TableState): string => {
    const { arrangement } = state;
    if (!arrangement || arrangement.wish.where === "") return "";
    const name = state.table;
    if (arrangement.fault) {
      const column = lacking(arrangement.fault);
      return column === null
        ? `${name}: not filtered, ${arrangement.fault.reason}`
        : `all ${name}, which have no ${written(column)}`;
    }
    const { progress } = arrangement;
    if (!progress) return `${name}: waiting for the kernel…`;
    const share =
      progress.scanned < progress.of ? ` (${Math.floor((100 * progress.scanned) / progress.of)} % looked at)` : "";
    return `${arrangement.total.toLocaleString("en")} ${name}${share}`;
  };

  const onStates = (): void => {
    if (!columns.panel.hidden) fill();
    update();
  };
  const onSelection = (now: Selected, before?: Selected): void => {
    // What is being typed stays when something else is selected meanwhile, a step that is played, say.
    if (now.filter !== before?.filter && typed() !== now.filter) filter.value = now.filter;
    update();
  };
  const stops = [...states.map((state) => state.listen(onStates)), selection.listen(onSelection)];
  filter.addEventListener("input", onInput);
  filter.addEventListener("change", settle);
  filter.addEventListener("keydown", onFilterKey);
  go.addEventListener("keydown", onGoKey);
  columns.button.addEventListener("click", fill);
  onSelection(selection.now);

  return {
    element,
    update,
    close() {
      stopTyping();
      for (const stop of stops) stop();
      columns.close();
    },
  };
}

function field(name: string, hint: string, testid: string): HTMLInputElement {
  const input = document.createElement("input");
  input.type = "text";
  input.className = "ltw-field";
  input.placeholder = hint;
  input.title = name;
  input.setAttribute("aria-label", name);
  input.dataset.testid = testid;
  return input;
}

function small(text: string, name: string, key: string, off: boolean): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "ltw-button";
  button.textContent = text;
  button.title = name;
  button.setAttribute("aria-label", name);
  button.dataset.key = key;
  button.disabled = off;
  return button;
}
