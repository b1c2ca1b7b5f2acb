// Text from the wire as a person sees it. What has no shape of its own, or turns its neighbours around, is given one, as editors
// do: ␀ to ␟ and ␡ for control characters, [U+202E] for the rest. Its twin is _plain.py; tests/data/hostile.json has what both show.

/** Joiners and variation selectors stay: emoji and scripts are made with them. With u, \p{Cs} is a surrogate without its other half. */
const UNSEEN =
  /[\p{Cc}\p{Cs}\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** A text in which nothing is hidden; `lines`: whose lines and tabs stay what they are. */
export function plain(text: string, lines = false): string {
  return text.replace(UNSEEN, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (lines && (code === 9 || code === 10)) return character;
    if (code < 32) return String.fromCodePoint(0x2400 + code);
    return code === 127 ? "␡" : `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}
