import type { IpAddress } from "../core/address.ts";
import { RCODE_NOERROR, RCODE_NXDOMAIN } from "../core/dns/message.ts";
import type { DnsForwarder, DnsTransport } from "./dns-forwarder.ts";

// tunnel-core §2.4
const ROUND_MS = 60_000;
const PROBE_TIMEOUT_MS = 2000;
const DNS_PORT = 53;
/** The root's nameservers (header, empty name, type NS, class IN): a question that tells nobody anything. */
const PROBE = Uint8Array.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);
const MAX_NAMESERVERS = 8;

/**
 * Which of the host's nameservers answers fastest, by the latest round only (tunnel-core §13.9, Q19). A
 * nameserver that knows just the site's own names counts too, so "no such name" is as good as an answer.
 * If nobody answered the first in the host's list is as good as any.
 */
export class NameserverRanking {
  readonly #forwarder: DnsForwarder;
  readonly #nameservers: () => readonly IpAddress[];
  readonly #fastest: Record<DnsTransport, IpAddress | undefined> = { udp: undefined, tcp: undefined };
  #timer: NodeJS.Timeout | undefined;

  constructor(forwarder: DnsForwarder, nameservers: () => readonly IpAddress[]) {
    this.#forwarder = forwarder;
    this.#nameservers = nameservers;
  }

  start(): void {
    void this.measure();
    this.#timer = setInterval(() => void this.measure(), ROUND_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Undefined: the host has none. */
  fastest(transport: DnsTransport): IpAddress | undefined {
    return this.#fastest[transport] ?? this.#nameservers()[0];
  }

  /** One round. Never rejects. */
  async measure(): Promise<void> {
    const nameservers = this.#nameservers().slice(0, MAX_NAMESERVERS);
    await Promise.all((["udp", "tcp"] as const).map((transport) => this.#measureBy(transport, nameservers)));
  }

  /** All are asked at once, so the first to answer is the fastest. */
  async #measureBy(transport: DnsTransport, nameservers: readonly IpAddress[]): Promise<void> {
    const probes = nameservers.map(async (nameserver) => {
      const probe = PROBE.slice();
      probe[0] = Math.floor(Math.random() * 256);
      probe[1] = Math.floor(Math.random() * 256);
      const server = { ip: nameserver, port: DNS_PORT };
      const result = await this.#forwarder.forward(server, probe, transport, PROBE_TIMEOUT_MS);
      const rcode = result.kind === "answer" ? (result.message[3] ?? 0) & 0x0f : undefined;
      if (rcode !== RCODE_NOERROR && rcode !== RCODE_NXDOMAIN) throw new Error("no use");
      return nameserver;
    });
    this.#fastest[transport] = await Promise.any(probes).catch(() => undefined);
  }
}
