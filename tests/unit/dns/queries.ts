import * as dnsPacket from "dns-packet";
import { type DnsQuery, decodeQuery } from "../../../host/core/dns/message.ts";

/** Builds queries and answers with the codec alone, independently of the code under test. */
export function queryBytes(
  name: string,
  type: string,
  id = 4242,
  flags = dnsPacket.RECURSION_DESIRED,
): Uint8Array {
  return Uint8Array.from(
    dnsPacket.encode({ type: "query", id, flags, questions: [{ name, type: type as dnsPacket.RecordType }] }),
  );
}

export function query(name: string, type: string, id = 4242): DnsQuery {
  const decoded = decodeQuery(queryBytes(name, type, id));
  if (decoded === undefined) throw new Error(`query does not decode: ${name} ${type}`);
  return decoded;
}

export interface Response {
  readonly id: number;
  readonly rcode: string;
  readonly flags: number;
  readonly name: string | undefined;
  readonly data: readonly unknown[];
  readonly ttls: readonly (number | undefined)[];
  readonly counts: readonly number[];
}

export function decodeResponse(bytes: Uint8Array): Response {
  const packet = dnsPacket.decode(Buffer.from(bytes)) as dnsPacket.DecodedPacket & { rcode: string };
  const answers = (packet.answers ?? []) as { data?: unknown; ttl?: number }[];
  return {
    id: packet.id ?? 0,
    rcode: packet.rcode,
    flags: ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0),
    name: packet.questions?.[0]?.name,
    data: answers.map((answer) => answer.data),
    ttls: answers.map((answer) => answer.ttl),
    counts: [4, 6, 8, 10].map((offset) => ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0)),
  };
}

/** What an upstream says to `bytes`: addresses with one TTL. */
export function upstreamAnswer(
  bytes: Uint8Array,
  { addresses, ttl, flags = 0 }: { addresses: readonly string[]; ttl: number; flags?: number },
): Uint8Array {
  const asked = dnsPacket.decode(Buffer.from(bytes));
  const question = asked.questions?.[0];
  if (question === undefined) throw new Error("no question");
  return Uint8Array.from(
    dnsPacket.encode({
      type: "response",
      id: asked.id,
      flags: dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE | flags,
      questions: [question],
      answers: addresses.map((data) => ({ type: "A", name: question.name, ttl, data })),
    }),
  );
}
