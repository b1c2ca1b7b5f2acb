// A value as a tree that opens and closes: objects and lists by their parts, everything else as text. Text only.

import { plain } from "./plain.ts";

const MOST_PARTS = 200;
const DEEPEST_OPEN = 2;

/** A JSON text as a tree; what is no JSON as the text it is. */
export function makeTree(text: string): HTMLElement {
  const root = document.createElement("div");
  root.className = "ltw-tree";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const whole = document.createElement("pre");
    whole.textContent = plain(text, true);
    root.append(whole);
    return root;
  }
  root.append(node(null, value, 0));
  return root;
}

function node(name: string | null, value: unknown, depth: number): HTMLElement {
  const parts = Array.isArray(value) ? [...value.entries()] : isObject(value) ? Object.entries(value) : null;
  if (
    !parts ||
    parts.length === 0 ||
    (parts.every(([, part]) => !isObject(part)) && Array.isArray(value) && parts.length <= 8)
  ) {
    const leaf = document.createElement("div");
    leaf.className = "ltw-leaf";
    if (name !== null) leaf.append(key(name), ": ");
    const shown = document.createElement("span");
    shown.className = `ltw-json-${value === null ? "null" : typeof value}`;
    shown.textContent = plain(JSON.stringify(value) ?? String(value));
    leaf.append(shown);
    return leaf;
  }
  const branch = document.createElement("details");
  branch.open = depth < DEEPEST_OPEN;
  const head = document.createElement("summary");
  if (name !== null) head.append(key(name), " ");
  const size = document.createElement("span");
  size.className = "ltw-json-null";
  size.textContent = Array.isArray(value) ? `[${parts.length}]` : `{${parts.length}}`;
  head.append(size);
  branch.append(head);
  // What is inside is made when it is looked at.
  const fill = (): void => {
    if (branch.childElementCount > 1) return;
    for (const [part, held] of parts.slice(0, MOST_PARTS)) branch.append(node(String(part), held, depth + 1));
    if (parts.length > MOST_PARTS) {
      const rest = document.createElement("div");
      rest.className = "ltw-leaf ltw-json-null";
      rest.textContent = `and ${parts.length - MOST_PARTS} more`;
      branch.append(rest);
    }
  };
  if (branch.open) fill();
  branch.addEventListener("toggle", fill);
  return branch;
}

function key(name: string): HTMLElement {
  const shown = document.createElement("span");
  shown.className = "ltw-json-key";
  shown.textContent = plain(name);
  return shown;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
