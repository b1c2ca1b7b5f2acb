// Every message between the kernel and the page: the twin of src/live_telemetry_widget/view/messages.py.
// What a field means is said there; here is its type, and the check that a message is one.

export const VERSION = 2;
/** At most so many steps in one push or one answer. */
export const MAX_ROWS = 500;
/** At most so many episodes in one push or one answer. */
export const MAX_EPISODES = 2000;

export type TableName = "steps" | "episodes";

export interface Span {
  table: TableName;
  first: number;
  count: number;
  total: number;
}

export type ConnectionState = "connecting" | "live" | "reconnecting" | "closed" | "recording";

export interface Connection {
  state: ConnectionState;
  attempt: number;
  retry_at: number;
  message: string;
}

export interface ProblemCount {
  kind: string;
  count: number;
  detail: string;
}

export interface Mark {
  kind: string;
  row: number;
  col: number;
  label?: string;
  colour?: string;
  state?: string;
}

export type Facing = "up" | "right" | "down" | "left";
export type Cell = [row: number, col: number];

export interface Cards {
  player: number;
  dealer: number;
  usable_ace: boolean;
}

export interface Picture {
  format: "png" | "webp";
  data: string;
  width: number;
  height: number;
}

export interface Grid {
  game: string;
  tiles: string[];
  agent: Cell | null;
  marks: Mark[];
  walls: Cell[];
  action: string;
  caption: string;
  facing?: Facing;
  partial?: boolean;
  cards?: Cards;
  image?: Picture;
  path?: Cell[];
}

export type Action = "pause" | "resume" | "cancel";

export interface ControlState {
  offered: Action[];
  asked: Action | "";
  trouble: string;
}

export interface State {
  run_id: string;
  name: string;
  status: string;
  reason: string;
  connection: Connection;
  agents: string[];
  steps: number;
  episodes: number;
  ended_episodes: number;
  expected_episodes: number | null;
  steps_per_s: number;
  problems: ProblemCount[];
  controls: ControlState | null;
  grid: Grid | null;
}

export interface CurveSeries {
  run: string;
  name: string;
  agent: string | null;
  numbered: boolean;
}

export interface Push {
  kind: "push";
  version: number;
  number: number;
  keyframe: boolean;
  state: State;
  spans: Span[];
  curves?: CurveSeries[];
  /** How many more there would be. */
  curves_more?: number;
}

/** Which rows an answer's buffer holds, of a table that may be another than those two. */
export type AnswerSpan = Omit<Span, "table"> & { table: string };

/** What else stands in it is the business of whoever asked. */
export interface AnswerMessage extends Record<string, unknown> {
  kind: "answer";
  version: number;
  id: number;
  spans: AnswerSpan[];
}

export interface Refused {
  kind: "refused";
  version: number;
  id: number;
  message: string;
}

export type KernelMessage = Push | AnswerMessage | Refused;

export interface Ready {
  kind: "ready";
  version: number;
}

/** A question; what else stands in it is said by its kind. */
export interface Ask extends Record<string, unknown> {
  kind: string;
  version: number;
  id: number;
}

export interface Seen {
  kind: "seen";
  version: number;
  number: number;
  cost: number;
  hidden: boolean;
}

export type PageMessage = Ready | Ask;

/** What came is not a message that this page understands; the text says what was expected where. */
export class MessageError extends Error {
  override name = "MessageError";
}

/** Return `value` as a message of the kernel; throw a {@link MessageError} that names the field when it is none. */
export function parseMessage(value: unknown): KernelMessage {
  const message = record(value, "message");
  const kind = message.kind;
  if (kind !== "push" && kind !== "answer" && kind !== "refused") {
    throw new MessageError(`unknown kind of message ${show(kind)}; this page knows "push", "answer" and "refused"`);
  }
  if (message.version !== VERSION) {
    throw new MessageError(
      `the kernel speaks version ${show(message.version)} of the messages, this page version ${VERSION}: reload the page`,
    );
  }
  if (kind === "push") {
    whole(message, "number", kind);
    boolean(message, "keyframe", kind);
    state(message.state);
    each(message, "spans", kind, span);
    if (message.curves !== undefined) each(message, "curves", kind, series);
    if (message.curves_more !== undefined) whole(message, "curves_more", kind);
  } else if (kind === "answer") {
    whole(message, "id", kind);
    each(message, "spans", kind, answerSpan);
  } else {
    whole(message, "id", kind);
    text(message, "message", kind);
  }
  return message as unknown as KernelMessage;
}

type Fields = Record<string, unknown>;

function state(value: unknown): void {
  const at = "state";
  const fields = record(value, at);
  for (const name of ["run_id", "name", "status", "reason"]) text(fields, name, at);
  for (const name of ["steps", "episodes", "ended_episodes"]) whole(fields, name, at);
  number(fields, "steps_per_s", at);
  if (fields.expected_episodes !== null) whole(fields, "expected_episodes", at);
  connection(fields.connection);
  each(fields, "agents", at, (agent, where) => check(typeof agent === "string", where, "a string", agent));
  each(fields, "problems", at, (problem, where) => {
    const held = record(problem, where);
    text(held, "kind", where);
    whole(held, "count", where);
    text(held, "detail", where);
  });
  if (fields.controls !== null) controls(fields.controls);
  if (fields.grid !== null) grid(fields.grid, "state.grid");
}

const ACTIONS = new Set<unknown>(["pause", "resume", "cancel"]);

function controls(value: unknown): void {
  const at = "state.controls";
  const fields = record(value, at);
  each(fields, "offered", at, (action, where) => check(ACTIONS.has(action), where, "an action", action));
  check(fields.asked === "" || ACTIONS.has(fields.asked), `${at}.asked`, "an action", fields.asked);
  text(fields, "trouble", at);
}

const CONNECTION_STATES = new Set<unknown>(["connecting", "live", "reconnecting", "closed", "recording"]);

function connection(value: unknown): void {
  const at = "state.connection";
  const fields = record(value, at);
  check(CONNECTION_STATES.has(fields.state), `${at}.state`, "a state of a connection", fields.state);
  whole(fields, "attempt", at);
  number(fields, "retry_at", at);
  text(fields, "message", at);
}

const FACING = new Set<unknown>([undefined, "up", "right", "down", "left"]);
const FORMATS = new Set<unknown>(["png", "webp"]);

/** Check that a value is a {@link Grid}. */
export function grid(value: unknown, at: string): void {
  const fields = record(value, at);
  for (const name of ["game", "action", "caption"]) text(fields, name, at);
  each(fields, "tiles", at, (row, where) => check(typeof row === "string", where, "a string", row));
  if (fields.agent !== null) cell(fields.agent, `${at}.agent`);
  each(fields, "walls", at, cell);
  each(fields, "marks", at, (mark, where) => {
    const held = record(mark, where);
    text(held, "kind", where);
    whole(held, "row", where);
    whole(held, "col", where);
    for (const name of ["label", "colour", "state"]) if (held[name] !== undefined) text(held, name, where);
  });
  check(FACING.has(fields.facing), `${at}.facing`, "a direction", fields.facing);
  if (fields.partial !== undefined) boolean(fields, "partial", at);
  if (fields.path !== undefined) each(fields, "path", at, cell);
  if (fields.cards !== undefined) {
    const cards = record(fields.cards, `${at}.cards`);
    whole(cards, "player", `${at}.cards`);
    whole(cards, "dealer", `${at}.cards`);
    boolean(cards, "usable_ace", `${at}.cards`);
  }
  if (fields.image !== undefined) {
    const image = record(fields.image, `${at}.image`);
    check(FORMATS.has(image.format), `${at}.image.format`, "png or webp", image.format);
    text(image, "data", `${at}.image`);
    whole(image, "width", `${at}.image`);
    whole(image, "height", `${at}.image`);
  }
}

function series(value: unknown, where: string): void {
  const held = record(value, where);
  for (const name of ["run", "name"]) text(held, name, where);
  if (held.agent !== null) text(held, "agent", where);
  boolean(held, "numbered", where);
}

function cell(value: unknown, where: string): void {
  const pair = Array.isArray(value) && value.length === 2 && value.every((n) => Number.isInteger(n));
  check(pair, where, "[row, col]", value);
}

function span(value: unknown, where: string): void {
  const { table } = record(value, where);
  check(table === "steps" || table === "episodes", `${where}.table`, "a table's name", table);
  answerSpan(value, where);
}

function answerSpan(value: unknown, where: string): void {
  const fields = record(value, where);
  text(fields, "table", where);
  for (const name of ["first", "count", "total"]) {
    whole(fields, name, where);
    check((fields[name] as number) >= 0, `${where}.${name}`, "0 or more", fields[name]);
  }
}

function record(value: unknown, where: string): Fields {
  check(typeof value === "object" && value !== null && !Array.isArray(value), where, "an object", value);
  return value as Fields;
}

function each(fields: Fields, name: string, at: string, one: (value: unknown, where: string) => void): void {
  const values = fields[name];
  check(Array.isArray(values), `${at}.${name}`, "a list", values);
  (values as unknown[]).forEach((value, i) => {
    one(value, `${at}.${name}[${i}]`);
  });
}

function text(fields: Fields, name: string, at: string): void {
  check(typeof fields[name] === "string", `${at}.${name}`, "a string", fields[name]);
}

function boolean(fields: Fields, name: string, at: string): void {
  check(typeof fields[name] === "boolean", `${at}.${name}`, "true or false", fields[name]);
}

function number(fields: Fields, name: string, at: string): void {
  check(Number.isFinite(fields[name]), `${at}.${name}`, "a number", fields[name]);
}

function whole(fields: Fields, name: string, at: string): void {
  check(Number.isSafeInteger(fields[name]), `${at}.${name}`, "a whole number", fields[name]);
}

function check(good: boolean, where: string, expected: string, value: unknown): void {
  if (!good) throw new MessageError(`${where} should be ${expected}, not ${show(value)}`);
}

function show(value: unknown): string {
  const shown = value === undefined ? "absent" : (JSON.stringify(value) ?? String(value));
  return shown.length > 80 ? `${shown.slice(0, 80)}…` : shown;
}
