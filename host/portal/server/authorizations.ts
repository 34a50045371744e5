import { cidrText } from "../../core/address.ts";
import type { ClientId, GatewayId, ResourceId } from "../../core/id.ts";
import type { FailReason } from "../../core/messages.ts";
import type { Resource } from "../../core/policy/resource.ts";
import { after, type Instant, type UnixTime } from "../../core/time.ts";
import { toBase64Url } from "../base64.ts";
import type { ClientPush, ClientStatement } from "../client-messages.ts";
import { parseKey } from "../fields.ts";
import type { GatewayPush, Subject } from "../gateway-messages.ts";
import { iceCredentials, presharedKey, randomId } from "./derivations.ts";
import { type Attribution, ingestToken } from "./ingest-token.ts";
import { type Actor, grantedPolicies, type Policy, siteOf } from "./model.ts";
import type { ClientDevice, ClientPeer, GatewayDevice, GatewayPeer } from "./peers.ts";
import { selectGateway } from "./selection.ts";
import { isExpired, type TokenRecord } from "./tokens.ts";
import { isTokenValid, type World } from "./world.ts";

/** A client may reach a resource through a gateway until the grant expires (portal §13). */
export interface Grant {
  readonly id: string;
  readonly client: ClientDevice;
  readonly gateway: GatewayDevice;
  readonly policy: Policy;
  readonly token: TokenRecord;
  readonly authorizedAt: UnixTime;
  readonly expiresAt: UnixTime;
  resource: Resource;
}

/** A grant that its gateway has not acknowledged yet. */
interface Pending {
  readonly client: ClientPeer;
  readonly gateway: GatewayPeer;
  readonly resource: ResourceId;
  readonly deadline: Instant;
  readonly message: ClientPush;
}

type Request = Extract<ClientStatement, { kind: "request-authorization" }>;

// portal §9.1, §22.6
const ACKNOWLEDGE_TIMEOUT_MS = 15_000;
const MAX_PENDING_PER_CLIENT = 256;

/**
 * Grants, and the requests that lead to them (portal §9.1).
 *
 * A grant is recorded before its gateway hears of it, so a gateway never serves what the portal does
 * not know (portal §22.1). At most one exists per client, gateway and resource: the newest. Numbers are
 * bounded by the resources in the configuration.
 */
export class Authorizations {
  readonly #world: World;
  readonly #ingestKey: Uint8Array;
  /** By client, then by gateway and resource. */
  readonly #grants = new Map<ClientId, Map<string, Grant>>();
  /** By ref. All wait equally long, so the first entry is the next to time out. */
  readonly #pending = new Map<string, Pending>();

  constructor(world: World, ingestKey: Uint8Array) {
    this.#world = world;
    this.#ingestKey = ingestKey;
  }

  get count(): number {
    let count = 0;
    for (const grants of this.#grants.values()) count += grants.size;
    return count;
  }

  get nextTimeout(): Instant | undefined {
    const [first] = this.#pending.values();
    return first?.deadline;
  }

  request(peer: ClientPeer, request: Request, now: Instant, unixTime: UnixTime): void {
    const { configuration, gateways, random } = this.#world;
    const resource = configuration.resources.get(request.resource);
    if (resource === undefined || !peer.listed.has(resource.id)) {
      this.#fail(peer, request.resource, "not_found");
      return;
    }
    const policy = grantedPolicies(configuration, peer.device.actorId).get(resource.id);
    if (policy === undefined) {
      this.#fail(peer, resource.id, "forbidden");
      return;
    }
    const repeated = this.#takePending(peer, resource.id);
    const preferred = repeated === undefined ? request.connectedGateways : [repeated.gateway.device.id];
    const chosen = selectGateway(gateways.values(), resource, { version: peer.version, preferred }, random);
    if (typeof chosen === "string") {
      this.#fail(peer, resource.id, chosen);
      return;
    }
    this.#authorize(peer, chosen, { resource, policy }, now, unixTime);
  }

  /** False: nobody waits for that acknowledgement, or it is not that gateway's to give. */
  acknowledge(gateway: GatewayPeer, ref: string): boolean {
    const pending = this.#pending.get(ref);
    if (pending === undefined || pending.gateway !== gateway) return false;
    this.#pending.delete(ref);
    this.#world.outbox.toClient(pending.client, pending.message);
    return true;
  }

  /** Requests of a client that went away; those to a gateway that went away wait for their time to end. */
  forgetRequests(peer: ClientPeer): void {
    for (const [ref, pending] of this.#pending) if (pending.client === peer) this.#pending.delete(ref);
  }

  isGranted(client: ClientId, gateway: GatewayId, unixTime: UnixTime): boolean {
    for (const grant of this.#grants.get(client)?.values() ?? []) {
      if (grant.gateway.id === gateway && grant.expiresAt > unixTime) return true;
    }
    return false;
  }

  liveGrants(gateway: GatewayId, unixTime: UnixTime): Grant[] {
    const live: Grant[] = [];
    for (const grants of this.#grants.values()) {
      for (const grant of grants.values()) {
        if (grant.gateway.id === gateway && grant.expiresAt > unixTime) live.push(grant);
      }
    }
    return live;
  }

  /**
   * Withdraws what the configuration or the tokens no longer allow, and tells the gateways (portal
   * §13.6). Grants that stay follow their resource's name and filters.
   */
  revalidate(unixTime: UnixTime): void {
    for (const grants of this.#grants.values()) {
      for (const [key, grant] of grants) {
        const resource = this.#world.configuration.resources.get(grant.resource.id);
        if (resource !== undefined && this.#isAllowed(grant, resource, unixTime)) grant.resource = resource;
        else this.#revoke(grants, key, grant);
      }
    }
    this.#removeEmpty();
  }

  handleTimeout(now: Instant, unixTime: UnixTime): void {
    for (const [ref, pending] of this.#pending) {
      if (now < pending.deadline) break;
      this.#pending.delete(ref);
      this.#fail(pending.client, pending.resource, "offline");
    }
    this.#expire(unixTime);
  }

  /** A token's end is an event of its own (portal §25.30); other grants end silently, gateways know when. */
  #expire(unixTime: UnixTime): void {
    for (const grants of this.#grants.values()) {
      for (const [key, grant] of grants) {
        if (isExpired(grant.token, unixTime)) this.#revoke(grants, key, grant);
        else if (grant.expiresAt <= unixTime) grants.delete(key);
      }
    }
    this.#removeEmpty();
  }

  #isAllowed(grant: Grant, resource: Resource, unixTime: UnixTime): boolean {
    const { configuration } = this.#world;
    if (!isTokenValid(this.#world, grant.token, unixTime)) return false;
    if (!configuration.sites.has(grant.gateway.siteId)) return false;
    if (routeOf(resource) !== routeOf(grant.resource)) return false;
    const policy = configuration.policies.find(({ id }) => id === grant.policy.id);
    return policy?.isEnabled === true && policy.group.members.has(grant.client.actorId);
  }

  #revoke(grants: Map<string, Grant>, key: string, { client, gateway, resource }: Grant): void {
    grants.delete(key);
    const peer = this.#world.gateways.get(gateway.id);
    if (peer === undefined) return;
    this.#world.outbox.toGateway(peer, { kind: "reject-access", client: client.id, resource: resource.id });
  }

  #authorize(
    peer: ClientPeer,
    gateway: GatewayPeer,
    { resource, policy }: { resource: Resource; policy: Policy },
    now: Instant,
    unixTime: UnixTime,
  ): void {
    const { outbox, random } = this.#world;
    const grant: Grant = {
      id: randomId(random),
      client: peer.device,
      gateway: gateway.device,
      policy,
      resource,
      token: peer.token,
      authorizedAt: unixTime,
      expiresAt: peer.token.expiresAt,
    };
    this.#record(grant);

    const ref = toBase64Url(random.bytes(16));
    const messages = this.#announcements(grant, peer, ref);
    this.#makeRoom(peer);
    this.#pending.set(ref, {
      client: peer,
      gateway,
      resource: resource.id,
      deadline: after(now, ACKNOWLEDGE_TIMEOUT_MS),
      message: messages.toClient,
    });
    outbox.note("debug", "asked a gateway to admit a client", {
      client: peer.device.id,
      gateway: gateway.device.id,
      resource: resource.id,
    });
    outbox.toGateway(gateway, messages.toGateway);
  }

  /** Both ends get the same keys and credentials, whose derivation makes repeated requests harmless. */
  #announcements(
    grant: Grant,
    peer: ClientPeer,
    ref: string,
  ): { toClient: ClientPush; toGateway: GatewayPush } {
    const { client, gateway, resource } = grant;
    const shared = {
      presharedKey: presharedKey(client, gateway),
      ice: iceCredentials(client, gateway),
    };
    const { actors } = this.#world.configuration;
    const actor = actors.get(client.actorId);
    if (actor === undefined) throw new Error("a connected client has an actor");
    const mint = (role: "initiator" | "responder") =>
      ingestToken(
        attribution(grant, this.#world.configuration.account.id, actor, peer, role),
        this.#ingestKey,
      );
    return {
      toClient: {
        kind: "authorization-created",
        resource: resource.id,
        gateway: gateway.id,
        site: siteOf(resource).id,
        gatewayPublicKey: keyBytes(gateway.publicKey),
        gatewayIpv4: gateway.ipv4,
        gatewayIpv6: gateway.ipv6,
        presharedKey: shared.presharedKey,
        clientIce: shared.ice.initiator,
        gatewayIce: shared.ice.receiver,
        ingestToken: mint("initiator"),
      },
      toGateway: {
        kind: "create-authorization",
        ref,
        resource,
        client: {
          id: client.id,
          publicKey: keyBytes(client.publicKey),
          presharedKey: shared.presharedKey,
          ipv4: client.ipv4,
          ipv6: client.ipv6,
        },
        clientIce: shared.ice.initiator,
        gatewayIce: shared.ice.receiver,
        expiresAt: grant.expiresAt,
        details: {
          version: peer.versionText,
          osName: peer.userAgent.osName,
          osVersion: peer.userAgent.osVersion,
          deviceSerial: peer.hints.deviceSerial,
          deviceUuid: peer.hints.deviceUuid,
          identifierForVendor: peer.hints.identifierForVendor,
          firebaseInstallationId: peer.hints.firebaseInstallationId,
        },
        subject: subjectOf(actor, peer),
        ingestToken: mint("responder"),
      },
    };
  }

  #record(grant: Grant): void {
    const grants = this.#grants.get(grant.client.id) ?? new Map<string, Grant>();
    grants.set(`${grant.gateway.id}/${grant.resource.id}`, grant);
    this.#grants.set(grant.client.id, grants);
  }

  #takePending(peer: ClientPeer, resource: ResourceId): Pending | undefined {
    for (const [ref, pending] of this.#pending) {
      if (pending.client !== peer || pending.resource !== resource) continue;
      this.#pending.delete(ref);
      return pending;
    }
    return undefined;
  }

  #makeRoom(peer: ClientPeer): void {
    const own = [...this.#pending].filter(([, pending]) => pending.client === peer);
    const [oldest] = own;
    if (own.length < MAX_PENDING_PER_CLIENT || oldest === undefined) return;
    this.#pending.delete(oldest[0]);
    this.#fail(peer, oldest[1].resource, "offline");
  }

  #fail(peer: ClientPeer, resource: ResourceId, reason: FailReason): void {
    this.#world.outbox.note("debug", "refused an authorization", {
      client: peer.device.id,
      resource,
      reason,
    });
    this.#world.outbox.toClient(peer, {
      kind: "authorization-failed",
      resource,
      reason,
      violatedProperties: [],
    });
  }

  #removeEmpty(): void {
    for (const [client, grants] of this.#grants) if (grants.size === 0) this.#grants.delete(client);
  }
}

/** What of a resource a live grant cannot follow: a change means a new request (portal §13.6). */
export function routeOf(resource: Resource): string {
  const site = siteOf(resource).id;
  switch (resource.kind) {
    case "dns":
      return `dns ${resource.address} ${resource.ipStack} ${site}`;
    case "cidr":
      return `cidr ${cidrText(resource.address)} ${site}`;
    case "internet":
      return `internet ${site}`;
  }
}

function attribution(
  grant: Grant,
  accountId: string,
  actor: Actor,
  peer: ClientPeer,
  role: "initiator" | "responder",
): Attribution {
  const { resource } = grant;
  return {
    accountId,
    issuedAt: grant.authorizedAt,
    role,
    initiatorDeviceId: grant.client.id,
    responderDeviceId: grant.gateway.id,
    authorizationId: grant.id,
    policyId: grant.policy.id,
    resourceId: resource.id,
    resourceName: resource.name,
    resourceAddress: addressText(resource),
    actorId: actor.id,
    actorName: actor.name,
    actorEmail: actor.email,
    clientVersion: peer.versionText,
    authorizedAt: grant.authorizedAt,
    expiresAt: grant.expiresAt,
  };
}

function addressText(resource: Resource): string | undefined {
  if (resource.kind === "internet") return undefined;
  return resource.kind === "cidr" ? cidrText(resource.address) : resource.address;
}

const ACTOR_TYPES: Readonly<Record<Actor["kind"], Subject["actorType"]>> = {
  user: "account_user",
  admin: "account_admin_user",
  service: "service_account",
};

function subjectOf(actor: Actor, peer: ClientPeer): Subject {
  return {
    actorId: actor.id,
    actorName: actor.name,
    actorEmail: actor.email,
    actorType: ACTOR_TYPES[actor.kind],
    ip: peer.address,
    userAgent: peer.userAgent.text,
  };
}

function keyBytes(text: string): Uint8Array {
  const bytes = parseKey(text);
  if (bytes === undefined) throw new Error("a device has a key that was checked");
  return bytes;
}
