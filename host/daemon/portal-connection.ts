import crypto from "node:crypto";
import type net from "node:net";
import os from "node:os";
import type { ClientEgress, ClientIngress, GatewayEgress, GatewayIngress } from "../core/messages.ts";
import {
  type ChannelCommand,
  type ChannelEvent,
  type ChannelFatal,
  type ChannelState,
  PortalChannel,
} from "../portal/channel.ts";
import { decodeClientIngress, encodeClientEgress } from "../portal/client-messages.ts";
import type { Decoded } from "../portal/decode.ts";
import { type DeviceHints, isUuidText, portalEndpoint } from "../portal/endpoint.ts";
import { decodeGatewayIngress, encodeGatewayEgress } from "../portal/gateway-messages.ts";
import {
  decodeRelayIngress,
  encodeRelayJoin,
  type RelayEgress,
  type RelayIngress,
} from "../portal/relay-messages.ts";
import type { Generation, PortalRole, Push } from "../portal/wire.ts";
import { logPortalNote, type PortalLog } from "./portal-log.ts";
import { type ConnectTarget, PortalSocket } from "./portal-socket.ts";

export type { PortalLog } from "./portal-log.ts";
export type { ConnectTarget } from "./portal-socket.ts";

/** What each role hears from the portal and says to it. */
export interface PortalMessages {
  readonly client: { readonly ingress: ClientIngress; readonly egress: ClientEgress };
  readonly gateway: { readonly ingress: GatewayIngress; readonly egress: GatewayEgress };
  readonly relay: { readonly ingress: RelayIngress; readonly egress: RelayEgress };
}

export interface PortalConnectionOptions<Role extends PortalRole> {
  readonly url: string;
  readonly role: Role;
  readonly token: string;
  /** Required of clients and gateways; a UUID is sent hashed (portal §2.2). */
  readonly externalId?: string | undefined;
  /** Display name; default: the host's name. */
  readonly name?: string | undefined;
  /** Required of clients and gateways. */
  readonly publicKey?: Uint8Array | undefined;
  /** Required of relays: their public addresses, and the secret that keys TURN credentials as 64 hex digits. */
  readonly relay?:
    | {
        readonly ipv4?: string | undefined;
        readonly ipv6?: string | undefined;
        readonly port: number;
        readonly stampSecret: string;
      }
    | undefined;
  readonly hints?: DeviceHints | undefined;
  /** Default 2; 1 only for portals that do not know the `v2` paths. */
  readonly generation?: Generation | undefined;
  /** Time without a join after which the connection gives up; default: never. */
  readonly maxPartitionMs?: number | undefined;
  /** Makes the TCP connection, e.g. with a firewall mark against routing loops; it may be connected already. */
  readonly createSocket?: ((target: ConnectTarget) => net.Socket | Promise<net.Socket>) | undefined;
  readonly lookup?: net.LookupFunction | undefined;
  /** Certificates to trust instead of the runtime's own, in PEM. */
  readonly ca?: string | undefined;
  readonly log?: PortalLog | undefined;
}

export interface PortalConnectionHandlers<Role extends PortalRole> {
  onMessage(message: PortalMessages[Role]["ingress"]): void;
  /** `joined` after every join: `init` follows; held-back candidates may be sent now. */
  onState?(state: ChannelState): void;
  /** Once; the connection is closed and stays so. */
  onFatal(error: ChannelFatal): void;
}

/** A timer of more than 2^31 ms would fire at once; an early one finds nothing to do and is armed again. */
const MAX_TIMER_MS = 3_600_000;

/** Culvert's version as the peers report it in the comment of the User-Agent. */
const CULVERT_VERSION = "0.1.0";

/**
 * Protocol level of each role, in the names that Firezone's portal knows (portal §2.4). Clients report
 * the last version before device pools, which Culvert does not have: a portal then does not offer any.
 */
const COMPONENTS: Readonly<Record<PortalRole, string>> = {
  client: "headless-client/1.5.6",
  gateway: "gateway/1.6.1",
  relay: "relay/0.1.0",
};

/**
 * The driver of a peer's channel to the portal: a WebSocket, a timer, and the codec around
 * `PortalChannel`. Connects at once. Handlers may call the connection; inside the constructor,
 * `reconnect` and `close` only `onState` is called.
 */
export class PortalConnection<Role extends PortalRole> {
  readonly #options: PortalConnectionOptions<Role>;
  readonly #handlers: PortalConnectionHandlers<Role>;
  readonly #channel: PortalChannel;
  readonly #generation: Generation;
  #publicKey: Uint8Array | undefined;
  #socket: PortalSocket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isDraining = false;

  /** Throws TypeError if the URL cannot be a portal's. */
  constructor(options: PortalConnectionOptions<Role>, handlers: PortalConnectionHandlers<Role>) {
    this.#options = options;
    this.#handlers = handlers;
    this.#generation = options.generation ?? 2;
    this.#publicKey = options.publicKey;
    this.#endpoint();
    this.#channel = new PortalChannel(
      {
        role: options.role,
        generation: this.#generation,
        joinPayload: options.relay === undefined ? null : encodeRelayJoin(options.relay.stampSecret),
        maxPartitionMs: options.maxPartitionMs,
      },
      { bytes: (length) => crypto.randomBytes(length), uniform: () => crypto.randomInt(2 ** 32) / 2 ** 32 },
      now(),
    );
    this.#drain();
  }

  get state(): ChannelState {
    return this.#channel.state;
  }

  /**
   * False: the message was dropped, because there is no connection, or a copy of it is still waiting.
   * A first-generation portal has no `no-relays`: the connection is renewed instead, for a new `init`.
   */
  send(message: PortalMessages[Role]["egress"]): boolean {
    const push = encodeEgress(this.#options.role, message, this.#generation);
    if (push === undefined) {
      this.reconnect();
      return true;
    }
    const accepted = this.#channel.send(push, now());
    this.#drain();
    return accepted;
  }

  /** Connects anew at once, with a new key if one is given (network change). */
  reconnect(newPublicKey?: Uint8Array): void {
    this.#publicKey = newPublicKey ?? this.#publicKey;
    this.#channel.reconnect(now());
    this.#drain();
  }

  close(): void {
    this.#channel.close();
    this.#drain();
  }

  /** Handlers may call `send` and `reconnect`: what these produce is handled by the loop that is running. */
  #drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    try {
      while (this.#drainOne());
    } finally {
      this.#isDraining = false;
    }
    this.#arm();
  }

  #drainOne(): boolean {
    const command = this.#channel.pollCommand();
    if (command !== undefined) {
      this.#execute(command);
      return true;
    }
    const event = this.#channel.pollEvent();
    if (event !== undefined) this.#handle(event);
    return event !== undefined;
  }

  #handle(event: ChannelEvent): void {
    switch (event.kind) {
      case "state":
        this.#options.log?.debug({ state: event.state }, "portal connection changed state");
        this.#handlers.onState?.(event.state);
        return;
      case "push":
        this.#deliver(event.event, event.payload);
        return;
      case "fatal":
        this.#handlers.onFatal(event.error);
        return;
      case "note":
        logPortalNote(this.#options.log, event);
    }
  }

  #execute(command: ChannelCommand): void {
    switch (command.kind) {
      case "connect":
        this.#open();
        return;
      case "send":
        this.#socket?.send(command.text);
        return;
      case "close":
        this.#socket?.close(command.code);
        this.#socket = undefined;
    }
  }

  #open(): void {
    const { token, createSocket, lookup, ca } = this.#options;
    const input = (handle: (at: number) => void) => {
      handle(now());
      this.#drain();
    };
    this.#socket = new PortalSocket(
      {
        url: this.#endpoint(),
        token: this.#generation === 2 ? token : undefined,
        userAgent: userAgent(this.#options.role),
        createSocket,
        lookup,
        ca,
      },
      {
        onOpened: () => input((at) => this.#channel.handleOpened(at)),
        onFrame: (text) => input((at) => this.#channel.handleFrame(text, at)),
        onRejected: (rejection) => input((at) => this.#channel.handleRejected(rejection, at)),
        onClosed: (reason) => {
          this.#options.log?.debug({ reason }, "portal connection ended");
          input((at) => this.#channel.handleClosed(at));
        },
      },
    );
  }

  #endpoint(): URL {
    const { url, role, externalId, name, relay, hints, token } = this.#options;
    const isDevice = role !== "relay";
    return portalEndpoint({
      url,
      role,
      generation: this.#generation,
      token: token.replace(/\s/g, ""),
      externalId: isDevice && externalId !== undefined ? wireExternalId(externalId) : undefined,
      name: (name ?? os.hostname()).slice(0, 255) || undefined,
      publicKey: isDevice ? this.#publicKey : undefined,
      hints,
      ipv4: relay?.ipv4,
      ipv6: relay?.ipv6,
      port: relay?.port,
    });
  }

  #deliver(event: string, payload: unknown): void {
    const decoded = decodeIngress(this.#options.role, event, payload);
    switch (decoded.kind) {
      case "message":
        for (const skipped of decoded.skipped) {
          this.#options.log?.warn({ event, skipped }, "left out a part of a portal message");
        }
        this.#handlers.onMessage(decoded.message);
        return;
      case "malformed":
        this.#options.log?.warn(
          { event, reason: decoded.reason },
          "portal sent a message that cannot be decoded",
        );
        return;
      case "unknown":
        this.#options.log?.debug({ event }, "portal sent a message of an unknown kind");
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const deadline = this.#channel.pollTimeout();
    if (deadline === undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#channel.handleTimeout(now());
        this.#drain();
      },
      Math.min(MAX_TIMER_MS, Math.max(0, Math.ceil(deadline.at - now()))),
    );
  }
}

function now(): number {
  return performance.now() + 1;
}

// The role decides the message type; TypeScript cannot follow a type parameter through a switch.
function encodeEgress<Role extends PortalRole>(
  role: Role,
  message: PortalMessages[Role]["egress"],
  generation: Generation,
): Push | undefined {
  switch (role) {
    case "client":
      return encodeClientEgress(message as ClientEgress, generation);
    case "gateway":
      return encodeGatewayEgress(message as GatewayEgress, generation);
    default:
      return undefined;
  }
}

function decodeIngress<Role extends PortalRole>(
  role: Role,
  event: string,
  payload: unknown,
): Decoded<PortalMessages[Role]["ingress"]> {
  switch (role) {
    case "client":
      return decodeClientIngress(event, payload);
    case "gateway":
      return decodeGatewayIngress(event, payload);
    default:
      return decodeRelayIngress(event, payload);
  }
}

function wireExternalId(externalId: string): string {
  return isUuidText(externalId) ? crypto.createHash("sha256").update(externalId).digest("hex") : externalId;
}

function userAgent(role: PortalRole): string {
  const system = `${os.type()}/${os.release()}`;
  const comment = `(culvert ${CULVERT_VERSION})`;
  // Other characters are not allowed in the header.
  return `${system} ${COMPONENTS[role]} ${comment}`.replace(/[^ -~]/g, "");
}
