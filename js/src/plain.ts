// Text from the wire as a person sees it: what has no shape of its own, or turns its neighbours around, is written as JSON writes it
// (\u001b, \n, \u202e). Its twin is _plain.py; tests/data/hostile.json has what both show.

/** Joiners and variation selectors stay: emoji and scripts are made with them. With u, \p{Cs} is a surrogate without its other half. */
const UNSEEN =
  /[\p{Cc}\p{Cs}\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** A text in which nothing is hidden; `lines`: whose lines and tabs stay what they are. */
export function plain(text: string, lines = false): string {
  return text.replace(UNSEEN, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (lines && (code === 9 || code === 10)) return character;
    const short = "tn..r"[code - 9];
    if (short && short !== ".") return `\\${short}`;
    const digits = code.toString(16).padStart(4, "0");
    return `\\u${digits.length > 4 ? `{${digits}}` : digits}`;
  });
}
