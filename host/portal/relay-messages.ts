// Messages of the topic "relay" (portal §8): a join with the secret, an empty `init`, nothing else.
import { z } from "zod";
import { type Decoded, type Decoder, decodeBy, decoder } from "./decode.ts";
import type { Push } from "./wire.ts";

export type RelayIngress = { readonly kind: "init" };

/** Relays say nothing after the join. */
export type RelayEgress = never;

const INGRESS: ReadonlyMap<string, Decoder<RelayIngress>> = new Map([
  ["init", decoder(z.looseObject({}), (): RelayIngress => ({ kind: "init" }))],
]);

export function decodeRelayIngress(event: string, payload: unknown): Decoded<RelayIngress> {
  return decodeBy(INGRESS, event, payload);
}

export function encodeRelayPush(message: RelayIngress): Push {
  return { event: message.kind, payload: {} };
}

/** Payload of a relay's join. The secret is text: lower-case hexadecimal of 32 random bytes (portal §8). */
export function encodeRelayJoin(stampSecret: string): unknown {
  return { stamp_secret: stampSecret };
}

const joinSchema = z.object({ stamp_secret: z.string().min(16).max(256) });

/** Undefined if the payload holds no usable secret. */
export function decodeRelayJoin(payload: unknown): { readonly stampSecret: string } | undefined {
  const parsed = joinSchema.safeParse(payload);
  return parsed.success ? { stampSecret: parsed.data.stamp_secret } : undefined;
}
