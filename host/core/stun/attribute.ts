import { ipFromBytes, ipToBytes, isIpv4, type SocketAddress } from "../address.ts";
import { readU16, readU32, writeU16, writeU32 } from "./bytes.ts";

/** RFC 8489 §5; the first half also masks ports of XOR addresses. */
export const MAGIC_COOKIE = 0x2112a442;

export type AddressFamily = "ipv4" | "ipv6";

export interface StunError {
  /** 300 … 699. */
  readonly code: number;
  readonly reason: string;
}

/** What each attribute carries (relay §2.4, connectivity §6.1 and §8.2). */
export interface AttributeValues {
  readonly username: string;
  readonly realm: string;
  readonly nonce: string;
  readonly software: string;
  readonly "error-code": StunError;
  readonly "address-error-code": StunError & { readonly family: AddressFamily };
  readonly "unknown-attributes": readonly number[];
  readonly "channel-number": number;
  readonly lifetime: number;
  readonly data: Uint8Array;
  readonly "xor-mapped-address": SocketAddress;
  readonly "xor-peer-address": SocketAddress;
  readonly "xor-relayed-address": SocketAddress;
  readonly "requested-address-family": AddressFamily;
  readonly "additional-address-family": AddressFamily;
  /** IP protocol number. */
  readonly "requested-transport": number;
  readonly priority: number;
  readonly "use-candidate": true;
  /** Tie-breaker, 8 bytes. */
  readonly "ice-controlled": Uint8Array;
  readonly "ice-controlling": Uint8Array;
}

export type AttributeKind = keyof AttributeValues;

export type StunAttribute = {
  [K in AttributeKind]: { readonly kind: K; readonly value: AttributeValues[K] };
}[AttributeKind];

/** How one value stands on the wire. `cookieAndId`: bytes 4–19 of the message, the mask of XOR addresses. */
interface ValueCodec<T> {
  encode(value: T, cookieAndId: Uint8Array): Uint8Array;
  /** Undefined if no sender could have meant these bytes. */
  decode(bytes: Uint8Array, cookieAndId: Uint8Array): T | undefined;
}

// RFC 8489 §14.3 and §14.10; the limits of the others count characters, which are at least as many bytes.
const USERNAME_MAX_BYTES = 512;
const TEXT_MAX_BYTES = 763;
const TIE_BREAKER_BYTES = 8;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const toUtf8 = new TextEncoder();

const username = text(USERNAME_MAX_BYTES);
const shortText = text(TEXT_MAX_BYTES);

const u32: ValueCodec<number> = {
  encode: (value) => wordOf((bytes) => writeU32(bytes, 0, value)),
  decode: (bytes) => (bytes.length === 4 ? readU32(bytes, 0) : undefined),
};

/** Channel number and 16 reserved bits. */
const u16: ValueCodec<number> = {
  encode: (value) => wordOf((bytes) => writeU16(bytes, 0, value)),
  decode: (bytes) => (bytes.length === 4 ? readU16(bytes, 0) : undefined),
};

/** Protocol number and 24 reserved bits. */
const u8: ValueCodec<number> = {
  encode: (value) => Uint8Array.of(value, 0, 0, 0),
  decode: (bytes) => (bytes.length === 4 ? bytes[0] : undefined),
};

const family: ValueCodec<AddressFamily> = {
  encode: (value) => Uint8Array.of(familyNumber(value), 0, 0, 0),
  decode: (bytes) => (bytes.length === 4 ? familyOf(bytes[0]) : undefined),
};

const flag: ValueCodec<true> = {
  encode: () => new Uint8Array(0),
  decode: (bytes) => (bytes.length === 0 ? true : undefined),
};

const tieBreaker: ValueCodec<Uint8Array> = {
  encode: (value) => value,
  decode: (bytes) => (bytes.length === TIE_BREAKER_BYTES ? bytes.slice() : undefined),
};

const opaque: ValueCodec<Uint8Array> = {
  encode: (value) => value,
  decode: (bytes) => bytes.slice(),
};

const types: ValueCodec<readonly number[]> = {
  encode(value) {
    const bytes = new Uint8Array(value.length * 2);
    for (const [i, type] of value.entries()) writeU16(bytes, i * 2, type);
    return bytes;
  },
  decode(bytes) {
    if (bytes.length % 2 !== 0) return undefined;
    return Array.from({ length: bytes.length / 2 }, (_, i) => readU16(bytes, i * 2));
  },
};

const error: ValueCodec<StunError> = {
  encode: (value) => errorBytes(value, 0),
  decode: (bytes) => errorOf(bytes),
};

const addressError: ValueCodec<StunError & { readonly family: AddressFamily }> = {
  encode: (value) => errorBytes(value, familyNumber(value.family)),
  decode(bytes) {
    const parsed = errorOf(bytes);
    const parsedFamily = familyOf(bytes[0]);
    return parsed === undefined || parsedFamily === undefined
      ? undefined
      : { ...parsed, family: parsedFamily };
  },
};

// 00, family, port ⊕ cookie, address ⊕ (cookie ‖ transaction id)
const xorAddress: ValueCodec<SocketAddress> = {
  encode(value, cookieAndId) {
    const address = ipToBytes(value.ip);
    const bytes = new Uint8Array(4 + address.length);
    bytes[1] = isIpv4(value.ip) ? 1 : 2;
    writeU16(bytes, 2, value.port ^ (MAGIC_COOKIE >>> 16));
    for (const [i, byte] of address.entries()) bytes[4 + i] = byte ^ (cookieAndId[i] ?? 0);
    return bytes;
  },
  decode(bytes, cookieAndId) {
    const parsedFamily = familyOf(bytes[1]);
    if (parsedFamily === undefined || bytes.length !== (parsedFamily === "ipv4" ? 8 : 20)) return undefined;

    const address = bytes.slice(4);
    for (let i = 0; i < address.length; i++) address[i] = (address[i] ?? 0) ^ (cookieAndId[i] ?? 0);
    return { ip: ipFromBytes(address), port: readU16(bytes, 2) ^ (MAGIC_COOKIE >>> 16) };
  },
};

type Definitions = {
  readonly [K in AttributeKind]: { readonly type: number; readonly codec: ValueCodec<AttributeValues[K]> };
};

const DEFINITIONS: Definitions = {
  username: { type: 0x0006, codec: username },
  "error-code": { type: 0x0009, codec: error },
  "unknown-attributes": { type: 0x000a, codec: types },
  "channel-number": { type: 0x000c, codec: u16 },
  lifetime: { type: 0x000d, codec: u32 },
  "xor-peer-address": { type: 0x0012, codec: xorAddress },
  data: { type: 0x0013, codec: opaque },
  realm: { type: 0x0014, codec: shortText },
  nonce: { type: 0x0015, codec: shortText },
  "xor-relayed-address": { type: 0x0016, codec: xorAddress },
  "requested-address-family": { type: 0x0017, codec: family },
  "requested-transport": { type: 0x0019, codec: u8 },
  "xor-mapped-address": { type: 0x0020, codec: xorAddress },
  priority: { type: 0x0024, codec: u32 },
  "use-candidate": { type: 0x0025, codec: flag },
  "additional-address-family": { type: 0x8000, codec: family },
  "address-error-code": { type: 0x8001, codec: addressError },
  software: { type: 0x8022, codec: shortText },
  "ice-controlled": { type: 0x8029, codec: tieBreaker },
  "ice-controlling": { type: 0x802a, codec: tieBreaker },
};

const KIND_OF_TYPE = new Map<number, AttributeKind>(
  (Object.keys(DEFINITIONS) as AttributeKind[]).map((kind) => [DEFINITIONS[kind].type, kind]),
);

export function attributeType(kind: AttributeKind): number {
  return DEFINITIONS[kind].type;
}

/** The value's bytes without type, length and padding. */
export function encodeValue(attribute: StunAttribute, cookieAndId: Uint8Array): Uint8Array {
  const codec = DEFINITIONS[attribute.kind].codec as ValueCodec<unknown>;
  return codec.encode(attribute.value, cookieAndId);
}

/** "unknown": not a type of this codec; "malformed": one of ours with an impossible value. */
export function decodeAttribute(
  type: number,
  bytes: Uint8Array,
  cookieAndId: Uint8Array,
): StunAttribute | "unknown" | "malformed" {
  const kind = KIND_OF_TYPE.get(type);
  if (kind === undefined) return "unknown";

  const value = DEFINITIONS[kind].codec.decode(bytes, cookieAndId);
  return value === undefined ? "malformed" : ({ kind, value } as StunAttribute);
}

function text(maxBytes: number): ValueCodec<string> {
  return {
    encode: (value) => toUtf8.encode(value),
    decode(bytes) {
      if (bytes.length > maxBytes) return undefined;
      try {
        return utf8.decode(bytes);
      } catch {
        return undefined;
      }
    },
  };
}

function wordOf(write: (bytes: Uint8Array) => void): Uint8Array {
  const bytes = new Uint8Array(4);
  write(bytes);
  return bytes;
}

function errorBytes(value: StunError, firstByte: number): Uint8Array {
  const reason = toUtf8.encode(value.reason);
  const bytes = new Uint8Array(4 + reason.length);
  bytes[0] = firstByte;
  bytes[2] = Math.floor(value.code / 100);
  bytes[3] = value.code % 100;
  bytes.set(reason, 4);
  return bytes;
}

function errorOf(bytes: Uint8Array): StunError | undefined {
  const hundreds = (bytes[2] ?? 0) & 0x7;
  const rest = bytes[3] ?? 0;
  if (bytes.length < 4 || hundreds < 3 || hundreds > 6 || rest > 99) return undefined;

  const reason = shortText.decode(bytes.subarray(4), bytes);
  return reason === undefined ? undefined : { code: hundreds * 100 + rest, reason };
}

function familyNumber(value: AddressFamily): number {
  return value === "ipv4" ? 1 : 2;
}

function familyOf(value: number | undefined): AddressFamily | undefined {
  return value === 1 ? "ipv4" : value === 2 ? "ipv6" : undefined;
}
