import type { GatewayId } from "../../core/id.ts";
import type { Instant, UnixTime } from "../../core/time.ts";
import type { PortalRole } from "../wire.ts";
import { isClientKind, siteSpelling } from "./component.ts";
import type { DeviceRegistry } from "./devices.ts";
import {
  type DeviceParameters,
  type Hello,
  parseDevice,
  parseRelay,
  parseTarget,
  type Refusal,
  type Route,
  refusal,
  tokenText,
} from "./hello.ts";
import type { ClientPeer, ConnectionId, GatewayPeer, Peer, RelayPeer } from "./peers.ts";
import { AttemptLimiter } from "./rate-limit.ts";
import { findToken, parseToken, type TokenRecord } from "./tokens.ts";
import { actorIdOf, hasOwner, siteIdOf, type World } from "./world.ts";

/** portal §22.6: messages at once, and per second. */
export const MESSAGE_BURST = 400;

// portal §22.4
const MAX_EVICTIONS = 3;
const EVICTION_WINDOW_MS = 60_000;
const FIRST_WINS_MS = 300_000;

export type Admission =
  | { readonly kind: "admitted"; readonly peer: Peer; readonly evicted: Eviction | undefined }
  | { readonly kind: "refused"; readonly refusal: Refusal };

/** The older connection of the same device. `sign-out`: another token took its place (portal §22.4). */
export interface Eviction {
  readonly peer: ClientPeer | GatewayPeer;
  readonly reason: "reconnected" | "sign-out";
}

type Fields = Pick<
  Peer,
  | "connection"
  | "generation"
  | "openedAt"
  | "address"
  | "userAgent"
  | "lastSeenAt"
  | "isJoined"
  | "allowance"
  | "allowanceAt"
>;

/** Decides about hellos (portal §22.3): checks in the order of portal §3.1, then device and replacement. */
export class Admissions {
  readonly #world: World;
  readonly #devices: DeviceRegistry;
  readonly #limiter = new AttemptLimiter();
  readonly #evictions = new Map<GatewayId, { at: Instant[]; firstWinsUntil: Instant }>();
  #nextConnection: ConnectionId = 1;
  #isDraining = false;

  constructor(world: World, devices: DeviceRegistry) {
    this.#world = world;
    this.#devices = devices;
  }

  /** From now on everybody is sent away. */
  drain(): void {
    this.#isDraining = true;
  }

  decide(hello: Hello, now: Instant, unixTime: UnixTime): Admission {
    const target = parseTarget(hello.target);
    if (target === undefined) return refused(refusal(404, "not_found", "no such socket"));
    if (this.#isDraining) return refused(refusal(503, "draining", "the portal is shutting down", 1));
    if (!this.#limiter.admitsAddress(hello.address, now)) return refused(TOO_MANY);

    const { route, query } = target;
    const text = tokenText(hello, query);
    if (text === undefined) return refused(refusal(401, "missing_token", "Missing token"));
    if (!this.#limiter.admitsToken(hello.address, text, now)) return refused(TOO_MANY);

    const token = findToken(this.#world.tokens, parseToken(text), route.role, unixTime);
    if (token === undefined || !hasOwner(this.#world.configuration, token)) {
      return refused(refusal(401, "invalid_token", "Invalid token"));
    }
    return this.#admit(token, query, { hello, route, now });
  }

  handleTimeout(now: Instant): void {
    this.#limiter.handleTimeout(now);
    for (const [id, { at, firstWinsUntil }] of this.#evictions) {
      const isOver = now >= (at.at(-1) ?? now) + EVICTION_WINDOW_MS && now >= firstWinsUntil;
      if (isOver) this.#evictions.delete(id);
    }
  }

  #admit(
    token: TokenRecord,
    query: URLSearchParams,
    from: { hello: Hello; route: Route; now: Instant },
  ): Admission {
    if (token.kind === "relay") {
      const parameters = parseRelay(query, from.hello);
      if (isFaults(parameters)) return refused(invalid(parameters));
      return admitted(this.#relay(token, parameters, from));
    }
    const parameters = parseDevice(query, from.hello, token.kind);
    if (isFaults(parameters)) return refused(invalid(parameters));
    return token.kind === "client"
      ? this.#client(token, parameters, from)
      : this.#gateway(token, parameters, from);
  }

  #relay(
    token: RelayPeer["token"],
    { v4, v6, userAgent }: Pick<RelayPeer, "v4" | "v6" | "userAgent">,
    from: { hello: Hello; route: Route; now: Instant },
  ): RelayPeer {
    return { role: "relay", token, v4, v6, id: undefined, stampSecret: "", ...this.#fields(from, userAgent) };
  }

  #client(
    token: ClientPeer["token"],
    parameters: DeviceParameters,
    from: { hello: Hello; route: Route; now: Instant },
  ): Admission {
    const { component } = parameters.userAgent;
    if (component === undefined || !isClientKind(component.kind)) throw new Error("parameters were checked");

    const { account } = this.#world.configuration;
    const owner = actorIdOf(this.#world.configuration, token.actor);
    const device = this.#devices.client(account.id, {
      ...parameters,
      owner,
      name: nameOf(parameters, "client"),
    });
    if (device === undefined) return refused(invalid(["external_id is one device too many for this actor"]));

    device.publicKey = parameters.publicKey;
    const old = this.#world.clients.get(device.id);
    const peer: ClientPeer = {
      role: "client",
      token,
      device,
      kind: component.kind,
      version: component.version,
      versionText: component.versionText,
      hints: parameters.hints,
      dialect: {
        generation: from.route.generation,
        sites: siteSpelling(component.kind, component.version, from.route.generation),
      },
      listed: new Map(),
      interfaceText: "",
      relays: [],
      ...this.#fields(from, parameters.userAgent),
    };
    return admitted(
      peer,
      old && { peer: old, reason: old.token.id === token.id ? "reconnected" : "sign-out" },
    );
  }

  #gateway(
    token: GatewayPeer["token"],
    parameters: DeviceParameters,
    from: { hello: Hello; route: Route; now: Instant },
  ): Admission {
    const { account } = this.#world.configuration;
    const owner = siteIdOf(this.#world.configuration, token.site);
    const device = this.#devices.gateway(account.id, {
      ...parameters,
      owner,
      name: nameOf(parameters, "gateway"),
    });
    if (device === undefined) return refused(invalid(["external_id is one gateway too many for this site"]));

    const old = this.#world.gateways.get(device.id);
    if (old !== undefined && !this.#mayEvict(old, token, from.now)) {
      return refused(
        from.route.generation === 2 ? ALREADY_CONNECTED : { ...ALREADY_CONNECTED, ...V1_TEMPORARY },
      );
    }
    device.publicKey = parameters.publicKey;
    const { component } = parameters.userAgent;
    const peer: GatewayPeer = {
      role: "gateway",
      token,
      device,
      version: component?.kind === "gateway" ? component.version : undefined,
      relays: [],
      ...this.#fields(from, parameters.userAgent),
    };
    return admitted(peer, old && { peer: old, reason: "reconnected" });
  }

  /**
   * The newest connection of a gateway wins if it brings the same token. Two machines with one identity
   * would evict each other for ever, so after three times within a minute the first wins for a while.
   */
  #mayEvict(old: GatewayPeer, token: GatewayPeer["token"], now: Instant): boolean {
    if (old.token.id !== token.id) return false;
    const { id } = old.device;
    const history = this.#evictions.get(id) ?? { at: [], firstWinsUntil: 0 };
    if (now < history.firstWinsUntil) return false;

    history.at = [...history.at.filter((at) => now < at + EVICTION_WINDOW_MS), now];
    if (history.at.length >= MAX_EVICTIONS) {
      history.firstWinsUntil = now + FIRST_WINS_MS;
      history.at = [];
      this.#world.outbox.note("warn", "two gateways seem to share one identity: the connected one stays", {
        gateway: id,
      });
    }
    this.#evictions.set(id, history);
    return true;
  }

  #fields(
    { hello, route, now }: { hello: Hello; route: Route; now: Instant },
    userAgent: Peer["userAgent"],
  ): Fields {
    return {
      connection: this.#nextConnection++,
      generation: route.generation,
      openedAt: now,
      address: hello.address,
      userAgent,
      lastSeenAt: now,
      isJoined: false,
      allowance: MESSAGE_BURST,
      allowanceAt: now,
    };
  }
}

const TOO_MANY = refusal(503, "rate_limit", "Too many connection attempts", 1);
const ALREADY_CONNECTED = refusal(409, "gateway_already_connected", "This gateway is connected already");
/** Peers of the first generation give up for good on 409 (portal §22.4). */
const V1_TEMPORARY = { status: 503, title: "Service Unavailable", retryAfterS: 1 };

function invalid(faults: readonly string[]): Refusal {
  return refusal(400, "invalid_connect_params", faults.join("; "));
}

function isFaults(value: object): value is readonly string[] {
  return Array.isArray(value);
}

function nameOf({ name, externalId }: DeviceParameters, role: PortalRole): string {
  return name ?? `${role}-${externalId.slice(0, 8)}`;
}

function admitted(peer: Peer, evicted?: Eviction): Admission {
  return { kind: "admitted", peer, evicted };
}

function refused(reason: Refusal): Admission {
  return { kind: "refused", refusal: reason };
}
