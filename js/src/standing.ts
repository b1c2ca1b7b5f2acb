// How a run stands, in words: what the status line, the picture, the curve and the tables say of it (docs/states.md). No DOM.

import { countText } from "./labels.ts";
import type { State } from "./messages.ts";
import { ENDED, type RunState } from "./run-state.ts";

export type Known = Pick<RunState, "state" | "lost" | "isStatic">;

/** A state in a word for style sheets and tests, and in words for people. */
export interface Standing {
  key: string;
  text: string;
}

export function standing({ state, lost, isStatic }: Known): Standing {
  if (state && ENDED.has(state.status)) return { key: state.status, text: capital(state.status) };
  if (state?.connection.state === "recording") return { key: "recording", text: "Recording" };
  if (isStatic) return { key: "disconnected", text: "Disconnected" };
  if (lost !== "") return { key: "silent", text: "No word" };
  if (!state) return { key: "connecting", text: "Connecting" };
  const { status, steps } = state;
  switch (state.connection.state) {
    case "reconnecting":
      return { key: "reconnecting", text: "Reconnecting" };
    case "closed":
      return { key: "closed", text: "Not followed" };
    case "connecting":
      if (steps === 0) return { key: "connecting", text: "Connecting" };
  }
  if (status === "paused") return { key: status, text: "Paused" };
  if (steps === 0) return { key: "waiting", text: "Waiting for the first step" };
  if (status === "running" || status === "unknown") return { key: "running", text: "Running" };
  return { key: "waiting", text: capital(status) };
}

/** Whether nothing more comes: then nothing is live, nor the newest for now. */
export function isOver({ state }: Pick<Known, "state">): boolean {
  return state !== null && (ENDED.has(state.status) || state.connection.state === "recording");
}

/** Where the data comes from and how that stands: a word for style sheets, and words for people. */
export function connectionOf(run: Known, now: number): Standing {
  const { state, lost, isStatic } = run;
  if (isStatic) return { key: "lost", text: lost === "connection" ? "kernel out of reach" : `kernel ${lost}` };
  if (lost !== "" || !state) return { key: "connecting", text: "waiting for the kernel" };
  const { state: key, attempt, retry_at } = state.connection;
  if (key !== "reconnecting") return { key, text: key === "live" && ENDED.has(state.status) ? "connected" : key };
  const seconds = Math.ceil(retry_at - now / 1000);
  const next = retry_at > 0 && seconds > 0 ? `next in ${seconds} s` : "trying now";
  const what = standing(run).key === key ? "" : "daemon lost: ";
  return { key, text: `${what}attempt ${Math.max(1, attempt)}, ${next}` };
}

/** What is wrong, if anything, and how badly. */
export function noticeOf(run: RunState): Standing {
  const { state, fault, lost } = run;
  const { key, text } = standing(run);
  if (lost !== "") return { key: "lost", text: `${LOST[lost]} ${heldText(run)}` };
  if (fault) return { key: "failed", text: `A message from the kernel was not understood: ${fault}` };
  if (!state) return { key: "", text: "" };
  if (state.reason && (key === "failed" || key === "cancelled"))
    return { key, text: `${text}: ${state.reason}${isEmpty(state) ? " (no step had come)" : ""}` };
  // The daemon knows no such run: the kernel says so, and what may have been meant.
  if (state.reason && state.status === "unknown") return { key: "empty", text: state.reason };
  // A link that comes and goes must not move the page: why it is gone is told where it says so.
  if (state.connection.message && state.connection.state === "closed")
    return { key: "connection", text: state.connection.message };
  if (isEmpty(state)) return { key: "empty", text: `${text} without a step: there is nothing to show.` };
  return { key: "", text: "" };
}

const LOST = {
  connection: "The connection to the kernel is lost; it is being made again.",
  restarted: "The kernel was restarted and knows nothing of this view: run its cell again for a live one.",
  gone: "The kernel is gone: start it and run this cell again for a live view.",
  silent: "The kernel has said nothing for a while: something computes and holds it, or it is gone.",
};

/** What of the run is on the page, for those who can ask for no more. */
function heldText({ state, steps, episodes, pushedAt }: RunState): string {
  if (!state) return "";
  const at = new Date(pushedAt).toLocaleTimeString(undefined, { hour12: false });
  const of = (held: number, total: number, what: string): string =>
    held >= total ? `all ${countText(total)} ${what}` : `${countText(held)} of ${countText(total)} ${what}`;
  return `What came until ${at} stays: ${of(steps.size, steps.total, "steps")} and ${of(episodes.size, episodes.total, "episodes")} are on this page, to scroll, select and copy.`;
}

function isEmpty(state: State): boolean {
  return ENDED.has(state.status) && state.steps === 0 && state.episodes === 0;
}

/** What is known to be missing, in words; "" when nothing is. */
export function missingText(state: State | null): string {
  const parts = [];
  for (const { kind, count } of state?.problems ?? []) {
    const what = kind === "gap" ? "step" : kind === "episode_gap" ? "episode" : "";
    if (what && count > 0) parts.push(`${countText(count)} ${what}${count === 1 ? "" : "s"}`);
  }
  return parts.length > 0 ? `${parts.join(" and ")} missing` : "";
}

/** What a table, the picture or the curve says while there is nothing of it: `one` as in "step". */
export function nothingText(run: Known, one: string): string {
  const { state, isStatic } = run;
  if (isStatic && standing(run).key === "disconnected") return `No ${one} had come when the kernel went.`;
  if (!state) return "Waiting for the kernel…";
  switch (state.status) {
    case "completed":
      return `The run completed without ${one === "episode" ? "an" : "a"} ${one}.`;
    case "failed":
      return `The run failed before its first ${one}.`;
    case "cancelled":
      return `The run was cancelled before its first ${one}.`;
    default:
      return state.connection.state === "recording"
        ? `This recording holds no ${one}s.`
        : `Waiting for the first ${one}…`;
  }
}

/** What the curve says while there is none. */
export function noEpisodeText(run: Known): string {
  const over = ["completed", "failed", "cancelled", "recording", "disconnected"].includes(standing(run).key);
  return over ? "No episode ended in this run." : "No episode has ended yet.";
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
