import type { Random } from "../../../host/core/random.ts";
import { toBase64 } from "../../../host/portal/base64.ts";
import { parseConfiguration } from "../../../host/portal/server/configuration.ts";
import type { Refusal } from "../../../host/portal/server/hello.ts";
import type { Configuration } from "../../../host/portal/server/model.ts";
import type { ConnectionId } from "../../../host/portal/server/peers.ts";
import { PortalState } from "../../../host/portal/server/portal-state.ts";
import { createToken, type TokenOwner, type TokenRecord } from "../../../host/portal/server/tokens.ts";
import {
  decodeFrame,
  encodeFrame,
  type Frame,
  type PortalRole,
  type Ref,
} from "../../../host/portal/wire.ts";

/** 2026-09-21T14:13:20Z */
export const START_UNIX = 1_790_000_000;
export const WEEK_S = 7 * 86_400;

export const CLIENT_AGENT = "Ubuntu/24.04 headless-client/1.5.12 (x86_64; 6.8.0-64-generic)";
export const GATEWAY_AGENT = "Debian/13 gateway/1.6.1 (x86_64)";

/** mulberry32: small, and the same on every machine. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    bytes: (length) => Uint8Array.from({ length }, () => Math.floor(next() * 256)),
    uniform: next,
  };
}

export function keyText(fill: number): string {
  return toBase64(new Uint8Array(32).fill(fill));
}

export const YAML = `
account: { slug: lindenwerk, id: 0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04 }
actors:
  - { name: Mira, kind: user, email: mira@corp.example }
  - { name: Ada, kind: admin }
  - { name: box, kind: service }
groups:
  - { name: Engineering, members: [Mira, box] }
  - { name: Auditors, members: [Mira] }
sites:
  - { name: Rack 4 }
  - { name: Annex }
resources:
  - { name: Wiki, type: dns, address: wiki.corp.example, site: Rack 4, filters: [{ protocol: tcp, ports: ["443"] }] }
  - { name: Lab, type: cidr, address: 10.31.0.0/16, site: Rack 4 }
  - { name: Printer, type: ip, address: 10.40.0.9, site: Annex }
  - { name: Out, type: internet, site: Annex }
policies:
  - { group: Everyone, resource: Wiki }
  - { group: Engineering, resource: Lab }
  - { group: Engineering, resource: Out }
`;

export function configuration(yaml = YAML): Configuration {
  const parsed = parseConfiguration(yaml, "portal.yaml");
  if (!parsed.ok) throw new Error(parsed.problems.join("\n"));
  return parsed.configuration;
}

interface ConnectOptions {
  readonly role: PortalRole;
  readonly token: string;
  readonly externalId?: string;
  readonly key?: string;
  readonly version?: 1 | 2;
  readonly userAgent?: string;
  readonly address?: string;
  readonly query?: Readonly<Record<string, string>>;
}

export interface Received {
  readonly event: string;
  readonly payload: never;
  readonly ref: Ref;
  readonly topic: string;
}

/** One connection as its peer sees it. */
export class BenchPeer {
  readonly received: Received[] = [];
  readonly role: PortalRole;
  closedWith: number | undefined;
  readonly #bench: PortalBench;
  readonly #connection: ConnectionId;
  #ref = 0;

  constructor(bench: PortalBench, connection: ConnectionId, role: PortalRole) {
    this.#bench = bench;
    this.#connection = connection;
    this.role = role;
  }

  join(payload: unknown = null): this {
    this.send("phx_join", payload);
    return this;
  }

  send(event: string, payload: unknown, topic: string = this.role): number {
    const ref = this.#ref++;
    this.raw(encodeFrame({ topic, event, payload, ref }));
    return ref;
  }

  raw(text: string): void {
    this.#bench.state.handleFrame(this.#connection, text, this.#bench.now);
    this.#bench.drain();
  }

  /** Ends the connection from this side. */
  leave(): void {
    this.#bench.state.handleClosed(this.#connection, this.#bench.now);
    this.#bench.drain();
  }

  /** What came since the last call. */
  take(): Received[] {
    return this.received.splice(0);
  }

  events(): string[] {
    return this.take().map(({ event }) => event);
  }

  /** Payload of the last message with that event; the test fails if there is none. */
  last<T>(event: string): T {
    const message = this.received.findLast((received) => received.event === event);
    if (message === undefined)
      throw new Error(`no ${event} among ${this.received.map((m) => m.event).join()}`);
    return message.payload;
  }

  count(event: string): number {
    return this.received.filter((received) => received.event === event).length;
  }
}

/** A portal in simulated time, with peers on it. */
export class PortalBench {
  readonly state: PortalState;
  readonly random: Random;
  now = 1_000;
  readonly #tokens = new Map<string, TokenRecord>();
  readonly #peers = new Map<ConnectionId, BenchPeer>();
  #attempts = 0;

  constructor(options: { yaml?: string; seed?: number; portalSeed?: Uint8Array } = {}) {
    this.random = seededRandom(options.seed ?? 1);
    this.state = new PortalState(
      {
        configuration: configuration(options.yaml),
        tokens: this.#tokens,
        seed: options.portalSeed ?? new Uint8Array(32).fill(7),
        url: "https://portal.lindenwerk.example/",
      },
      this.random,
      START_UNIX,
      this.now,
    );
  }

  token(owner: TokenOwner): { readonly text: string; readonly id: string } {
    const { record, text } = createToken(owner, undefined, START_UNIX, this.random);
    this.#tokens.set(record.id, record);
    return { text, id: record.id };
  }

  clientToken(actor = "Mira", lifetimeS = WEEK_S) {
    return this.token({ kind: "client", actor, expiresAt: START_UNIX + lifetimeS });
  }

  gatewayToken(site = "Rack 4") {
    return this.token({ kind: "gateway", site, expiresAt: undefined });
  }

  relayToken() {
    return this.token({ kind: "relay", expiresAt: undefined });
  }

  revoke(id: string): void {
    this.#tokens.delete(id);
    this.state.handleTokens(this.#tokens, this.now);
    this.drain();
  }

  configure(yaml: string): void {
    this.state.handleConfiguration(configuration(yaml), this.now);
    this.drain();
  }

  hello(options: ConnectOptions): BenchPeer | Refusal {
    const { role, externalId, key, query } = options;
    const device: Record<string, string> =
      role === "relay" ? {} : { external_id: externalId ?? role, public_key: key ?? keyText(0x11) };
    const search = new URLSearchParams({ ...device, ...query });
    const result = this.state.handleHello(
      {
        target: `/${role}${options.version === 1 || role === "relay" ? "" : "/v2"}/websocket?${search}`,
        authorization: `Bearer ${options.token}`,
        userAgent: options.userAgent ?? (role === "gateway" ? GATEWAY_AGENT : CLIENT_AGENT),
        // Every attempt from elsewhere, unless the test is about limits.
        address: options.address ?? `203.0.113.${++this.#attempts % 250}`,
      },
      this.now,
    );
    const peer = result.kind === "accepted" ? new BenchPeer(this, result.connection, role) : undefined;
    if (peer !== undefined && result.kind === "accepted") this.#peers.set(result.connection, peer);
    this.drain();
    return peer ?? (result as { refusal: Refusal }).refusal;
  }

  connect(options: ConnectOptions): BenchPeer {
    const result = this.hello(options);
    if (result instanceof BenchPeer) return result;
    throw new Error(`refused: ${result.code} ${result.detail}`);
  }

  client(options: Partial<ConnectOptions> = {}): BenchPeer {
    return this.connect({
      role: "client",
      token: options.token ?? this.clientToken().text,
      ...options,
    }).join();
  }

  gateway(options: Partial<ConnectOptions> = {}): BenchPeer {
    const token = options.token ?? this.gatewayToken().text;
    return this.connect({ role: "gateway", token, key: keyText(0x22), ...options }).join();
  }

  relay(secret: string, query: Record<string, string> = { ipv4: "198.51.100.20" }): BenchPeer {
    const relay = this.connect({ role: "relay", token: this.relayToken().text, query });
    return relay.join({ stamp_secret: secret });
  }

  /** Lets time pass, stopping at each of the portal's deadlines; peers answer nothing unless told. */
  advance(durationMs: number): void {
    const end = this.now + durationMs;
    for (;;) {
      const deadline = this.state.pollTimeout();
      if (deadline === undefined || deadline.at > end) break;
      this.now = Math.max(this.now, deadline.at);
      this.state.handleTimeout(this.now);
      this.drain();
    }
    this.now = end;
  }

  /** As `advance`, while the given peers send heartbeats. */
  idle(durationMs: number, ...peers: readonly BenchPeer[]): void {
    for (let left = durationMs; left > 0; left -= 10_000) {
      for (const peer of peers) peer.send("heartbeat", {}, "phoenix");
      this.advance(Math.min(left, 10_000));
    }
    for (const peer of peers) {
      const rest = peer.received.filter(({ topic }) => topic !== "phoenix");
      peer.received.splice(0, peer.received.length, ...rest);
    }
  }

  drain(): void {
    for (let send = this.state.pollSend(); send; send = this.state.pollSend()) {
      const frame = decodeFrame(send.text) as Frame;
      this.#peers.get(send.connection)?.received.push(frame as Received);
    }
    for (let close = this.state.pollClose(); close; close = this.state.pollClose()) {
      const peer = this.#peers.get(close.connection);
      if (peer !== undefined) peer.closedWith = close.code;
    }
    while (this.state.pollNote() !== undefined);
  }
}

/** Id of a resource of the bench's configuration. */
export function resourceId(name: string, yaml = YAML): string {
  const resource = [...configuration(yaml).resources.values()].find((candidate) => candidate.name === name);
  if (resource === undefined) throw new Error(`no resource ${name}`);
  return resource.id;
}

/** Payload of a message as the test expects it; the test fails if there is no message. */
export function payloadOf<T>(message: Received | undefined): T {
  if (message === undefined) throw new Error("no message");
  return message.payload;
}
