import * as dnsPacket from "dns-packet";
import type { IpAddress } from "../address.ts";
import { normalizeName } from "./name.ts";

// Record types (IANA); only those that somebody here decides by.
export const TYPE_A = 1;
export const TYPE_PTR = 12;
export const TYPE_TXT = 16;
export const TYPE_AAAA = 28;
export const TYPE_SRV = 33;
export const TYPE_HTTPS = 65;

export const CLASS_IN = 1;

export const RCODE_NOERROR = 0;
export const RCODE_SERVFAIL = 2;
export const RCODE_NXDOMAIN = 3;

// RFC 1035 §4.1.1: id, flags, four counts.
const HEADER_BYTES = 12;
const FLAG_RESPONSE = 0x8000;
const OPCODE_MASK = 0x7800;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const RCODE_MASK = 0x000f;
/** Type, class, TTL and length in front of record data. */
const RECORD_FIXED_BYTES = 10;
/** TTL of every record that we make up (tunnel-core §11.5): applications ask again soon. */
export const STUB_TTL_SECONDS = 1;
/** Largest DNS answer in one tunnelled UDP packet (tunnel-core §2.3). */
export const MAX_UDP_ANSWER_BYTES = 1212;

/** One question that we may answer. `bytes` is a copy of the whole message. */
export interface DnsQuery {
  readonly bytes: Uint8Array;
  readonly id: number;
  /** As asked, for echoing; undefined if text cannot express it (dots inside labels, bytes that are no UTF-8). */
  readonly wireName: string | undefined;
  /** Normalized `wireName`: what patterns and caches compare. */
  readonly name: string | undefined;
  readonly type: number;
  readonly class: number;
  /** Offset behind the question. */
  readonly questionEnd: number;
}

/**
 * Reads a query (tunnel-core §11.3). Undefined unless it is a query with exactly one question and an
 * answer section that parses. Never throws.
 */
export function decodeQuery(message: Uint8Array): DnsQuery | undefined {
  if (message.length < HEADER_BYTES) return undefined;
  if ((readU16(message, 2) & FLAG_RESPONSE) !== 0 || readU16(message, 4) !== 1) return undefined;

  const nameEnd = endOfPlainName(message, HEADER_BYTES);
  if (nameEnd === undefined || nameEnd + 4 > message.length) return undefined;
  const questionEnd = nameEnd + 4;
  if (walkRecords(message, questionEnd, readU16(message, 6)) === undefined) return undefined;

  const wireName = readName(message, nameEnd);
  return {
    bytes: message.slice(),
    id: readU16(message, 0),
    wireName,
    name: wireName === undefined ? undefined : normalizeName(wireName),
    type: readU16(message, nameEnd),
    class: readU16(message, nameEnd + 2),
    questionEnd,
  };
}

/** A response without records: id, opcode and "recursion desired" of the query, its question echoed. */
export function emptyResponse(query: DnsQuery, rcode: number): Uint8Array {
  return headerAndQuestion(query.bytes, query.questionEnd, responseFlags(query, rcode));
}

/** The query with the id 0, as HTTPS wants it (RFC 8484 §4.1). */
export function withoutId(query: DnsQuery): Uint8Array {
  const bytes = query.bytes.slice();
  writeU16(bytes, 0, 0);
  return bytes;
}

/** The data of a record that we make up. */
export type StubRecord =
  | { readonly type: "A"; readonly address: IpAddress }
  | { readonly type: "AAAA"; readonly address: IpAddress }
  | { readonly type: "PTR"; readonly name: string };

/** A NOERROR response with these records under the queried name (tunnel-core §11.5). */
export function stubResponse(query: DnsQuery, records: readonly StubRecord[]): Uint8Array {
  const name = query.wireName;
  if (records.length === 0 || name === undefined) return emptyResponse(query, RCODE_NOERROR);

  const encoded = dnsPacket.encode({
    type: "response",
    id: query.id,
    flags: responseFlags(query, RCODE_NOERROR) & ~FLAG_RESPONSE,
    answers: records.map((record) => ({
      type: record.type,
      name,
      class: "IN",
      ttl: STUB_TTL_SECONDS,
      data: record.type === "PTR" ? record.name : record.address,
    })),
  });
  return insertQuestion(encoded, query);
}

/** A response as it goes to a UDP socket: cut down to header and question with TC set if it is too large. */
export function fitUdp(response: Uint8Array, limit = MAX_UDP_ANSWER_BYTES): Uint8Array {
  if (response.length <= limit) return response;

  const nameEnd = readU16(response, 4) === 1 ? endOfPlainName(response, HEADER_BYTES) : undefined;
  const end = nameEnd === undefined || nameEnd + 4 > response.length ? HEADER_BYTES : nameEnd + 4;
  return headerAndQuestion(response, end, readU16(response, 2) | FLAG_TRUNCATED);
}

/** An upstream's answer to a query, as far as we need to know it. `bytes` is a copy. */
export interface DnsAnswer {
  readonly bytes: Uint8Array;
  readonly rcode: number;
  readonly isTruncated: boolean;
  readonly records: readonly RecordSpan[];
}

/** Where one record of the answer section stands. */
export interface RecordSpan {
  readonly type: number;
  readonly ttl: number;
  readonly ttlOffset: number;
  /** Behind the record's data. */
  readonly end: number;
}

/**
 * Reads what an upstream sent, gives it the id of the query, and checks that it answers that question.
 * Undefined otherwise. Never throws.
 */
export function decodeAnswer(message: Uint8Array, query: DnsQuery): DnsAnswer | undefined {
  if (message.length < query.questionEnd || (readU16(message, 2) & FLAG_RESPONSE) === 0) return undefined;
  if (readU16(message, 4) !== 1 || !sameQuestion(message, query)) return undefined;

  const records = walkRecords(message, query.questionEnd, readU16(message, 6));
  if (records === undefined) return undefined;

  const bytes = message.slice();
  writeU16(bytes, 0, query.id);
  const flags = readU16(bytes, 2);
  return { bytes, rcode: flags & RCODE_MASK, isTruncated: (flags & FLAG_TRUNCATED) !== 0, records };
}

/**
 * The answer section of `answer` as a response to `query`, which asks the same question: its id, its
 * spelling of the name, and every TTL reduced by `ageSeconds`.
 */
export function agedResponse(answer: DnsAnswer, query: DnsQuery, ageSeconds: number): Uint8Array {
  const end = answer.records.at(-1)?.end ?? query.questionEnd;
  const bytes = answer.bytes.slice(0, end);
  bytes.set(query.bytes.subarray(HEADER_BYTES, query.questionEnd), HEADER_BYTES);
  writeU16(bytes, 0, query.id);
  writeU16(bytes, 2, responseFlags(query, RCODE_NOERROR));
  writeU16(bytes, 8, 0);
  writeU16(bytes, 10, 0);
  for (const { ttl, ttlOffset } of answer.records) {
    const rest = Math.max(0, ttl - ageSeconds);
    writeU16(bytes, ttlOffset, Math.floor(rest / 0x10000));
    writeU16(bytes, ttlOffset + 2, rest % 0x10000);
  }
  return bytes;
}

function responseFlags(query: DnsQuery, rcode: number): number {
  return FLAG_RESPONSE | (readU16(query.bytes, 2) & (OPCODE_MASK | FLAG_RECURSION_DESIRED)) | rcode;
}

function headerAndQuestion(message: Uint8Array, end: number, flags: number): Uint8Array {
  const bytes = message.slice(0, end);
  writeU16(bytes, 2, flags);
  writeU16(bytes, 4, end > HEADER_BYTES ? 1 : 0);
  bytes.fill(0, 6, HEADER_BYTES);
  return bytes;
}

/** The question goes in byte for byte, so that an application which varies the case recognises it. */
function insertQuestion(encoded: Uint8Array, query: DnsQuery): Uint8Array {
  const questionBytes = query.questionEnd - HEADER_BYTES;
  const bytes = new Uint8Array(encoded.length + questionBytes);
  bytes.set(encoded.subarray(0, HEADER_BYTES));
  bytes.set(query.bytes.subarray(HEADER_BYTES, query.questionEnd), HEADER_BYTES);
  bytes.set(encoded.subarray(HEADER_BYTES), query.questionEnd);
  writeU16(bytes, 4, 1);
  return bytes;
}

/** Undefined if decoding to text loses anything: such a name must not be compared with patterns. */
function readName(message: Uint8Array, nameEnd: number): string | undefined {
  const question = message.slice(0, nameEnd + 4);
  writeU16(question, 4, 1);
  question.fill(0, 6, HEADER_BYTES);
  try {
    const buffer = Buffer.from(question.buffer, question.byteOffset, question.length);
    const name = dnsPacket.decode(buffer).questions?.[0]?.name;
    if (name === undefined) return undefined;

    const again = dnsPacket.encode({ type: "query", questions: [{ type: "A", name }] });
    const isFaithful = Buffer.compare(
      buffer.subarray(HEADER_BYTES, nameEnd),
      again.subarray(HEADER_BYTES, again.length - 4),
    );
    return isFaithful === 0 ? name : undefined;
  } catch {
    return undefined;
  }
}

/** Names compare without case; ASCII letters differ in one bit only, length octets below 64 never look like one. */
function sameQuestion(message: Uint8Array, query: DnsQuery): boolean {
  const nameEnd = query.questionEnd - 4;
  for (let i = HEADER_BYTES; i < query.questionEnd; i++) {
    const left = message[i] ?? 0;
    const right = query.bytes[i] ?? 0;
    if (left !== right && (i >= nameEnd || lowerByte(left) !== lowerByte(right))) return false;
  }
  return true;
}

function lowerByte(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
}

function walkRecords(message: Uint8Array, start: number, count: number): RecordSpan[] | undefined {
  const records: RecordSpan[] = [];
  let offset = start;
  for (let i = 0; i < count; i++) {
    const nameEnd = endOfName(message, offset);
    if (nameEnd === undefined || nameEnd + RECORD_FIXED_BYTES > message.length) return undefined;

    const end = nameEnd + RECORD_FIXED_BYTES + readU16(message, nameEnd + 8);
    if (end > message.length) return undefined;
    const ttl = readU16(message, nameEnd + 4) * 0x10000 + readU16(message, nameEnd + 6);
    // RFC 2181 §8: a TTL with the top bit set counts as 0.
    records.push({
      type: readU16(message, nameEnd),
      ttl: ttl > 0x7fffffff ? 0 : ttl,
      ttlOffset: nameEnd + 4,
      end,
    });
    offset = end;
  }
  return records;
}

/** Offset behind a name, which may end in a compression pointer. */
function endOfName(message: Uint8Array, start: number): number | undefined {
  let offset = start;
  for (;;) {
    const length = message[offset];
    if (length === undefined) return undefined;
    if (length === 0) return offset + 1;
    if ((length & 0xc0) === 0xc0) return offset + 2 <= message.length ? offset + 2 : undefined;
    if ((length & 0xc0) !== 0) return undefined;
    offset += 1 + length;
  }
}

/** Offset behind a name without pointers and of legal length, as a question's name must be. */
function endOfPlainName(message: Uint8Array, start: number): number | undefined {
  let offset = start;
  for (;;) {
    const length = message[offset];
    if (length === undefined || length > 63 || offset - start > 254) return undefined;
    offset += 1 + length;
    if (length === 0) return offset;
  }
}

function readU16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
}

function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}
