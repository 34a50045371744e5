import { z } from "zod";
import { type IpAddress, parseIp } from "../core/address.ts";
import type { Question } from "../core/explanation.ts";

/** One line of JSON, its newline left out; a longer one ends the connection. */
export const MAX_REQUEST_BYTES = 4096;
/** The same for answers: thousands of resources fit. */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const MAX_NAME_CHARACTERS = 254;

/** What may be asked on the local socket. */
export type LocalRequest =
  | { readonly method: "status" }
  | { readonly method: "explain"; readonly question: Question };

export type LocalAnswer =
  | { readonly ok: true; readonly result: unknown }
  | {
      readonly ok: false;
      readonly error: {
        readonly code: "bad-request" | "busy" | "unavailable";
        readonly message: string;
      };
    };

const address = z.string().transform((text, context): IpAddress => {
  const ip = parseIp(text);
  if (ip !== undefined) return ip;
  context.addIssue({ code: "custom", message: "expected an address" });
  return z.NEVER;
});

const question = z
  .strictObject({
    to: z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("name"), name: z.string().min(1).max(MAX_NAME_CHARACTERS) }),
      z.strictObject({ kind: z.literal("address"), address }),
    ]),
    protocol: z.enum(["tcp", "udp", "icmp"]),
    port: z.int().min(0).max(65535),
    from: z.string().max(MAX_NAME_CHARACTERS).optional(),
  })
  .transform((value): Question => ({ ...value, from: value.from }));

const request = z.discriminatedUnion("method", [
  z.strictObject({ method: z.literal("status") }),
  z.strictObject({ method: z.literal("explain"), question }),
]);

const answer = z.discriminatedUnion("ok", [
  z.object({ ok: z.literal(true), result: z.unknown() }),
  z.object({
    ok: z.literal(false),
    error: z.object({ code: z.enum(["bad-request", "busy", "unavailable"]), message: z.string() }),
  }),
]);

export function encodeLine(value: LocalRequest | LocalAnswer): string {
  return `${JSON.stringify(value)}\n`;
}

/** A text says what is wrong with the line. */
export function decodeRequest(line: Uint8Array): LocalRequest | string {
  if (line.length > MAX_REQUEST_BYTES) return "line is too long";
  const value = parseJson(line);
  if (value === undefined) return "line is no JSON";
  const parsed = request.safeParse(value);
  return parsed.success ? parsed.data : z.prettifyError(parsed.error).replaceAll("\n", " ");
}

export function decodeAnswer(line: Uint8Array): LocalAnswer | undefined {
  const parsed = answer.safeParse(parseJson(line));
  return parsed.success ? parsed.data : undefined;
}

function parseJson(line: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(line));
  } catch {
    return undefined;
  }
}
