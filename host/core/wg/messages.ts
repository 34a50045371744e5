import type { DropReason } from "../drop.ts";

// Message shapes of connectivity §10.1. Indexes are little-endian; type is one byte and three zero bytes.
export const INITIATION_BYTES = 148;
export const RESPONSE_BYTES = 92;
export const COOKIE_REPLY_BYTES = 64;
export const DATA_MIN_BYTES = 32;

export const TYPE_INITIATION = 1;
export const TYPE_RESPONSE = 2;
export const TYPE_COOKIE_REPLY = 3;
export const TYPE_DATA = 4;

const INITIATION_SENDER = 4;
const INITIATION_EPHEMERAL = 8;
const INITIATION_STATIC = 40;
const INITIATION_TIMESTAMP = 88;
const INITIATION_MAC1 = 116;
const INITIATION_MAC2 = 132;

const RESPONSE_SENDER = 4;
const RESPONSE_RECEIVER = 8;
const RESPONSE_EPHEMERAL = 12;
const RESPONSE_NOTHING = 44;
const RESPONSE_MAC1 = 60;
const RESPONSE_MAC2 = 76;

const COOKIE_RECEIVER = 4;
const COOKIE_NONCE = 8;
const COOKIE_SEALED = 32;

const DATA_RECEIVER = 4;

/** The part of an initiation or response that both MACs are about. */
export interface Authenticated {
  /** Everything before mac1, and everything before mac2. */
  readonly beforeMac1: Uint8Array;
  readonly beforeMac2: Uint8Array;
  readonly mac1: Uint8Array;
  readonly mac2: Uint8Array;
}

export interface Initiation extends Authenticated {
  readonly kind: "initiation";
  readonly sender: number;
  readonly ephemeral: Uint8Array;
  readonly sealedStatic: Uint8Array;
  readonly sealedTimestamp: Uint8Array;
}

export interface Response extends Authenticated {
  readonly kind: "response";
  readonly sender: number;
  readonly receiver: number;
  readonly ephemeral: Uint8Array;
  readonly sealedNothing: Uint8Array;
}

export interface CookieReply {
  readonly kind: "cookie-reply";
  readonly receiver: number;
  readonly nonce: Uint8Array;
  readonly sealedCookie: Uint8Array;
}

export interface Data {
  readonly kind: "data";
  readonly receiver: number;
}

export type Message = Initiation | Response | CookieReply | Data;

/** Views into `bytes`; type and length must match exactly. */
export function parseMessage(bytes: Uint8Array): Message | DropReason {
  if (bytes.length < 4 || bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) return "not-wireguard";

  switch (bytes[0]) {
    case TYPE_INITIATION:
      return bytes.length === INITIATION_BYTES ? parseInitiation(bytes) : "not-wireguard";
    case TYPE_RESPONSE:
      return bytes.length === RESPONSE_BYTES ? parseResponse(bytes) : "not-wireguard";
    case TYPE_COOKIE_REPLY:
      return bytes.length === COOKIE_REPLY_BYTES ? parseCookieReply(bytes) : "not-wireguard";
    case TYPE_DATA:
      return bytes.length >= DATA_MIN_BYTES
        ? { kind: "data", receiver: readIndex(bytes, DATA_RECEIVER) }
        : "not-wireguard";
    default:
      return "not-wireguard";
  }
}

export interface InitiationFields {
  readonly sender: number;
  readonly ephemeral: Uint8Array;
  readonly sealedStatic: Uint8Array;
  readonly sealedTimestamp: Uint8Array;
}

/** Both MACs are left zero. */
export function encodeInitiation(fields: InitiationFields): Uint8Array {
  const bytes = new Uint8Array(INITIATION_BYTES);
  bytes[0] = TYPE_INITIATION;
  writeIndex(bytes, INITIATION_SENDER, fields.sender);
  bytes.set(fields.ephemeral, INITIATION_EPHEMERAL);
  bytes.set(fields.sealedStatic, INITIATION_STATIC);
  bytes.set(fields.sealedTimestamp, INITIATION_TIMESTAMP);
  return bytes;
}

export interface ResponseFields {
  readonly sender: number;
  readonly receiver: number;
  readonly ephemeral: Uint8Array;
  readonly sealedNothing: Uint8Array;
}

/** Both MACs are left zero. */
export function encodeResponse(fields: ResponseFields): Uint8Array {
  const bytes = new Uint8Array(RESPONSE_BYTES);
  bytes[0] = TYPE_RESPONSE;
  writeIndex(bytes, RESPONSE_SENDER, fields.sender);
  writeIndex(bytes, RESPONSE_RECEIVER, fields.receiver);
  bytes.set(fields.ephemeral, RESPONSE_EPHEMERAL);
  bytes.set(fields.sealedNothing, RESPONSE_NOTHING);
  return bytes;
}

export function encodeCookieReply(receiver: number, nonce: Uint8Array, sealedCookie: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(COOKIE_REPLY_BYTES);
  bytes[0] = TYPE_COOKIE_REPLY;
  writeIndex(bytes, COOKIE_RECEIVER, receiver);
  bytes.set(nonce, COOKIE_NONCE);
  bytes.set(sealedCookie, COOKIE_SEALED);
  return bytes;
}

/** The MAC fields of an encoded initiation or response; writing to the views writes the message. */
export function authenticatedPart(bytes: Uint8Array): Authenticated {
  const [mac1, mac2] =
    bytes[0] === TYPE_INITIATION ? [INITIATION_MAC1, INITIATION_MAC2] : [RESPONSE_MAC1, RESPONSE_MAC2];
  return {
    beforeMac1: bytes.subarray(0, mac1),
    beforeMac2: bytes.subarray(0, mac2),
    mac1: bytes.subarray(mac1, mac2),
    mac2: bytes.subarray(mac2),
  };
}

function parseInitiation(bytes: Uint8Array): Initiation {
  return {
    kind: "initiation",
    sender: readIndex(bytes, INITIATION_SENDER),
    ephemeral: bytes.subarray(INITIATION_EPHEMERAL, INITIATION_STATIC),
    sealedStatic: bytes.subarray(INITIATION_STATIC, INITIATION_TIMESTAMP),
    sealedTimestamp: bytes.subarray(INITIATION_TIMESTAMP, INITIATION_MAC1),
    ...authenticatedPart(bytes),
  };
}

function parseResponse(bytes: Uint8Array): Response {
  return {
    kind: "response",
    sender: readIndex(bytes, RESPONSE_SENDER),
    receiver: readIndex(bytes, RESPONSE_RECEIVER),
    ephemeral: bytes.subarray(RESPONSE_EPHEMERAL, RESPONSE_NOTHING),
    sealedNothing: bytes.subarray(RESPONSE_NOTHING, RESPONSE_MAC1),
    ...authenticatedPart(bytes),
  };
}

function parseCookieReply(bytes: Uint8Array): CookieReply {
  return {
    kind: "cookie-reply",
    receiver: readIndex(bytes, COOKIE_RECEIVER),
    nonce: bytes.subarray(COOKIE_NONCE, COOKIE_SEALED),
    sealedCookie: bytes.subarray(COOKIE_SEALED),
  };
}

function readIndex(bytes: Uint8Array, offset: number): number {
  return (
    (bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24)) >>>
    0
  );
}

function writeIndex(bytes: Uint8Array, offset: number, index: number): void {
  bytes[offset] = index;
  bytes[offset + 1] = index >>> 8;
  bytes[offset + 2] = index >>> 16;
  bytes[offset + 3] = index >>> 24;
}
