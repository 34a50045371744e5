import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { equalInConstantTime, writeU16, writeU32 } from "./bytes.ts";

export const INTEGRITY_BYTES = 20;
/** MESSAGE-INTEGRITY and FINGERPRINT with their type and length. */
export const INTEGRITY_ATTRIBUTE_BYTES = 24;
export const FINGERPRINT_ATTRIBUTE_BYTES = 8;

const HEADER_BYTES = 20;
// RFC 8489 §14.7: keeps the value apart from a CRC that an application puts at the same place.
const FINGERPRINT_XOR = 0x5354554e;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/**
 * HMAC-SHA-1 over the message before the MESSAGE-INTEGRITY at `offset`, with the header's length field
 * counting that attribute and nothing behind it (RFC 8489 §14.5).
 */
export function integrityOf(message: Uint8Array, offset: number, key: Uint8Array): Uint8Array {
  const covered = message.slice(0, offset);
  writeU16(covered, 2, offset - HEADER_BYTES + INTEGRITY_ATTRIBUTE_BYTES);
  return hmac(sha1, key, covered);
}

/** Constant-time. `offset` is that of the attribute, not of its value. */
export function integrityHolds(message: Uint8Array, offset: number, key: Uint8Array): boolean {
  const stated = message.subarray(offset + 4, offset + 4 + INTEGRITY_BYTES);
  return equalInConstantTime(stated, integrityOf(message, offset, key));
}

/** CRC-32 over the message before the FINGERPRINT at `offset`, whose bytes the header's length counts already. */
export function fingerprintOf(message: Uint8Array, offset: number): number {
  return (crc32(message.subarray(0, offset)) ^ FINGERPRINT_XOR) >>> 0;
}

export function fingerprintHolds(message: Uint8Array, offset: number): boolean {
  const expected = new Uint8Array(4);
  writeU32(expected, 0, fingerprintOf(message, offset));
  return equalInConstantTime(message.subarray(offset + 4, offset + 8), expected);
}

/** CRC-32 of ISO 3309, as in Ethernet. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}
