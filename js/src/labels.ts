// What columns are called, in which order they stand, and how a value reads.

import type { Kind } from "./frames.ts";
import type { TableName } from "./messages.ts";
import { plain } from "./plain.ts";

/** In the order in which they stand. */
export const LABELS: Record<TableName, readonly (readonly [name: string, label: string])[]> = {
  steps: [
    ["timestamp", "Timestamp"],
    ["agent_id", "Agent"],
    ["worker_id", "Worker"],
    ["episode", "Episode"],
    ["step_index", "Step"],
    ["episode_seed", "Episode Seed"],
    ["action", "Action"],
    ["reward", "Step Reward"],
    ["terminated", "Terminated"],
    ["truncated", "Truncated"],
    ["observation", "Observation"],
  ],
  episodes: [
    ["timestamp", "Timestamp"],
    ["worker_id", "Worker"],
    ["agent_id", "Agent"],
    ["episode", "Episode"],
    ["outcome", "Outcome"],
    ["steps", "Steps"],
    ["total_reward", "Total Episode Reward"],
    ["terminated", "Terminated"],
    ["truncated", "Truncated"],
    ["seed", "Seed"],
    ["episode_seed", "Episode Seed"],
    ["control_mode", "Mode"],
    ["game_id", "Game"],
  ],
};

/** The column's label; a further column is called what the worker called it. */
export function label(table: TableName, name: string): string {
  return LABELS[table].find(([known]) => known === name)?.[1] ?? plain(name);
}

/** The known columns first, in their own order; the further ones after, in the order given. */
export function ordered<T extends { name: string }>(table: TableName, columns: readonly T[]): T[] {
  const rank = new Map(LABELS[table].map(([name], i) => [name, i]));
  const last = LABELS[table].length;
  return [...columns].sort((a, b) => (rank.get(a.name) ?? last) - (rank.get(b.name) ?? last));
}

/** Whether values of this kind line up at the right. */
export function isNumber(kind: Kind): boolean {
  return kind === "int" || kind === "float";
}

/** A value as a cell shows it. */
export function cellText(name: string, kind: Kind, value: unknown, digits = 6): string {
  return plain(valueText(name, kind, value, digits));
}

/** The same as it is, for other programs: what a person would not see in it is in it. */
export function valueText(name: string, kind: Kind, value: unknown, digits = 6): string {
  if (value === null || value === undefined) return "";
  if (kind === "time" && typeof value === "number") return timeText(value);
  if (typeof value === "number") return numberText(value, digits);
  if (typeof value === "string") return name === "action" ? unquoted(value) : value;
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  return listText(value);
}

/** A value in full, for a cell that had to cut it short. */
export function fullText(name: string, kind: Kind, value: unknown): string {
  if (kind === "time" && typeof value === "number") return `${dateText(value)} ${timeText(value)} (local time)`;
  return typeof value === "number" ? String(value) : cellText(name, kind, value);
}

/** Six significant digits, or as many as wanted, without the noise of binary fractions; whole numbers whole. */
export function numberText(value: number, digits = 6): string {
  if (Number.isInteger(value)) return String(value);
  if (Number.isNaN(value)) return "NaN";
  return String(Number(value.toPrecision(digits)));
}

/** 12345.6 -> "12,346": for counters people glance at. */
export function countText(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

function timeText(milliseconds: number): string {
  const at = new Date(milliseconds);
  if (Number.isNaN(at.getTime())) return "";
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

function dateText(milliseconds: number): string {
  const at = new Date(milliseconds);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

function unquoted(json: string): string {
  if (!json.startsWith('"')) return json;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : json;
  } catch {
    return json;
  }
}

function listText(value: unknown): string {
  try {
    const shown = JSON.stringify(value, (_, held: unknown) =>
      typeof held === "bigint" ? String(held) : ArrayBuffer.isView(held) ? Array.from(held as Uint8Array) : held,
    );
    return shown ?? String(value);
  } catch {
    return String(value);
  }
}
