import dnsPacket from "dns-packet";
import { type IpAddress, parseIp } from "../core/address.ts";
import type { DnsForwarder } from "./dns-forwarder.ts";

const DNS_PORT = 53;

/**
 * Addresses of a host, asked from these resolvers around the tunnel: the system's own resolver may be the
 * tunnel's by now. The resolvers are asked in order until one knows an address; IPv4 addresses come first.
 */
export async function resolveAround(
  host: string,
  resolvers: readonly IpAddress[],
  forwarder: DnsForwarder,
): Promise<IpAddress[]> {
  const literal = parseIp(host.replace(/^\[(.*)\]$/, "$1"));
  if (literal !== undefined) return [literal];
  for (const resolver of resolvers) {
    const both = await Promise.all([ask("A"), ask("AAAA")]);
    if (both.flat().length > 0) return both.flat();

    async function ask(type: "A" | "AAAA"): Promise<IpAddress[]> {
      const message = dnsPacket.encode({
        type: "query",
        id: Math.floor(Math.random() * 0x10000),
        flags: dnsPacket.RECURSION_DESIRED,
        questions: [{ type, name: host }],
      });
      const result = await forwarder.forward({ ip: resolver, port: DNS_PORT }, message, "udp");
      return result.kind === "answer" ? addressesOf(result.message, type) : [];
    }
  }
  return [];
}

function addressesOf(message: Uint8Array, type: "A" | "AAAA"): IpAddress[] {
  try {
    const { answers = [] } = dnsPacket.decode(Buffer.from(message));
    return answers.flatMap((answer) =>
      answer.type === type && typeof answer.data === "string" ? (parseIp(answer.data) ?? []) : [],
    );
  } catch {
    return [];
  }
}
