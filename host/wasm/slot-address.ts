import { type IpAddress, ipFromBytes } from "../core/address.ts";

/** Bytes of an address in the core's tables; an IPv4 address fills the first 4, the rest is 0. */
export const SLOT_ADDRESS_BYTES = 16;

const DOT = 0x2e;
const COLON = 0x3a;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const LETTER_A = 0x61;

/**
 * Writes the address to `bytes` at `at` as the core's tables hold it and returns its IP version.
 * Once per new flow, so the canonical text is read character by character, without taking it apart.
 */
export function toSlotAddress(address: IpAddress, bytes: Uint8Array, at: number): 4 | 6 {
  bytes.fill(0, at, at + SLOT_ADDRESS_BYTES);
  if (address.includes(":")) {
    writeIpv6(address, bytes, at);
    return 6;
  }
  writeIpv4(address, bytes, at);
  return 4;
}

export function fromSlotAddress(bytes: Uint8Array, at: number, version: 4 | 6): IpAddress {
  return ipFromBytes(bytes.subarray(at, at + (version === 4 ? 4 : SLOT_ADDRESS_BYTES)));
}

function writeIpv4(text: string, bytes: Uint8Array, at: number): void {
  let value = 0;
  let index = at;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      bytes[index++] = value;
      value = 0;
    } else {
      value = value * 10 + code - DIGIT_0;
    }
  }
  bytes[index] = value;
}

/** Canonical text has at most one "::", and no IPv4 part. Groups behind the gap move to the end. */
function writeIpv6(text: string, bytes: Uint8Array, at: number): void {
  let index = at;
  let gap = -1;
  let i = 0;
  while (i < text.length) {
    if (text.charCodeAt(i) === COLON) {
      if (text.charCodeAt(i + 1) === COLON) {
        gap = index;
        i += 2;
      } else {
        i += 1;
      }
      continue;
    }
    let group = 0;
    for (; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === COLON) break;
      group = group * 16 + (code <= DIGIT_9 ? code - DIGIT_0 : code - LETTER_A + 10);
    }
    bytes[index++] = group >> 8;
    bytes[index++] = group & 0xff;
  }
  if (gap < 0) return;

  const end = at + SLOT_ADDRESS_BYTES;
  const tail = index - gap;
  bytes.copyWithin(end - tail, gap, index);
  bytes.fill(0, gap, end - tail);
}
