// The tables: one at a time under tabs, or side by side where there is room (the style sheet decides).

import type { TableView } from "./table.ts";

let made = 0;

export interface Tab {
  title: string;
  table: TableView;
}

export function makeTabs(tabs: readonly Tab[], bar: HTMLElement): { element: HTMLElement; close(): void } {
  const id = `ltw-tabs-${++made}-${Math.random().toString(36).slice(2, 8)}`;
  const element = document.createElement("div");
  element.className = "ltw-tables";
  const list = document.createElement("div");
  list.className = "ltw-tablist";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Tables");
  element.append(bar, list);

  const buttons: HTMLButtonElement[] = [];
  const panels: HTMLElement[] = [];
  for (const [i, { title, table }] of tabs.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "ltw-tab";
    button.id = `${id}-tab-${i}`;
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", `${id}-panel-${i}`);
    button.textContent = title;
    button.addEventListener("click", () => select(i));
    button.dataset.testid = `ltw-tab-${title.toLowerCase()}`;
    list.append(button);
    buttons.push(button);

    const panel = document.createElement("div");
    panel.className = "ltw-panel";
    panel.id = `${id}-panel-${i}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-label", title);
    const head = document.createElement("div");
    head.className = "ltw-panel-head";
    const heading = document.createElement("span");
    heading.className = "ltw-heading";
    heading.textContent = title;
    head.append(heading, table.follow);
    panel.append(head, table.element);
    element.append(panel);
    panels.push(panel);
  }

  const select = (chosen: number): void => {
    for (const [i, button] of buttons.entries()) {
      const on = i === chosen;
      button.setAttribute("aria-selected", String(on));
      button.tabIndex = on ? 0 : -1;
      panels[i]?.toggleAttribute("data-selected", on);
    }
  };

  const onKey = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const from = buttons.indexOf(event.target as HTMLButtonElement);
    if (step === 0 || from < 0) return;
    event.preventDefault();
    const to = (from + step + buttons.length) % buttons.length;
    select(to);
    buttons[to]?.focus();
  };
  list.addEventListener("keydown", onKey);
  select(0);

  return { element, close: () => list.removeEventListener("keydown", onKey) };
}
