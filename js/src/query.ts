// The language in which rows are selected: the twin of query.py, where its grammar is told. Both are held to tests/contract/query.json.

/** What a part of an expression is; the value is its name for people. */
const KINDS = {
  number: "a number",
  text: "text",
  truth: "true or false",
  time: "a time",
  json: "JSON",
  list: "a list",
  nothing: "null",
} as const;

export type QueryKind = keyof typeof KINDS;
/** What a column holds, by name; `values` gives a row's: number, bigint, string, boolean, list, milliseconds since 1970, or null. */
export interface QueryColumn {
  kind: QueryKind;
  at(row: number): unknown;
}
export type QueryColumns = ReadonlyMap<string, QueryColumn>;

/** An expression that cannot be read, or does not fit the columns. */
export class QueryError extends Error {
  override name = "QueryError";
  constructor(
    readonly reason: string,
    /** Where, in characters from 0. */
    readonly position: number,
    /** Names that may have been meant. */
    readonly near: readonly string[] = [],
  ) {
    super(reason);
  }
}

/** Return whether a row is selected, for an expression over some columns; throws a {@link QueryError} where it does not fit them. */
export function compileQuery(text: string, columns: QueryColumns): (row: number) => boolean {
  const node = new Parser(text).whole();
  let part = new Builder(columns).part(node);
  if (part.kind !== "truth" && part.kind !== "nothing") {
    if (part.kind !== "json") {
      throw new QueryError(`${part.said} is ${KINDS[part.kind]}, not a condition; compare it with something`, node.at);
    }
    part = as(part, "truth");
  }
  return (row) => part.at(row) === true;
}

const LONGEST = 8_000;
const LONGEST_NUMBER = 300;
const DEEPEST = 50;
const MOST = 150;

type Value = number | bigint | string | boolean | null;
type Literal = { type: "literal"; at: number; value: Value; float: boolean };
type Node =
  | Literal
  | { type: "column"; at: number; name: string }
  | { type: "operation"; at: number; sign: string; left: Node; right: Node }
  | { type: "call"; at: number; name: string; inner: Node }
  | { type: "in"; at: number; item: Node; values: Literal[] }
  | { type: "isNull"; at: number; inner: Node };

interface Token {
  kind: "number" | "text" | "odd" | "word" | "sign" | "end";
  text: string;
  at: number;
}

const COMPARISONS = ["==", "!=", "<", "<=", ">", ">=", "contains"];
const VALUES = new Map<string, boolean | null>([
  ["true", true],
  ["false", false],
  ["null", null],
  ["True", true],
  ["False", false],
  ["None", null],
]);
const WORDS = new Set(["or", "and", "not", "in", "is", "contains", ...VALUES.keys()]);
/** What people write who come from elsewhere. */
const MEANT = new Map<string, string>(
  Object.entries({
    "=": "==",
    "&": "and",
    "&&": "and",
    "|": "or",
    "||": "or",
    "~": "not",
    "!": "not",
    "<>": "!=",
    "===": "==",
    TRUE: "true",
    FALSE: "false",
    NULL: "null",
    NaN: "null",
    AND: "and",
    OR: "or",
    NOT: "not",
  }),
);
const TOKEN =
  /\s*(?:(?<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?<odd>`[^`]+`)|(?<word>[\p{L}_][\p{L}\p{N}_]*)|(?<sign>===|==|!=|<>|<=|>=|&&|\|\||[-+*/%<>()[\],=&|~!])|(?<end>$))/suy;

class Parser {
  readonly #tokens: Token[];
  #next = 0;
  #depth = 0;
  #signs = 0;

  constructor(text: string) {
    if (text.length > LONGEST) {
      throw new QueryError(`the expression is ${text.length} characters long; ${LONGEST} is the most`, 0);
    }
    this.#tokens = cut(text);
  }

  whole(): Node {
    const node = this.#or();
    if (this.#token.kind !== "end") this.#unexpected("and, or or a comparison");
    return node;
  }

  get #token(): Token {
    return this.#tokens[this.#next] as Token;
  }

  #take(): Token {
    const token = this.#token;
    // Numbers and commas are cheap: a list may be long.
    if ((token.kind === "sign" || token.kind === "word") && token.text !== ",") this.#signs++;
    if (this.#signs > 3 * MOST) throw new QueryError(`the expression is longer than ${MOST} comparisons`, token.at);
    if (token.kind !== "end") this.#next++;
    return token;
  }

  #is(...texts: string[]): boolean {
    return (this.#token.kind === "sign" || this.#token.kind === "word") && texts.includes(this.#token.text);
  }

  #takes(text: string): boolean {
    return this.#is(text) && Boolean(this.#take());
  }

  #expect(text: string, after: string): void {
    if (!this.#takes(text)) throw new QueryError(`${text} is missing after ${after}`, this.#token.at);
  }

  #unexpected(wanted: string): never {
    const { kind, text, at } = this.#token;
    if (kind === "end") {
      throw new QueryError(this.#tokens.length > 1 ? `${wanted} is missing at the end` : "the expression is empty", at);
    }
    const meant = MEANT.get(text);
    throw new QueryError(meant ? `write ${meant} for ${text}` : `${wanted} is missing before ${text}`, at);
  }

  #or(): Node {
    this.#depth++;
    if (this.#depth > DEEPEST) throw new QueryError(`the expression is nested deeper than ${DEEPEST}`, this.#token.at);
    let node = this.#and();
    while (this.#is("or")) {
      node = { type: "operation", at: this.#take().at, sign: "or", left: node, right: this.#and() };
    }
    this.#depth--;
    return node;
  }

  #and(): Node {
    let node = this.#not();
    while (this.#is("and")) {
      node = { type: "operation", at: this.#take().at, sign: "and", left: node, right: this.#not() };
    }
    return node;
  }

  #not(): Node {
    const signs: number[] = [];
    while (this.#is("not")) signs.push(this.#take().at);
    return few(signs).reduceRight<Node>((inner, at) => ({ type: "call", at, name: "not", inner }), this.#comparison());
  }

  #comparison(): Node {
    const left = this.#sum();
    const { at, text: sign } = this.#token;
    if (this.#is(...COMPARISONS)) {
      this.#take();
      const right = this.#sum();
      if (this.#is(...COMPARISONS)) {
        throw new QueryError("one comparison at a time: write 1 < x and x < 3", this.#token.at);
      }
      return { type: "operation", at, sign, left, right };
    }
    if (this.#is("is")) {
      this.#take();
      const not = this.#takes("not");
      if (!this.#takes("null")) this.#unexpected("null");
      return negated(not, at, { type: "isNull", at, inner: left });
    }
    if (this.#is("in", "not")) {
      const not = this.#takes("not");
      if (!this.#takes("in")) this.#unexpected("in");
      return negated(not, at, { type: "in", at, item: left, values: this.#list() });
    }
    return left;
  }

  #list(): Literal[] {
    this.#expect("[", "in");
    const values: Literal[] = [];
    while (!this.#takes("]")) {
      if (values.length > 0) this.#expect(",", "a value of the list");
      const minus = this.#takes("-");
      const at = this.#token.at;
      const found = this.#value();
      const numeric = typeof found?.value === "number" || typeof found?.value === "bigint";
      if (!found || (minus && !numeric)) throw new QueryError("a list holds numbers, texts, true, false or null", at);
      values.push(minus ? { ...found, value: -(found.value as number) } : found);
    }
    return values;
  }

  #sum(): Node {
    let node = this.#product();
    while (this.#is("+", "-")) {
      const { at, text: sign } = this.#take();
      node = { type: "operation", at, sign, left: node, right: this.#product() };
    }
    return node;
  }

  #product(): Node {
    let node = this.#sign();
    while (this.#is("*", "/", "%")) {
      const { at, text: sign } = this.#take();
      node = { type: "operation", at, sign, left: node, right: this.#sign() };
    }
    return node;
  }

  #sign(): Node {
    const signs: number[] = [];
    while (this.#is("-")) signs.push(this.#take().at);
    return few(signs).reduceRight<Node>((inner, at) => ({ type: "call", at, name: "-", inner }), this.#primary());
  }

  #primary(): Node {
    const token = this.#token;
    const value = this.#value();
    if (value) return value;
    if (this.#takes("(")) {
      const node = this.#or();
      this.#expect(")", "what is in brackets");
      return node;
    }
    if (token.kind === "odd") return { type: "column", at: this.#take().at, name: token.text.slice(1, -1) };
    if (token.kind === "word" && !WORDS.has(token.text) && !MEANT.has(token.text)) {
      this.#take();
      if (!this.#takes("(")) return { type: "column", at: token.at, name: token.text };
      if (token.text !== "len" && token.text !== "abs") {
        throw new QueryError(`there is no function ${token.text}; there are len and abs`, token.at);
      }
      const inner = this.#or();
      this.#expect(")", `what ${token.text} is of`);
      return { type: "call", at: token.at, name: token.text, inner };
    }
    return this.#unexpected("a column or a value");
  }

  #value(): Literal | null {
    const { kind, text, at } = this.#token;
    let value: Value;
    let float = false;
    if (kind === "number") {
      if (text.length > LONGEST_NUMBER) {
        throw new QueryError(`a number of ${text.length} characters; ${LONGEST_NUMBER} is the most`, at);
      }
      float = !/^\d+$/.test(text);
      const number = Number(text);
      value = float || Number.isSafeInteger(number) ? number : BigInt(text);
    } else if (kind === "text") {
      value = text
        .slice(1, -1)
        .replace(/\\(.)/gs, (_, letter) => (letter === "n" ? "\n" : letter === "t" ? "\t" : letter));
    } else if (kind === "word" && VALUES.has(text)) {
      value = VALUES.get(text) ?? null;
    } else return null;
    this.#take();
    return { type: "literal", at, value, float };
  }
}

function cut(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  for (;;) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text);
    if (!found) {
      at += text.slice(at).length - text.slice(at).trimStart().length;
      const letter = text[at] as string;
      const open = letter === "`" ? "the name is not closed" : "the text is not closed";
      throw new QueryError("'\"`".includes(letter) ? open : `${quoted(letter)} has no meaning here`, at);
    }
    const [kind, held] = Object.entries(found.groups ?? {}).find(([, part]) => part !== undefined) as [
      Token["kind"],
      string,
    ];
    at = found.index + found[0].length;
    tokens.push({ kind, text: held, at: at - held.length });
    if (kind === "end") return tokens;
  }
}

/** One or two of signs that undo each other, or none; the last, where an error would be told of. */
function few(signs: readonly number[]): readonly number[] {
  return signs.length > 2 ? signs.slice((signs.length % 2) - 2) : signs;
}

function negated(not: boolean, at: number, inner: Node): Node {
  return not ? { type: "call", at, name: "not", inner } : inner;
}

interface Part {
  kind: QueryKind;
  said: string;
  at(row: number): unknown;
}

class Builder {
  constructor(private readonly columns: QueryColumns) {}

  part(node: Node): Part {
    switch (node.type) {
      case "literal":
        return literal(node);
      case "column":
        return this.#column(node.name, node.at);
      case "call":
        return this.#call(node.name, node.inner, node.at);
      case "isNull":
        return isNull(this.part(node.inner));
      case "in":
        return this.#in(node);
      case "operation":
        return this.#operation(node);
    }
  }

  #column(name: string, at: number): Part {
    const column = this.columns.get(name);
    if (column) return { kind: column.kind, said: name, at: (row) => column.at(row) ?? null };
    const names = [...this.columns.keys()];
    const lower = new Map(names.map((known) => [known.toLowerCase(), known]));
    const near = closest(name.toLowerCase(), [...lower.keys()]).map((known) => lower.get(known) as string);
    const hint =
      near.length > 0 ? `did you mean ${near.map(quoted).join(" or ")}?` : `there are ${names.slice(0, 20).join(", ")}`;
    throw new QueryError(`there is no column ${quoted(name)}; ${hint}`, at, near);
  }

  #needs(part: Part, kind: QueryKind, sign: string, at: number): Part {
    if (part.kind === kind) return part;
    if (part.kind === "json" || part.kind === "nothing") return as(part, kind);
    throw new QueryError(`${sign} needs ${KINDS[kind]}; ${part.said} is ${KINDS[part.kind]}`, at);
  }

  #call(name: string, node: Node, at: number): Part {
    const inner = this.part(node);
    if (name === "not") return not(this.#needs(inner, "truth", name, at));
    if (name === "len") {
      const held = inner.kind === "list" || inner.kind === "json" ? inner : this.#needs(inner, "text", name, at);
      const said = `len(${inner.said})`;
      return {
        kind: "number",
        said,
        at: known((value) => (Array.isArray(value) ? value.length : [...String(value)].length), held),
      };
    }
    const held = this.#needs(inner, "number", name, at);
    if (name === "-") return { kind: "number", said: `-${inner.said}`, at: known((value) => -Number(value), held) };
    return { kind: "number", said: `abs(${inner.said})`, at: known((value) => Math.abs(Number(value)), held) };
  }

  #operation(node: Node & { type: "operation" }): Part {
    const { sign, at } = node;
    const [left, right] = [this.part(node.left), this.part(node.right)];
    const said = `${left.said} ${sign} ${right.said}`;
    if (sign === "and" || sign === "or") {
      const [a, b] = [this.#needs(left, "truth", sign, at), this.#needs(right, "truth", sign, at)];
      const decides = sign === "or";
      return {
        kind: "truth",
        said,
        at(row) {
          const one = a.at(row);
          if (one === decides) return decides;
          const other = b.at(row);
          return other === decides ? decides : one === null || other === null ? null : !decides;
        },
      };
    }
    if (sign === "contains") {
      if (node.right.type !== "literal" || typeof node.right.value !== "string") {
        throw new QueryError(`contains is followed by a text in quotes; ${right.said} is none`, node.right.at);
      }
      const wanted = node.right.value;
      // JSON is looked through as it is written.
      const held = left.kind === "json" ? left : this.#needs(left, "text", sign, at);
      return { kind: "truth", said, at: known((value) => String(value).includes(wanted), held) };
    }
    if (COMPARISONS.includes(sign)) return this.#compare(node, left, right);
    const [a, b] = [this.#needs(left, "number", sign, at), this.#needs(right, "number", sign, at)];
    const calculate = CALCULATE[sign] as (a: number, b: number) => number;
    return { kind: "number", said, at: both((x, y) => calculate(Number(x), Number(y)), a, b) };
  }

  #in({ item, values }: Node & { type: "in" }): Part {
    const part = this.part(item);
    const same = values.map((value) => {
      const node = { type: "operation" as const, at: value.at, sign: "==", left: item, right: value };
      return this.#compare(node, part, literal(value));
    });
    return {
      kind: "truth",
      said: `${part.said} in [...]`,
      at(row) {
        const found = same.map((one) => one.at(row));
        return found.includes(true) ? true : found.includes(null) ? null : false;
      },
    };
  }

  #compare(node: Node & { type: "operation" }, left: Part, right: Part): Part {
    const { sign, at } = node;
    const equality = sign === "==" || sign === "!=";
    for (const [part, other] of [[left, node.right] as const, [right, node.left] as const]) {
      if (other.type !== "literal" || other.value !== null) continue;
      if (!equality) throw new QueryError("null is neither less nor greater; write is null or is not null", at);
      return sign === "==" ? isNull(part) : not(isNull(part));
    }
    const [a, b] = this.#matched(node, left, right);
    if (a.kind === "truth" && !equality) {
      throw new QueryError(`true and false have no order; compare ${left.said} with == or !=`, at);
    }
    const compare = COMPARE[sign] as (a: never, b: never) => boolean;
    return {
      kind: "truth",
      said: `${left.said} ${sign} ${right.said}`,
      at: both((x, y) => compare(x as never, y as never), a, b),
    };
  }

  /** Both sides as the same kind. */
  #matched(node: Node & { type: "operation" }, left: Part, right: Part): [Part, Part] {
    if (left.kind === "time" || right.kind === "time") {
      left = time(left, node.left);
      right = time(right, node.right);
    }
    const kinds = [left.kind, right.kind].filter((kind) => kind !== "json" && kind !== "nothing");
    const kind = kinds[0] ?? "text";
    if (kinds.includes("list")) {
      const { said } = left.kind === "list" ? left : right;
      throw new QueryError(`${said} is a list; compare len(${said})`, node.at);
    }
    if (kinds.some((other) => other !== kind) || (kind === "time" && [left.kind, right.kind].includes("json"))) {
      const told = `${left.said} is ${KINDS[left.kind]}, ${right.said} is ${KINDS[right.kind]}`;
      throw new QueryError(`${told}: they cannot be compared`, node.at);
    }
    return [as(left, kind), as(right, kind)];
  }
}

const CALCULATE: Record<string, (a: number, b: number) => number> = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "%": (a, b) => a - Math.floor(a / b) * b,
};
// A bigint and a number are compared as what they are worth.
const COMPARE: Record<string, (a: number, b: number) => boolean> = {
  // biome-ignore lint/suspicious/noDoubleEquals: both sides are of one kind; a bigint and a number are never ===
  "==": (a, b) => a == b,
  // biome-ignore lint/suspicious/noDoubleEquals: as above
  "!=": (a, b) => a != b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

function known(of: (value: unknown) => unknown, part: Part): Part["at"] {
  return (row) => {
    const value = part.at(row);
    return value === null ? null : of(value);
  };
}

function both(of: (a: unknown, b: unknown) => unknown, left: Part, right: Part): Part["at"] {
  return (row) => {
    const [a, b] = [left.at(row), right.at(row)];
    return a === null || b === null ? null : of(a, b);
  };
}

function literal({ value, float }: Literal): Part {
  if (value === null) return { kind: "nothing", said: "null", at: () => null };
  if (typeof value === "boolean") return { kind: "truth", said: String(value), at: () => value };
  if (typeof value === "string") return { kind: "text", said: quoted(value), at: () => value };
  return { kind: "number", said: float && Number.isInteger(value) ? `${value}.0` : String(value), at: () => value };
}

function isNull(part: Part): Part {
  return { kind: "truth", said: `${part.said} is null`, at: (row) => part.at(row) === null };
}

function not(part: Part): Part {
  return { kind: "truth", said: `not ${part.said}`, at: known((value) => !value, part) };
}

/** JSON, or nothing, as the kind that it is compared with; missing where it is another. */
function as(part: Part, kind: QueryKind): Part {
  if (part.kind === "nothing") return { kind, said: part.said, at: () => null };
  if (part.kind !== "json") return part;
  const read = { number: jsonNumber, text: jsonText, truth: jsonTruth }[kind as "number" | "text" | "truth"];
  return { kind, said: part.said, at: known((value) => read(String(value)), part) };
}

function jsonNumber(text: string): number | null {
  return /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(text) ? Number(text) : null;
}

function jsonTruth(text: string): boolean | null {
  return text === "true" ? true : text === "false" ? false : null;
}

function jsonText(text: string): string {
  if (!text.startsWith('"')) return text;
  try {
    return String(JSON.parse(text));
  } catch {
    return text; // others' workers may send what is no JSON: then it is the text as it came
  }
}

/** What nanoseconds since 1970 reach in 64 bits, in milliseconds. */
const FURTHEST = 9_223_372_036_854;

function time(part: Part, node: Node): Part {
  if (part.kind !== "text" || node.type !== "literal") return part;
  // A day alone, and a time without a zone, are in UTC.
  let text = String(node.value);
  text = (text.length > 10 ? text : `${text}T00:00:00`).replace(" ", "T");
  const clock = text.slice(text.indexOf("T") + 1);
  const value = Date.parse(/Z$|[+-]/.test(clock) ? text : `${text}Z`);
  if (Number.isNaN(value) || !/^\d{4}-\d\d-\d\dT/.test(text)) {
    throw new QueryError(`${part.said} is no time; write it like '2026-11-25T10:00:00Z'`, node.at);
  }
  if (Math.abs(value) > FURTHEST) {
    throw new QueryError(`${part.said} is beyond the times that are known here, 1677-09-21 to 2262-04-11`, node.at);
  }
  return { kind: "time", said: part.said, at: () => value };
}

/** A text as Python writes it. */
function quoted(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inner = text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/\t/g, "\\t");
  return mark + (mark === "'" ? inner.replace(/'/g, "\\'") : inner) + mark;
}

/** At most three names that are alike, the most alike first: Python's difflib. */
function closest(name: string, names: readonly string[]): string[] {
  return names
    .map((other) => ({ other, ratio: (2 * matching(other, name)) / (other.length + name.length || 1) }))
    .filter(({ ratio }) => ratio >= 0.6)
    .sort((a, b) => b.ratio - a.ratio || (a.other < b.other ? 1 : -1))
    .slice(0, 3)
    .map(({ other }) => other);
}

/** How many letters are in common: the longest stretch, and so on to its left and right. */
function matching(a: string, b: string): number {
  let [length, atA, atB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < b.length; j++) {
      let k = 0;
      while (i + k < a.length && j + k < b.length && a[i + k] === b[j + k]) k++;
      if (k > length) [length, atA, atB] = [k, i, j];
    }
  }
  if (length === 0) return 0;
  const left = matching(a.slice(0, atA), b.slice(0, atB));
  return left + length + matching(a.slice(atA + length), b.slice(atB + length));
}
