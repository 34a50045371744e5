import type { Random } from "../random.ts";
import {
  type AttributeKind,
  type AttributeValues,
  attributeType,
  decodeAttribute,
  encodeValue,
  MAGIC_COOKIE,
  type StunAttribute,
} from "./attribute.ts";
import { hex, readU16, readU32, writeU16, writeU32 } from "./bytes.ts";
import {
  FINGERPRINT_ATTRIBUTE_BYTES,
  fingerprintHolds,
  fingerprintOf,
  INTEGRITY_ATTRIBUTE_BYTES,
  INTEGRITY_BYTES,
  integrityHolds,
  integrityOf,
} from "./integrity.ts";

export type StunClass = "request" | "indication" | "success" | "error";
export type StunMethod =
  | "binding"
  | "allocate"
  | "refresh"
  | "send"
  | "data"
  | "create-permission"
  | "channel-bind";

/** Transaction id as 24 lower-case hex digits: the key under which a request waits for its response. */
export type TransactionKey = string & { readonly brand?: "transaction-key" };

/** A decoded message; owns its bytes. */
export interface StunMessage {
  readonly method: StunMethod | "other";
  readonly class: StunClass;
  /** 12 bytes. */
  readonly transactionId: Uint8Array;
  /** In order of arrival, without MESSAGE-INTEGRITY and FINGERPRINT and without what stands behind them. */
  readonly attributes: readonly StunAttribute[];
  /** Comprehension-required types that this codec does not know. */
  readonly unknown: readonly number[];
  /** Known types with an impossible value. */
  readonly malformed: readonly number[];
  /** Where MESSAGE-INTEGRITY and FINGERPRINT stand; see `verifyIntegrity` and `verifyFingerprint`. */
  readonly integrityOffset: number | undefined;
  readonly fingerprintOffset: number | undefined;
}

export interface OutgoingMessage {
  readonly method: StunMethod;
  readonly class: StunClass;
  readonly transactionId: Uint8Array;
  /** Written in this order. */
  readonly attributes: readonly StunAttribute[];
  /** Set: MESSAGE-INTEGRITY with this key follows. */
  readonly integrityKey?: Uint8Array | undefined;
  /** "append": FINGERPRINT comes last. */
  readonly fingerprint?: "append" | undefined;
}

export const STUN_HEADER_BYTES = 20;
export const TRANSACTION_ID_BYTES = 12;

const TYPE_MESSAGE_INTEGRITY = 0x0008;
const TYPE_FINGERPRINT = 0x8028;
const COMPREHENSION_OPTIONAL = 0x8000;

const METHOD_NUMBERS: { readonly [M in StunMethod]: number } = {
  binding: 0x001,
  allocate: 0x003,
  refresh: 0x004,
  send: 0x006,
  data: 0x007,
  "create-permission": 0x008,
  "channel-bind": 0x009,
};
const METHODS = new Map<number, StunMethod>(
  (Object.keys(METHOD_NUMBERS) as StunMethod[]).map((method) => [METHOD_NUMBERS[method], method]),
);
const CLASSES: readonly StunClass[] = ["request", "indication", "success", "error"];

export function newTransactionId(random: Random): Uint8Array {
  return random.bytes(TRANSACTION_ID_BYTES);
}

export function transactionKey(transactionId: Uint8Array): TransactionKey {
  return hex(transactionId);
}

/** The value of the first attribute of that kind. */
export function attributeValue<K extends AttributeKind>(
  message: StunMessage,
  kind: K,
): AttributeValues[K] | undefined {
  for (const attribute of message.attributes) {
    if (attribute.kind === kind) return attribute.value as AttributeValues[K];
  }
  return undefined;
}

/**
 * Decodes one datagram (RFC 8489 §5, relay §2.2): the length must fit exactly.
 * Refuses bytes whose structure is broken; impossible values of single attributes are listed instead,
 * since a server may have to authenticate the request before it complains.
 */
export function decodeStun(datagram: Uint8Array): StunMessage | "malformed" {
  if (datagram.length < STUN_HEADER_BYTES || (datagram[0] ?? 0xff) > 0x3f) return "malformed";
  if (readU32(datagram, 4) !== MAGIC_COOKIE) return "malformed";
  if (datagram.length % 4 !== 0 || readU16(datagram, 2) + STUN_HEADER_BYTES !== datagram.length) {
    return "malformed";
  }

  const body = decodeAttributes(datagram);
  if (body === "malformed") return "malformed";

  const type = readU16(datagram, 0);
  return {
    method: METHODS.get((type & 0x000f) | ((type & 0x00e0) >> 1) | ((type & 0x3e00) >> 2)) ?? "other",
    class: CLASSES[((type >> 4) & 1) | ((type >> 7) & 2)] ?? "request",
    transactionId: datagram.slice(8, STUN_HEADER_BYTES),
    ...body,
  };
}

export function encodeStun(message: OutgoingMessage): Uint8Array {
  const header = new Uint8Array(STUN_HEADER_BYTES);
  writeU16(header, 0, typeOf(message.method, message.class));
  writeU32(header, 4, MAGIC_COOKIE);
  header.set(message.transactionId, 8);

  const values = message.attributes.map((attribute) => encodeValue(attribute, header.subarray(4)));
  const plainLength = values.reduce((sum, value) => sum + 4 + padded(value.length), STUN_HEADER_BYTES);
  const signedLength = plainLength + (message.integrityKey === undefined ? 0 : INTEGRITY_ATTRIBUTE_BYTES);
  const bytes = new Uint8Array(
    signedLength + (message.fingerprint === undefined ? 0 : FINGERPRINT_ATTRIBUTE_BYTES),
  );
  bytes.set(header);

  let offset = STUN_HEADER_BYTES;
  for (const [i, value] of values.entries()) {
    const attribute = message.attributes[i];
    if (attribute === undefined) break;
    writeAttribute(bytes, offset, attributeType(attribute.kind), value);
    offset += 4 + padded(value.length);
  }
  if (message.integrityKey !== undefined) {
    const mac = integrityOf(bytes, plainLength, message.integrityKey);
    writeAttribute(bytes, plainLength, TYPE_MESSAGE_INTEGRITY, mac);
  }
  writeU16(bytes, 2, bytes.length - STUN_HEADER_BYTES);
  if (message.fingerprint !== undefined) {
    const value = new Uint8Array(4);
    writeU32(value, 0, fingerprintOf(bytes, signedLength));
    writeAttribute(bytes, signedLength, TYPE_FINGERPRINT, value);
  }
  return bytes;
}

/** False also when there is none. `datagram` must be the bytes that `message` was decoded from. */
export function verifyIntegrity(datagram: Uint8Array, message: StunMessage, key: Uint8Array): boolean {
  return message.integrityOffset !== undefined && integrityHolds(datagram, message.integrityOffset, key);
}

/** False also when there is none. `datagram` must be the bytes that `message` was decoded from. */
export function verifyFingerprint(datagram: Uint8Array, message: StunMessage): boolean {
  return message.fingerprintOffset !== undefined && fingerprintHolds(datagram, message.fingerprintOffset);
}

type Body = Pick<
  StunMessage,
  "attributes" | "unknown" | "malformed" | "integrityOffset" | "fingerprintOffset"
>;

function decodeAttributes(datagram: Uint8Array): Body | "malformed" {
  const cookieAndId = datagram.subarray(4, STUN_HEADER_BYTES);
  const attributes: StunAttribute[] = [];
  const unknown: number[] = [];
  const malformed: number[] = [];
  let integrityOffset: number | undefined;
  let fingerprintOffset: number | undefined;

  for (let offset = STUN_HEADER_BYTES; offset < datagram.length; ) {
    const type = readU16(datagram, offset);
    const length = readU16(datagram, offset + 2);
    const next = offset + 4 + padded(length);
    if (next > datagram.length) return "malformed";

    if (type === TYPE_FINGERPRINT) {
      if (length === 4) fingerprintOffset ??= offset;
      else malformed.push(type);
    } else if (integrityOffset !== undefined || fingerprintOffset !== undefined) {
      // The MAC does not cover it, so nobody may act on it.
    } else if (type === TYPE_MESSAGE_INTEGRITY) {
      if (length === INTEGRITY_BYTES) integrityOffset = offset;
      else malformed.push(type);
    } else {
      const value = datagram.subarray(offset + 4, offset + 4 + length);
      const attribute = decodeAttribute(type, value, cookieAndId);
      if (attribute === "malformed") malformed.push(type);
      else if (attribute !== "unknown") attributes.push(attribute);
      else if (type < COMPREHENSION_OPTIONAL) unknown.push(type);
    }
    offset = next;
  }
  return { attributes, unknown, malformed, integrityOffset, fingerprintOffset };
}

// Message type = 5 + 3 + 4 bits of the method around two bits of the class (RFC 8489 §5).
function typeOf(method: StunMethod, messageClass: StunClass): number {
  const number = METHOD_NUMBERS[method];
  const bits = CLASSES.indexOf(messageClass);
  return (
    (number & 0x00f) |
    ((bits & 1) << 4) |
    ((number & 0x070) << 1) |
    ((bits & 2) << 7) |
    ((number & 0xf80) << 2)
  );
}

function writeAttribute(bytes: Uint8Array, offset: number, type: number, value: Uint8Array): void {
  writeU16(bytes, offset, type);
  writeU16(bytes, offset + 2, value.length);
  bytes.set(value, offset + 4);
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
