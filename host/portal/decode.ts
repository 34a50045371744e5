import type { z } from "zod";

/**
 * What became of an event with its payload. `skipped` names entries of lists that were left out, by
 * position and reason; it holds no names, addresses or secrets and may be logged.
 */
export type Decoded<T> =
  | { readonly kind: "message"; readonly message: T; readonly skipped: readonly string[] }
  /** An event that this side does not know: to be skipped (portal §4). */
  | { readonly kind: "unknown" }
  | { readonly kind: "malformed"; readonly reason: string };

/** Decodes the payload of one event; adds to `skipped` what it leaves out. */
export type Decoder<T> = (payload: unknown, skipped: string[]) => Decoded<T>;

/** A decoder from a schema and the mapping of its output to the message. */
export function decoder<S extends z.ZodType, T>(
  schema: S,
  toMessage: (value: z.output<S>, skipped: string[]) => T,
): Decoder<T> {
  return (payload, skipped) => {
    const parsed = schema.safeParse(payload);
    if (!parsed.success) return { kind: "malformed", reason: explain(parsed.error) };
    return { kind: "message", message: toMessage(parsed.data, skipped), skipped };
  };
}

export function decodeBy<T>(
  decoders: ReadonlyMap<string, Decoder<T>>,
  event: string,
  payload: unknown,
): Decoded<T> {
  return decoders.get(event)?.(payload, []) ?? { kind: "unknown" };
}

/** Decodes the entries of a list one by one: a bad entry is left out, the rest is used (portal §4). */
export function decodeEach<S extends z.ZodType>(
  schema: S,
  entries: readonly unknown[],
  list: string,
  skipped: string[],
): z.output<S>[] {
  const values: z.output<S>[] = [];
  for (const [i, entry] of entries.entries()) {
    const parsed = schema.safeParse(entry);
    if (parsed.success) values.push(parsed.data);
    else if (skipped.length < MAX_SKIPPED) skipped.push(`${list}[${i}]: ${explain(parsed.error)}`);
  }
  return values;
}

/** Reports of left-out entries kept per message. */
const MAX_SKIPPED = 20;

/** First problem of a value, without the value. */
function explain(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return "invalid";
  return issue.path.length === 0 ? issue.message : `${issue.path.join(".")}: ${issue.message}`;
}
