// Random TCP and UDP traffic for the offload tests.
import { TCP, UDP } from "./twins/checksum.ts";
import { GSO_TCPV4, GSO_TCPV6, GSO_UDP, PLAIN, tcpPacket, type Virtio } from "./twins/offload.ts";
import { extension, ipv4, ipv6, packet } from "./twins/packets.ts";
import type { Seeded } from "./twins/seeded.ts";

export interface Endpoints {
  readonly isIpv4: boolean;
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export function endpoints(
  random: Seeded,
  isIpv4 = random.chance(0.5),
  protocol = random.pick([TCP, UDP]),
): Endpoints {
  return {
    isIpv4,
    protocol,
    source: isIpv4 ? ipv4(`100.64.0.${1 + random.below(250)}`) : ipv6(0xfd00, 1 + random.below(250)),
    destination: isIpv4 ? ipv4(`10.1.0.${1 + random.below(250)}`) : ipv6(0xfd77, 1 + random.below(250)),
    sourcePort: 1024 + random.below(60000),
    destinationPort: 1 + random.below(1000),
  };
}

/** A super-packet, or a packet of any size, with random header fields; extra headers if `mayHaveOptions`. */
export function bigPacket(
  random: Seeded,
  ends: Endpoints,
  payloadBytes: number,
  mayHaveOptions = true,
): Uint8Array {
  const hasOptions = mayHaveOptions && random.chance(0.4);
  const ip = {
    source: ends.source,
    destination: ends.destination,
    sourcePort: ends.sourcePort,
    destinationPort: ends.destinationPort,
    trafficClass: random.below(256),
    payload: random.bytes(payloadBytes),
    ...(hasOptions && ends.isIpv4 ? { options: random.bytes(4 * (1 + random.below(10))) } : {}),
    ...(hasOptions && !ends.isIpv4
      ? { options: extension(ends.protocol, 8 * (1 + random.below(5))), firstHeader: 60 }
      : {}),
  };
  if (ends.protocol === UDP) return packet({ ...ip, protocol: UDP });
  return tcpPacket(
    { ...ip, tcpFlags: 16 | random.pick([0, 1, 8, 9, 0x80, 0x40, 4]) },
    {
      sequence: random.u32(),
      acknowledgement: random.u32(),
      window: random.below(65536),
      tcpOptions: random.bytes(4 * random.below(11)),
      identification: random.below(65536),
    },
  );
}

export function superVirtio(ends: Endpoints, gsoSize: number, random: Seeded): Virtio {
  const gsoType = ends.protocol === UDP ? GSO_UDP : ends.isIpv4 ? GSO_TCPV4 : GSO_TCPV6;
  return { ...PLAIN, flags: 1, gsoType, gsoSize, headerLength: random.below(65536) };
}

/** Consecutive TCP segments or UDP datagrams of one flow. */
export class Conversation {
  readonly #ends: Endpoints;
  readonly #options: Uint8Array;
  readonly #size: number;
  #sequence: number;
  #identification = 0;

  constructor(ends: Endpoints, random: Seeded, size = 1 + random.below(600)) {
    this.#ends = ends;
    this.#size = size;
    this.#options = random.bytes(4 * random.pick([0, 0, 3, 10]));
    this.#sequence = random.pick([random.u32(), 0xffffff00]);
  }

  /** Mostly the next full segment; sometimes one that ends or breaks a run. */
  next(random: Seeded, surprise = 0.15): Uint8Array {
    const isSurprise = random.chance(surprise);
    const payload = random.bytes(isSurprise ? random.below(this.#size + 200) : this.#size);
    const parts = { ...this.#ends, payload, trafficClass: random.chance(0.03) ? 3 : 0 };
    if (this.#ends.protocol === UDP) return packet(parts);

    const tcp = tcpPacket(
      { ...parts, tcpFlags: random.chance(surprise / 2) ? random.pick([24, 17, 2, 20, 48, 0xd0]) : 16 },
      {
        sequence: this.#sequence,
        acknowledgement: random.chance(surprise / 3) ? 8888 : 7777,
        window: random.chance(surprise / 3) ? 400 : 500,
        tcpOptions: random.chance(surprise / 3) ? random.bytes(this.#options.length) : this.#options,
        identification: this.#identification++ & 0xffff,
      },
    );
    // A lost segment now and then.
    const lost = random.chance(surprise / 3) ? this.#size : 0;
    this.#sequence = (this.#sequence + payload.length + lost) >>> 0;
    return tcp;
  }
}
