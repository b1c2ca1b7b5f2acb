// @vitest-environment jsdom

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { cellText, label, valueText } from "../src/labels.ts";
import { plain } from "../src/plain.ts";
import { makeTree } from "../src/tree.ts";

interface Text {
  name: string;
  text: string;
  shown: string;
  times?: number;
}
const corpus = JSON.parse(readFileSync("../tests/data/hostile.json", "utf8")) as Text[];

describe("text from the wire", () => {
  it.each(corpus)("is shown as the corpus says: $name", ({ text, shown }) => {
    expect(plain(text)).toBe(shown);
    expect(cellText("note", "text", text)).toBe(shown);
    expect(label("steps", text)).toBe(shown);
    // What is copied is what came.
    expect(valueText("note", "text", text)).toBe(text);
  });

  it("keeps lines where they are wanted", () => {
    expect(plain("a\n\tb\r", true)).toBe("a\n\tb\\r");
  });

  it.each(corpus)("makes nothing but text in a tree: $name", ({ text }) => {
    const tree = makeTree(JSON.stringify({ [text]: [text, { [text]: text }] }));
    const made = new Set([...tree.querySelectorAll("*")].map(({ tagName }) => tagName));
    for (const name of made) expect(["DIV", "SPAN", "DETAILS", "SUMMARY"]).toContain(name);
    expect(tree.textContent).toContain(plain(JSON.stringify(text)));
    expect(makeTree(text).querySelectorAll("a, img, script, svg, b").length).toBe(0);
  });
});
