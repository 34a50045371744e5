import crypto from "node:crypto";
import type { Random } from "../../host/core/random.ts";
import { encodeStun, newTransactionId } from "../../host/core/stun/message.ts";

const MAX_BYTES = 1450;
/** Sizes of WireGuard's four message types, at index type − 1. */
const MESSAGE_BYTES = [148, 92, 64, 32];
const RANDOM: Random = {
  bytes: (length) => crypto.randomBytes(length),
  uniform: () => crypto.randomInt(2 ** 32) / 2 ** 32,
};

/**
 * Datagrams that no honest node sends: noise, messages with the right shape and the wrong content, and real ones
 * (`seen`) with a byte changed, cut short or grown.
 */
export function hostileDatagrams(count: number, seen: readonly Uint8Array[]): Uint8Array[] {
  const makers = [noise, noiseWithFirstByte, wireGuardShape, stunShape, stunFromNobody, mutation(seen)];
  return Array.from({ length: count }, (_, i) => (makers[i % makers.length] ?? noise)());
}

function noise(): Uint8Array {
  return crypto.randomBytes(crypto.randomInt(MAX_BYTES));
}

/** Every first byte that means something: WireGuard's types, STUN, ChannelData, and their neighbours. */
function noiseWithFirstByte(): Uint8Array {
  const datagram = crypto.randomBytes(1 + crypto.randomInt(MAX_BYTES));
  datagram[0] = [0, 1, 2, 3, 4, 5, 0x40, 0x4f, 0x80][crypto.randomInt(9)] ?? 0;
  return datagram;
}

/** Type and reserved bytes are right, as is the size, give or take; nothing else. */
function wireGuardShape(): Uint8Array {
  const type = crypto.randomInt(4);
  const size = (MESSAGE_BYTES[type] ?? 32) + ([0, 0, -1, 1, 16, 1000][crypto.randomInt(6)] ?? 0);
  const datagram = crypto.randomBytes(size);
  datagram.set([type + 1, 0, 0, 0]);
  return datagram;
}

/** Header and magic cookie are right; the length and the attributes need not be. */
function stunShape(): Uint8Array {
  const body = crypto.randomInt(2) * crypto.randomInt(300) * 4;
  const datagram = crypto.randomBytes(20 + body);
  const view = new DataView(datagram.buffer, datagram.byteOffset);
  view.setUint16(0, [0x0001, 0x0101, 0x0111, 0x0011, 0x0003, 0x3fff][crypto.randomInt(6)] ?? 0);
  view.setUint16(2, body + ([0, 0, 4, -4, 1, 60_000][crypto.randomInt(6)] ?? 0));
  view.setUint32(4, 0x2112a442);
  return datagram;
}

/** A check as a peer would send it, from a user who does not exist, signed with a made-up key. */
function stunFromNobody(): Uint8Array {
  return encodeStun({
    method: "binding",
    class: "request",
    transactionId: newTransactionId(RANDOM),
    attributes: [
      { kind: "username", value: `${crypto.randomBytes(4).toString("hex")}:nobody` },
      { kind: "priority", value: crypto.randomInt(2 ** 31) },
    ],
    integrityKey: crypto.randomBytes(20),
    fingerprint: "append",
  });
}

function mutation(seen: readonly Uint8Array[]): () => Uint8Array {
  return () => {
    const original = seen[crypto.randomInt(Math.max(seen.length, 1))];
    if (original === undefined) return noise();
    switch (crypto.randomInt(4)) {
      case 0:
        return original.subarray(0, crypto.randomInt(original.length));
      case 1:
        return Buffer.concat([original, crypto.randomBytes(1 + crypto.randomInt(200))]);
      default: {
        const changed = Buffer.from(original);
        // The first four bytes say what it is: there the change would make just more noise.
        const at = changed.length > 5 ? 4 + crypto.randomInt(changed.length - 4) : 0;
        changed[at] = (changed[at] ?? 0) ^ (1 + crypto.randomInt(255));
        return changed;
      }
    }
  };
}
