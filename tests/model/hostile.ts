// Peers and networks that mean harm. What they send must reach nobody; the referee sees whatever does.
import { type IpAddress, ip, isIpv4 } from "../../host/core/address.ts";
import type { ResourceId } from "../../host/core/id.ts";
import { encodeAssignedIps } from "../../host/core/packet/control-frame.ts";
import { SeededRandom } from "../sim/random.ts";
import { icmpError, ip as ipPacket } from "../unit/packet/packets.ts";
import { build } from "./packet.ts";
import type { Question } from "./policy.ts";
import { fail, type Referee } from "./referee.ts";
import type { TransitionOf } from "./transitions.ts";
import { DESTINATIONS, EXIT_SITE, GATEWAY_SITES, NAMES, PORTS, slotId } from "./universe.ts";

const ATTACKER = { ip: ip("203.0.113.250"), port: 666 };
const STOLEN_PROXIES = ["100.111.9.1", "100.111.9.2", "100.111.9.3", "100.111.9.4"].map(ip);

/** Noise, old datagrams and damaged ones, from an address that is nobody's. */
export function hostileDatagram(
  referee: Referee,
  { form, host, seed }: TransitionOf<"hostile-datagram">,
): void {
  const hosts = [...referee.world.clients, ...referee.world.gateways];
  const target = hosts[host % hosts.length];
  const [address] = target?.place.addresses ?? [];
  if (target === undefined || address === undefined) return;
  const random = new SeededRandom(seed);
  const { overheard } = target.endpoint;
  const old = overheard[Math.floor(random.uniform() * overheard.length)]?.payload ?? random.bytes(60);
  const payload = [
    () => random.bytes(Math.floor(random.uniform() * 1400)),
    () => old,
    () => old.map((byte) => (random.uniform() < 0.05 ? byte ^ 0x40 : byte)),
    () => old.subarray(0, Math.floor(random.uniform() * old.length)),
    () => Uint8Array.from([1 + (seed % 4), 0, 0, 0, ...random.bytes([144, 88, 60, 44][seed % 4] ?? 28)]),
    () => Uint8Array.from([...old, ...random.bytes(20)]),
  ][form]?.();
  if (payload === undefined) return;
  const local = { ip: address, port: target.place.port };
  target.endpoint.machine?.handleDatagram({ local, from: ATTACKER, payload });
  referee.world.network.settle();
}

/** A client that asks its own policy nothing. */
export function hostileClient(referee: Referee, t: TransitionOf<"hostile-client">): void {
  const { client, gateway, form } = t;
  const destination = DESTINATIONS[t.destination] ?? ip("10.1.0.5");
  const question: Question = {
    client,
    destination,
    name: undefined,
    protocol: "udp",
    port: PORTS[t.port] ?? 80,
  };
  const shape = { protocol: "udp", sourcePort: 50_000 + t.port, size: 12 } as const;
  switch (form) {
    case 0:
    case 7:
    case 8:
      // Through every gateway that it is connected to: one of them may serve the resource, to whom it is granted.
      for (const any of referee.world.gateways.keys()) {
        for (const port of PORTS) referee.sendUnasked(any, { ...question, port }, shape);
      }
      return;
    case 1: {
      const probe = referee.sendUnasked(
        gateway,
        question,
        shape,
        isIpv4(destination) ? ip("100.64.0.9") : ip("fd99::9"),
      );
      if (probe !== undefined) forbid(referee, probe);
      return;
    }
    case 2:
      announce(referee, t, "evil.test", STOLEN_PROXIES);
      toProxy(referee, t, STOLEN_PROXIES[0] ?? destination);
      return;
    case 3:
      announce(
        referee,
        t,
        NAMES[t.name] ?? NAMES[0],
        ["10.1.0.5", "10.1.2.3", "10.77.0.1", "10.2.9.9"].map(ip),
      );
      referee.sendUnasked(gateway, question, shape);
      return;
    case 4: {
      const own = referee.addressOf(client, destination);
      if (own === undefined || !isIpv4(own)) return;
      const failed = build({ ...shape, source: destination, destination: own, destinationPort: 1, tag: 0 });
      referee.sealUnasked(
        client,
        gateway,
        icmpError({ from: own, to: destination }, { type: 3, code: 3 }, failed),
      );
      return;
    }
    case 5: {
      const other = referee.world.clients[1 - client]?.config?.ipv4;
      if (other !== undefined) toProxy(referee, t, other);
      return;
    }
    default:
      referee.sealUnasked(client, gateway, new SeededRandom(t.port * 31 + t.destination).bytes(64));
  }
}

/** A gateway that sends what nobody asked for, and control frames that mean nothing. */
export function hostileGateway(
  referee: Referee,
  { client, gateway, form, seed }: TransitionOf<"hostile-gateway">,
): void {
  const host = referee.world.gateways[gateway];
  const target = referee.world.clients[client];
  const peer = target === undefined ? undefined : host?.connections?.peerOfKey(target.publicKey);
  const own = target?.config?.ipv4;
  if (peer === undefined || own === undefined) return;
  // Through the internet resource its gateway may speak for any address.
  if (form === 0 && GATEWAY_SITES[gateway] === EXIT_SITE) return;
  const random = new SeededRandom(seed);
  const source = ip("192.0.2.200");
  const packet = [
    () =>
      build({
        protocol: "udp",
        source,
        destination: own,
        sourcePort: 53,
        destinationPort: 9,
        tag: 0,
        size: 8,
      }),
    () => ipPacket({ from: ip("::"), to: ip("::") }, 255, [...random.bytes(60)]),
    () => random.bytes(80),
  ][form]?.();
  if (packet !== undefined) host?.machine?.sealUnasked(peer, packet);
  referee.world.network.settle();
}

function announce(
  referee: Referee,
  { client, gateway, name }: TransitionOf<"hostile-client">,
  domain: string,
  proxyIps: readonly IpAddress[],
): void {
  const resource: ResourceId = slotId(3 + (name % 3));
  const frame = encodeAssignedIps({ resource, domain, proxyIps });
  if (frame !== undefined) referee.sealUnasked(client, gateway, frame);
  referee.world.run(300);
}

function toProxy(
  referee: Referee,
  { client, gateway, port }: TransitionOf<"hostile-client">,
  destination: IpAddress,
): void {
  const question: Question = {
    client,
    destination,
    name: undefined,
    protocol: "udp",
    port: PORTS[port] ?? 80,
  };
  const probe = referee.sendUnasked(gateway, question, { protocol: "udp", sourcePort: 51_000, size: 4 });
  if (probe !== undefined) forbid(referee, probe);
}

function forbid(referee: Referee, probe: { arrivals: number }): void {
  referee.world.run(500);
  if (probe.arrivals > 0) fail("a manipulated client's packet left a gateway");
}
