// The buttons that reach the run's worker: pause, resume, stop.

import type { Action } from "./messages.ts";
import type { Page } from "./page.ts";
import { plain } from "./plain.ts";
import type { View } from "./status.ts";

const WORDS: Record<Action, { now: string; asked: string; help: string }> = {
  pause: { now: "Pause", asked: "Pausing…", help: "Have the worker make no more steps until it is resumed" },
  resume: { now: "Resume", asked: "Resuming…", help: "Have the worker go on" },
  cancel: { now: "Stop", asked: "Stopping…", help: "End the worker; the run cannot be resumed" },
};
const ORDER: readonly Action[] = ["pause", "resume", "cancel"];

/** What ends a run for good is asked for twice. */
export function makeControls({ run, link }: Page): View {
  const element = document.createElement("div");
  element.className = "ltw-controls";
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", "Worker");
  const buttons = new Map(ORDER.map((action) => [action, button(action)]));
  const trouble = document.createElement("span");
  trouble.className = "ltw-controls-trouble";
  trouble.dataset.testid = "ltw-controls-trouble";
  trouble.setAttribute("role", "alert");
  element.append(...buttons.values(), trouble);

  let sure = false;
  /** Why the kernel did not take the last question; "" when it did. */
  let refused = "";

  function button(action: Action): HTMLButtonElement {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "ltw-follow";
    made.dataset.testid = `ltw-${action}`;
    made.title = WORDS[action].help;
    made.addEventListener("click", () => ask(action));
    return made;
  }

  const ask = (action: Action): void => {
    if (action === "cancel" && !sure) {
      sure = true;
      update();
      return;
    }
    sure = false;
    refused = "";
    link.ask("ask_control", { action }).catch((error: unknown) => {
      refused = error instanceof Error ? error.message : String(error);
      update();
    });
    update();
  };
  const calm = (): void => {
    if (!sure) return;
    sure = false;
    update();
  };
  const stop = buttons.get("cancel") as HTMLButtonElement;
  stop.addEventListener("blur", calm);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Escape") calm();
  };
  element.addEventListener("keydown", onKey);

  function update(): void {
    const controls = run.state?.controls ?? null;
    const offered = new Set<string>(controls?.offered ?? []);
    const asked = controls?.asked ?? "";
    element.hidden = run.isStatic || (offered.size === 0 && asked === "" && refused === "" && !controls?.trouble);
    for (const [action, made] of buttons) {
      const words = WORDS[action];
      made.hidden = !offered.has(action) && asked !== action;
      made.disabled = asked !== "";
      const text = asked === action ? words.asked : action === "cancel" && sure ? "Stop for good?" : words.now;
      if (made.textContent !== text) made.textContent = text;
      made.classList.toggle("ltw-sure", action === "cancel" && sure);
    }
    const why = plain(refused || controls?.trouble || "");
    if (trouble.textContent !== why) trouble.textContent = why;
    trouble.title = why;
    trouble.hidden = why === "";
  }

  return {
    element,
    update,
    close() {
      stop.removeEventListener("blur", calm);
      element.removeEventListener("keydown", onKey);
    },
  };
}
