// A button that opens a small panel; Escape and a click elsewhere close it.

export interface Popover {
  readonly element: HTMLElement;
  readonly button: HTMLButtonElement;
  readonly panel: HTMLElement;
  open(on: boolean): void;
  close(): void;
}

export function makePopover(text: string, name: string, testid: string): Popover {
  const element = document.createElement("span");
  element.className = "ltw-popover";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "ltw-button";
  button.textContent = text;
  button.title = name;
  button.dataset.testid = testid;
  if (text !== name) button.setAttribute("aria-label", name);
  button.setAttribute("aria-expanded", "false");
  const panel = document.createElement("div");
  panel.className = "ltw-panel-over";
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", name);
  panel.hidden = true;
  element.append(button, panel);

  const open = (on: boolean): void => {
    panel.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
  };
  const onButton = (): void => open(panel.hidden);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || panel.hidden) return;
    event.stopPropagation();
    open(false);
    button.focus();
  };
  const onOutside = (event: Event): void => {
    if (!panel.hidden && !event.composedPath().includes(element)) open(false);
  };
  button.addEventListener("click", onButton);
  element.addEventListener("keydown", onKey);
  document.addEventListener("pointerdown", onOutside);
  return {
    element,
    button,
    panel,
    open,
    close() {
      button.removeEventListener("click", onButton);
      element.removeEventListener("keydown", onKey);
      document.removeEventListener("pointerdown", onOutside);
    },
  };
}
