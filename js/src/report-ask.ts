// A question to a report, and what answers it.

export type Fields = Record<string, unknown>;

export interface Answer {
  fields: Fields;
  buffers: DataView[];
}

/** A field that is a whole number from 0; null when it is absent. */
export function whole(ask: Fields, name: string): number | null {
  const value = ask[name];
  if (value === undefined || value === null) return null;
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Error(`${name} should be a whole number from 0`);
  return value as number;
}
