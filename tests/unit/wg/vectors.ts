import { readFileSync } from "node:fs";

export function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

export function toHex(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? "nothing" : Buffer.from(bytes).toString("hex");
}

/** `tests/vectors/wireguard.json`, which names its origin. */
export const vectors = JSON.parse(
  readFileSync(new URL("../../vectors/wireguard.json", import.meta.url), "utf8"),
) as Record<
  | "initiatorStaticPrivate"
  | "responderStaticPrivate"
  | "initiatorEphemeralPrivate"
  | "responderEphemeralPrivate"
  | "initiatorStatic"
  | "responderStatic"
  | "initiatorEphemeral"
  | "responderEphemeral"
  | "presharedKey"
  | "timestamp"
  | "initiatorSendKey"
  | "responderSendKey"
  | "initiation"
  | "response"
  | "keepalive"
  | "goodbyePacket"
  | "goodbye"
  | "cookie"
  | "cookieNonce"
  | "cookieReply"
  | "cookieMac2",
  string
> &
  Record<"unixSeconds" | "nanoseconds" | "initiatorIndex" | "responderIndex", number>;
