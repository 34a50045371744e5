import { type IpAddress, isProxyAddress } from "../address.ts";
import { type AssignedIps, encodeDomainStatus } from "../packet/control-frame.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { ClientOnGateway } from "./client-on-gateway.ts";
import type { ResolveResult } from "./events.ts";
import { type Resolution, Resolutions } from "./resolutions.ts";

/** Gateway half of the DNS-resource NAT (tunnel-core §13.7): every announcement that is accepted gets one answer. */
export class DnsNat {
  readonly #core: PacketCore;
  readonly #resolutions = new Resolutions();

  constructor(core: PacketCore) {
    this.#core = core;
  }

  /** Answers at once, or waits for a resolution; returns that if the host has to be asked for it. */
  handleAssignedIps(
    client: ClientOnGateway,
    announcement: AssignedIps,
    now: Instant,
  ): Resolution | undefined {
    // With other addresses a client could redirect its grant to any network.
    if (!client.has(announcement.resource) || !announcement.proxyIps.every(isProxyAddress)) {
      this.#sendStatus(client, announcement, false, now);
      return undefined;
    }
    return this.#resolutions.announce(client, announcement, now);
  }

  handleResolved(id: number, result: ResolveResult, now: Instant): void {
    const resolution = this.#resolutions.take(id);
    if (resolution !== undefined) this.#answer(resolution, result, now);
  }

  handleTimeout(now: Instant): void {
    for (const resolution of this.#resolutions.takeOverdue(now)) {
      this.#answer(resolution, { kind: "timeout" }, now);
    }
  }

  /** The client is gone: nobody waits for answers. */
  forget(client: ClientOnGateway): void {
    this.#resolutions.forget(client);
  }

  deadline(): Instant | undefined {
    return this.#resolutions.deadline();
  }

  #answer({ client, announcements }: Resolution, result: ResolveResult, now: Instant): void {
    for (const announcement of announcements) {
      const isActive =
        result.kind === "addresses" && setUp(this.#core, client, announcement, result.addresses);
      this.#sendStatus(client, announcement, isActive, now);
    }
  }

  #sendStatus(
    client: ClientOnGateway,
    { resource, domain }: AssignedIps,
    active: boolean,
    now: Instant,
  ): void {
    const frame = encodeDomainStatus({ resource, domain, active });
    if (frame !== undefined) this.#core.seal(client.peer, frame, now);
  }
}

/**
 * Lets the announced proxy IPs stand for the addresses that the name resolved to (tunnel-core §13.7).
 * Existing NAT entries keep their target; everything new goes to the new addresses. False: inactive.
 */
function setUp(
  core: PacketCore,
  client: ClientOnGateway,
  { resource, domain, proxyIps }: AssignedIps,
  addresses: readonly IpAddress[],
): boolean {
  if (client.translations.conflict(domain, proxyIps)) {
    core.natReset(client.peer);
    client.forgetTranslations();
    core.invalidatePeer(client.peer);
  }
  if (!client.claims(resource, domain)) return false;

  if (client.translate(resource, domain, proxyIps, addresses)) core.invalidatePeer(client.peer);
  return true;
}
