import { z } from "zod";

/** Largest frame that a portal accepts from a peer (portal §22.6). */
export const MAX_INBOUND_FRAME_BYTES = 64 * 1024;
/** Largest frame that a peer accepts from a portal: an `init` with 5,000 resources fits several times. */
export const MAX_PUSH_FRAME_BYTES = 16 * 1024 * 1024;

export type PortalRole = "client" | "gateway" | "relay";
/** 1: the event names of Firezone's first sockets; 2: today's. The path of the WebSocket selects one. */
export type Generation = 1 | 2;

export const PHOENIX_TOPIC = "phoenix";

/**
 * Numbers a request and its reply; null on pushes. Replies carry it with the JSON type that it came
 * with, since Firezone's peers understand only the number they sent (portal §4).
 */
export type Ref = number | string | null;

/** One text frame of the channel protocol (portal §4). */
export interface Frame {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: Ref;
}

/** An event with its payload, before it gets a topic and a ref. */
export interface Push {
  readonly event: string;
  readonly payload: unknown;
}

const frameSchema = z.object({
  topic: z.string().max(255),
  event: z.string().max(255),
  payload: z.unknown().optional(),
  ref: z.union([z.number(), z.string().max(64), z.null()]).default(null),
});

export function encodeFrame({ topic, event, payload, ref }: Frame): string {
  return JSON.stringify({ topic, event, payload: payload ?? null, ref });
}

/** Undefined if the text is not JSON or not a frame. A missing payload reads as null. */
export function decodeFrame(text: string): Frame | undefined {
  const parsed = frameSchema.safeParse(parseJson(text));
  if (!parsed.success) return undefined;
  const { topic, event, payload, ref } = parsed.data;
  return { topic, event, payload: payload ?? null, ref };
}

/** Undefined if the text is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const replySchema = z.object({
  status: z.enum(["ok", "error"]),
  response: z.object({ reason: z.string().optional().catch(undefined) }).catch({ reason: undefined }),
});

/** What a `phx_reply` says; `reason` only with errors, and not always then. */
export interface Reply {
  readonly status: "ok" | "error";
  readonly reason: string | undefined;
}

export function decodeReply(payload: unknown): Reply | undefined {
  const parsed = replySchema.safeParse(payload);
  return parsed.success ? { status: parsed.data.status, reason: parsed.data.response.reason } : undefined;
}

/** Completion of a join, heartbeat or request: `response` is exactly `{}`, as released peers insist (portal §4). */
export function okReply(topic: string, ref: Ref): Frame {
  return { topic, event: "phx_reply", payload: { status: "ok", response: {} }, ref };
}

export function errorReply(topic: string, ref: Ref, reason: string): Frame {
  return { topic, event: "phx_reply", payload: { status: "error", response: { reason } }, ref };
}
