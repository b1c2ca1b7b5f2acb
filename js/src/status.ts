// The status line: which run, how it stands, how much of it is here, and what was wrong.

import { countText } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import type { ProblemCount, State } from "./messages.ts";
import { plain } from "./plain.ts";
import type { RunState } from "./run-state.ts";

export interface View {
  readonly element: HTMLElement;
  update(): void;
  close(): void;
}

/** How a run stands, in a word for style sheets and tests, and in words for people. */
export function standing(state: State | null): { key: string; text: string } {
  if (!state) return { key: "connecting", text: "Connecting" };
  const { status, connection, steps } = state;
  if (status === "completed") return { key: status, text: "Completed" };
  if (status === "failed") return { key: status, text: "Failed" };
  if (status === "cancelled") return { key: status, text: "Cancelled" };
  if (connection.state === "recording") return { key: "recording", text: "Recording" };
  if (connection.state === "connecting" && steps === 0) return { key: "connecting", text: "Connecting" };
  if (status === "paused") return { key: status, text: "Paused" };
  if (steps === 0) return { key: "waiting", text: "Waiting for the first step" };
  if (status === "running" || status === "unknown") return { key: "running", text: "Running" };
  return { key: "waiting", text: status.charAt(0).toUpperCase() + status.slice(1) };
}

/** How the hub stands with the daemon, in words; "" when there is nothing to say. */
export function connectionText(state: State | null, now: number): string {
  if (!state) return "waiting for the kernel";
  const { state: kind, attempt, retry_at } = state.connection;
  switch (kind) {
    case "reconnecting": {
      const seconds = Math.ceil(retry_at - now / 1000);
      const next = retry_at > 0 && seconds > 0 ? `, next in ${seconds} s` : "";
      return `reconnecting, attempt ${Math.max(1, attempt)}${next}`;
    }
    default:
      return kind;
  }
}

export function makeStatus(run: RunState, clock: Clock = browserClock): View {
  const element = make("header", "ltw-status", "ltw-status");
  const pill = make("span", "ltw-pill", "ltw-state");
  pill.setAttribute("role", "status");
  pill.setAttribute("aria-live", "polite");
  const name = make("span", "ltw-name");
  const id = make("span", "ltw-id");
  const agents = make("span", "ltw-agents");
  const connection = make("span", "ltw-connection", "ltw-connection");
  const identity = make("div", "ltw-identity");
  identity.append(pill, name, id, agents, connection);

  const steps = counter("ltw-steps-count", "steps");
  const episodes = counter("ltw-episodes-count", "episodes");
  const rate = counter("ltw-rate", "steps/s");
  const badge = make("button", "ltw-badge", "ltw-problems") as HTMLButtonElement;
  badge.type = "button";
  badge.setAttribute("aria-expanded", "false");
  const list = make("div", "ltw-problem-list");
  list.hidden = true;
  list.setAttribute("role", "region");
  list.setAttribute("aria-label", "Problems");
  const counters = make("div", "ltw-counters");
  counters.append(steps.element, episodes.element, rate.element, badge, list);
  const notice = make("p", "ltw-notice");
  element.append(identity, counters, notice);

  let shownProblems = "";
  let stopClock: (() => void) | null = null;

  const tick = (): void => {
    stopClock?.();
    stopClock = null;
    const now = clock.now();
    say(connection, connectionText(run.state, now));
    const retryAt = run.state?.connection.state === "reconnecting" ? run.state.connection.retry_at * 1000 : 0;
    // Only a countdown needs a clock; it wakes when the next second begins.
    if (retryAt > now) stopClock = clock.after(Math.max(50, (retryAt - now) % 1000 || 1000), tick);
  };

  const open = (on: boolean): void => {
    list.hidden = !on;
    badge.setAttribute("aria-expanded", String(on));
  };
  const onBadge = (): void => open(list.hidden);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || list.hidden) return;
    event.stopPropagation();
    open(false);
    badge.focus();
  };
  const onOutside = (event: Event): void => {
    if (!list.hidden && !event.composedPath().includes(counters)) open(false);
  };
  badge.addEventListener("click", onBadge);
  counters.addEventListener("keydown", onKey);
  document.addEventListener("pointerdown", onOutside);

  return {
    element,
    update() {
      const { state } = run;
      const { key, text } = standing(state);
      if (pill.dataset.state !== key) pill.dataset.state = key;
      say(pill, text);
      say(name, state ? state.name || state.run_id : "");
      say(id, state?.name ? state.run_id : "");
      if (state) name.title = plain(`run ${state.run_id}`);
      const who = (state?.agents ?? []).filter((agent) => agent !== "");
      say(agents, who.length > 3 ? `${who.length} agents` : who.join(", "));
      agents.title = plain(who.join(", "));
      connection.title = plain(state?.connection.message ?? "");
      element.dataset.connection = state?.connection.state ?? "connecting";
      tick();
      say(steps.value, countText(state?.steps ?? 0));
      const expected = state?.expected_episodes;
      say(episodes.value, countText(state?.episodes ?? 0) + (expected ? ` of ${countText(expected)}` : ""));
      say(rate.value, rateText(state?.steps_per_s ?? 0));
      showProblems(state?.problems ?? []);
      const [kind, words] = noticeOf(run, key, text);
      say(notice, words);
      notice.hidden = words === "";
      notice.dataset.state = kind;
    },
    close() {
      stopClock?.();
      badge.removeEventListener("click", onBadge);
      counters.removeEventListener("keydown", onKey);
      document.removeEventListener("pointerdown", onOutside);
    },
  };

  function showProblems(problems: readonly ProblemCount[]): void {
    const key = JSON.stringify(problems);
    if (key === shownProblems) return;
    shownProblems = key;
    const count = problems.reduce((sum, problem) => sum + problem.count, 0);
    badge.dataset.count = String(count);
    say(badge, count === 1 ? "1 problem" : `${countText(count)} problems`);
    badge.disabled = count === 0;
    if (count === 0) {
      open(false);
      say(badge, "no problems");
    }
    list.replaceChildren(
      ...problems.map(({ kind, count: times, detail }) => {
        const item = make("div", "ltw-problem");
        const head = make("div", "ltw-problem-kind");
        const many = make("span", "ltw-problem-count");
        say(head, kind.replaceAll("_", " "));
        say(many, `${countText(times)}×`);
        head.append(many);
        const body = make("div", "ltw-problem-detail");
        say(body, detail);
        item.append(head, body);
        return item;
      }),
    );
  }
}

/** What is wrong, if anything, and how badly. */
function noticeOf(run: RunState, key: string, text: string): [kind: string, words: string] {
  const { state, fault } = run;
  if (fault) return ["failed", `A message from the kernel was not understood: ${fault}`];
  if (state?.reason && (key === "failed" || key === "cancelled")) return [key, `${text}: ${state.reason}`];
  // A link that comes and goes must not move the page: why it is gone is told where it says so.
  if (state?.connection.message && state.connection.state === "closed") return ["connection", state.connection.message];
  return ["", ""];
}

function counter(testid: string, unit: string): { element: HTMLElement; value: HTMLElement } {
  const element = make("span", "ltw-counter");
  const value = make("span", "ltw-value", testid);
  const name = make("span", "ltw-unit");
  name.textContent = unit;
  element.append(value, name);
  return { element, value };
}

function rateText(rate: number): string {
  return rate > 0 && rate < 10 ? rate.toFixed(1) : countText(rate);
}

function make(tag: string, className: string, testid?: string): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  if (testid) element.dataset.testid = testid;
  return element;
}

function say(element: HTMLElement, words: string): void {
  const text = plain(words, true);
  if (element.textContent !== text) element.textContent = text;
}
