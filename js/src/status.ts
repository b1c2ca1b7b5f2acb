// The status line: which run, how it stands, how much of it is here, and what was wrong.

import { countText } from "./labels.ts";
import { browserClock, type Clock } from "./link.ts";
import type { ProblemCount, State } from "./messages.ts";
import { plain } from "./plain.ts";
import { makePopover } from "./popover.ts";
import type { RunState } from "./run-state.ts";
import { connectionOf, isOver, missingText, noticeOf, standing } from "./standing.ts";

export interface View {
  readonly element: HTMLElement;
  update(): void;
  close(): void;
}

export function makeStatus(run: RunState, root: HTMLElement, clock: Clock = browserClock): View {
  const element = make("header", "ltw-status", "ltw-status");
  const pill = make("span", "ltw-pill", "ltw-state");
  pill.setAttribute("role", "status");
  pill.setAttribute("aria-live", "polite");
  const name = make("span", "ltw-name");
  const id = make("span", "ltw-id");
  const agents = make("span", "ltw-agents");
  const connection = make("span", "ltw-connection", "ltw-connection");
  const reason = make("span", "ltw-why", "ltw-why");
  const identity = make("div", "ltw-identity");
  identity.append(pill, name, id, agents, connection, reason);

  const steps = counter("ltw-steps-count", "steps");
  const episodes = counter("ltw-episodes-count", "episodes");
  const rate = counter("ltw-rate", "steps/s");
  const missing = make("span", "ltw-missing", "ltw-missing");
  const problems = makePopover("Problems", "Problems", "ltw-problems");
  const { button: badge, panel: list } = problems;
  badge.className = "ltw-badge";
  list.classList.add("ltw-problem-list");
  const counters = make("div", "ltw-counters");
  counters.append(steps.element, episodes.element, rate.element, missing, problems.element);
  const notice = make("p", "ltw-notice", "ltw-notice");
  notice.setAttribute("role", "status");
  notice.setAttribute("aria-live", "polite");
  const progress = makeProgress();
  element.append(identity, counters, notice, progress.element);

  let shownProblems = "";
  let stopClock: (() => void) | null = null;

  const tick = (): void => {
    stopClock?.();
    stopClock = null;
    const now = clock.now();
    const { key, text } = connectionOf(run, now);
    say(connection, text);
    element.dataset.connection = key;
    const retryAt = run.state?.connection.state === "reconnecting" ? run.state.connection.retry_at * 1000 : 0;
    // Only a countdown needs a clock; it wakes when the next second begins.
    if (retryAt > now) stopClock = clock.after(Math.max(50, (retryAt - now) % 1000 || 1000), tick);
  };

  return {
    element,
    update() {
      const { state } = run;
      const { key, text } = standing(run);
      root.dataset.state = key;
      if (pill.dataset.state !== key) pill.dataset.state = key;
      say(pill, text);
      say(name, state ? state.name || state.run_id : "");
      say(id, state?.name ? state.run_id : "");
      if (state) name.title = id.title = plain([state.name, `run ${state.run_id}`].filter(Boolean).join(", "));
      const who = (state?.agents ?? []).filter((agent) => agent !== "");
      say(agents, who.length > 3 ? `${who.length} agents` : who.join(", "));
      agents.title = plain(who.join(", "));
      const why = key === "reconnecting" ? (state?.connection.message ?? "") : "";
      say(reason, why);
      connection.title = reason.title = plain(state?.connection.message ?? "");
      tick();
      say(steps.value, countText(state?.steps ?? 0));
      const expected = state?.expected_episodes;
      say(episodes.value, countText(state?.episodes ?? 0) + (expected ? ` of ${countText(expected)}` : ""));
      say(rate.value, rateText(state?.steps_per_s ?? 0));
      // Nobody knows how fast a run is that nothing is heard of, and one that is over is not slow.
      rate.element.hidden = run.lost !== "" || key === "reconnecting" || isOver(run);
      const lacking = missingText(state);
      say(missing, lacking);
      missing.title = plain(
        (state?.problems ?? [])
          .filter(isGap)
          .map(({ detail }) => detail)
          .join("; "),
      );
      showProblems(state?.problems ?? []);
      progress.show(state);
      const said = noticeOf(run);
      say(notice, said.text);
      notice.hidden = said.text === "";
      notice.dataset.state = said.key;
    },
    close() {
      stopClock?.();
      problems.close();
    },
  };

  function showProblems(counts: readonly ProblemCount[]): void {
    const key = JSON.stringify(counts);
    if (key === shownProblems) return;
    shownProblems = key;
    const count = counts.reduce((sum, problem) => sum + problem.count, 0);
    badge.dataset.count = String(count);
    say(badge, count === 1 ? "1 problem" : `${countText(count)} problems`);
    badge.disabled = count === 0;
    if (count === 0) {
      problems.open(false);
      say(badge, "no problems");
    }
    list.replaceChildren(
      ...counts.map(({ kind, count: times, detail }) => {
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

/** How far the run is, where it was said how many episodes there will be. */
function makeProgress(): { element: HTMLElement; show(state: State | null): void } {
  const element = make("div", "ltw-progress", "ltw-progress");
  const bar = make("div", "ltw-progress-bar");
  element.append(bar);
  element.setAttribute("role", "progressbar");
  element.setAttribute("aria-label", "Episodes that have ended");
  element.setAttribute("aria-valuemin", "0");
  return {
    element,
    show(state) {
      const of = state?.expected_episodes ?? 0;
      element.hidden = of === 0;
      if (!state || of === 0) return;
      const ended = Math.min(state.ended_episodes, of);
      element.setAttribute("aria-valuemax", String(of));
      element.setAttribute("aria-valuenow", String(ended));
      element.setAttribute("aria-valuetext", `${countText(state.ended_episodes)} of ${countText(of)} episodes`);
      bar.style.width = `${(100 * ended) / of}%`;
    },
  };
}

function isGap({ kind }: ProblemCount): boolean {
  return kind === "gap" || kind === "episode_gap";
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
