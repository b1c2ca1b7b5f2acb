// A filter in the words on screen: what columns are called there, and which table a fault is about. No DOM.

import type { Fault } from "./arrangement.ts";
import { LABELS } from "./labels.ts";
import type { TableName } from "./messages.ts";

const TABLES: readonly TableName[] = ["steps", "episodes"];
/** Columns by what they are called on screen, in lower case; two by what the curve calls them. */
const COLUMNS: ReadonlyMap<string, string> = new Map([
  ...TABLES.flatMap((table) => LABELS[table]).map(([name, label]) => [label.toLowerCase(), name] as const),
  ["return", "total_reward"],
  ["length", "steps"],
]);

/** Texts, names in backticks, and labels, the longest first. */
const PIECES = new RegExp(
  `'(?:[^'\\\\]|\\\\.)*(?:'|$)|"(?:[^"\\\\]|\\\\.)*(?:"|$)|\`[^\`]*(?:\`|$)|(?<![\\p{L}\\p{N}_])(?:${[...COLUMNS.keys()]
    .sort((a, b) => b.length - a.length)
    .map((label) => label.replaceAll(" ", "\\s+"))
    .join("|")})(?![\\p{L}\\p{N}_])`,
  "gisu",
);

/** A filter with the names of columns where it has their labels: "Step Reward > 0" is "reward > 0". */
export function meant(text: string, isColumn: (name: string) => boolean): string {
  return text.replace(PIECES, (piece) => {
    const inner = piece.startsWith("`") ? piece.slice(1, -1) : piece;
    if (/^['"]/.test(piece) || isColumn(inner)) return piece;
    return COLUMNS.get(inner.toLowerCase().replace(/\s+/g, " ")) ?? piece;
  });
}

/** A column's name as an expression has it. */
export function written(name: string): string {
  return /^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) ? name : `\`${name}\``;
}

/** The column that a table lacks, by its fault; null when something else is wrong. */
export function lacking(fault: Fault): string | null {
  return /^there is no column (['"])(.*?)\1(?:;|$)/s.exec(fault.reason)?.[2] ?? null;
}

/** What is wrong with a filter that fits neither table, and at which character of it. */
export function faultOf(
  faults: Readonly<Record<TableName, Fault>>,
  names: Readonly<Record<TableName, readonly string[]>>,
): { text: string; position: number } {
  const { steps, episodes } = faults;
  const [ofSteps, ofEpisodes] = [lacking(steps), lacking(episodes)];
  if (ofSteps !== null && ofSteps === ofEpisodes)
    return { text: nowhere(ofSteps, faults, names), position: steps.position };
  if (ofSteps !== null && ofEpisodes !== null) {
    if (names.episodes.includes(ofSteps) && names.steps.includes(ofEpisodes)) {
      const text = `${ofSteps} is a column of the episodes alone, and ${ofEpisodes} of the steps alone; a filter has columns of one table`;
      return { text, position: Math.max(steps.position, episodes.position) };
    }
    // The one that neither has is the one that was mistyped.
    const [name, fault] = names.episodes.includes(ofSteps) ? [ofEpisodes, episodes] : [ofSteps, steps];
    return { text: nowhere(name, faults, names), position: fault.position };
  }
  // A table that has all its columns is the one that was meant.
  const table =
    ofSteps !== null ? "episodes" : ofEpisodes !== null || steps.position >= episodes.position ? "steps" : "episodes";
  const { reason, position, near } = faults[table];
  const hint = near.length > 0 && !reason.includes("did you mean") ? `; near: ${near.join(", ")}` : "";
  const both = steps.reason === episodes.reason;
  return { text: `${both ? "" : `${table}: `}${reason}${hint}`, position };
}

function nowhere(
  name: string,
  faults: Readonly<Record<TableName, Fault>>,
  names: Readonly<Record<TableName, readonly string[]>>,
): string {
  const near = new Map<string, TableName[]>();
  for (const table of TABLES) {
    const alias = COLUMNS.get(name.toLowerCase());
    const found = lacking(faults[table]) === name ? faults[table].near : [];
    const known = alias && names[table].includes(alias) ? [alias, ...found] : found;
    for (const one of new Set(known)) near.set(one, [...(near.get(one) ?? []), table]);
  }
  const said = [...near].map(([one, tables]) => `'${one}'${tables.length > 1 ? "" : ` (${tables[0]})`}`);
  const [, other] =
    /; (for the text .*)$/s.exec(faults.steps.reason) ?? /; (for the text .*)$/s.exec(faults.episodes.reason) ?? [];
  const all = TABLES.map((table) => `${table} have ${names[table].map(written).join(", ")}`).join("; ");
  const hint = other ?? (said.length > 0 ? `did you mean ${said.join(" or ")}?` : all);
  return `neither steps nor episodes have a column '${name}'; ${hint}`;
}
