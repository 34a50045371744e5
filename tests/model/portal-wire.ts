// The channels between peers and the portal in simulated time: reliable and in order while a connection lasts.
import type { Random } from "../../host/core/random.ts";
import type { Deadline, Instant } from "../../host/core/time.ts";
import { PortalChannel } from "../../host/portal/channel.ts";
import { encodeRelayJoin } from "../../host/portal/relay-messages.ts";
import type { Configuration } from "../../host/portal/server/model.ts";
import type { ConnectionId } from "../../host/portal/server/peers.ts";
import { PortalState } from "../../host/portal/server/portal-state.ts";
import type { TokenRecord } from "../../host/portal/server/tokens.ts";
import type { PortalRole, Push } from "../../host/portal/wire.ts";
import type { Endpoint, SimNetwork } from "../sim/network.ts";

const DELAY_MS = 25;
const USER_AGENTS: Readonly<Record<PortalRole, string>> = {
  client: "Debian/13 headless-client/1.5.6",
  gateway: "Debian/13 gateway/1.6.1",
  relay: "Debian/13 relay/0.1.0",
};

export interface PortalOptions {
  readonly configuration: Configuration;
  readonly tokens: ReadonlyMap<string, TokenRecord>;
  readonly random: Random;
  /** Wall clock, in seconds. */
  readonly unixTime: () => number;
}

/** The portal's process; `restart` forgets everything that is not configured. */
export class PortalHost implements Endpoint {
  state: PortalState;
  readonly network: SimNetwork;
  readonly #links = new Map<ConnectionId, PortalLink>();
  readonly #options: PortalOptions;
  #generation = 0;
  #attempts = 0;

  constructor(network: SimNetwork, options: PortalOptions) {
    this.network = network;
    this.#options = options;
    this.state = this.#start(options.configuration);
  }

  configure(configuration: Configuration): void {
    this.state.handleConfiguration(configuration, this.network.now);
    this.drain();
  }

  tokensChanged(): void {
    this.state.handleTokens(this.#options.tokens, this.network.now);
    this.drain();
  }

  stepClock(): void {
    this.state.handleUnixTime(this.#options.unixTime(), this.network.now);
    this.drain();
  }

  restart(): void {
    const { configuration } = this.state;
    this.#generation += 1;
    const links = [...this.#links.values()];
    this.#links.clear();
    this.state = this.#start(configuration);
    for (const link of links) link.lose();
  }

  connect(
    link: PortalLink,
    hello: { readonly target: string; readonly token: string; readonly role: PortalRole },
  ): void {
    const result = this.state.handleHello(
      {
        target: hello.target,
        authorization: `Bearer ${hello.token}`,
        userAgent: USER_AGENTS[hello.role],
        // From many addresses: limits per address are not the subject here.
        address: `192.0.2.${this.#attempts++ % 250}`,
      },
      this.network.now,
    );
    if (result.kind === "accepted") {
      this.#links.set(result.connection, link);
      link.opened(result.connection);
    } else {
      link.rejected(result.refusal);
    }
    this.drain();
  }

  receive(connection: ConnectionId, text: string): void {
    this.state.handleFrame(connection, text, this.network.now);
    this.drain();
  }

  closed(connection: ConnectionId): void {
    this.#links.delete(connection);
    this.state.handleClosed(connection, this.network.now);
    this.drain();
  }

  /** Runs on the portal's side later, unless it was restarted meanwhile. */
  later(run: () => void): void {
    const generation = this.#generation;
    this.network.later(DELAY_MS, () => {
      if (generation === this.#generation) run();
    });
  }

  handleDatagram(): void {}

  handleTimeout(now: Instant): void {
    this.state.handleTimeout(now);
    this.drain();
  }

  pollTransmit(): undefined {
    return undefined;
  }

  pollTimeout(): Deadline | undefined {
    return this.state.pollTimeout();
  }

  drain(): void {
    for (let send = this.state.pollSend(); send !== undefined; send = this.state.pollSend()) {
      this.#links.get(send.connection)?.deliver(send.connection, send.text);
    }
    for (let close = this.state.pollClose(); close !== undefined; close = this.state.pollClose()) {
      const link = this.#links.get(close.connection);
      this.#links.delete(close.connection);
      link?.ended(close.connection);
    }
    while (this.state.pollNote() !== undefined);
  }

  #start(configuration: Configuration): PortalState {
    return new PortalState(
      {
        configuration,
        tokens: this.#options.tokens,
        seed: new Uint8Array(32).fill(7),
        url: "https://portal.example/",
      },
      this.#options.random,
      this.#options.unixTime(),
      this.network.now,
    );
  }
}

export interface LinkOptions {
  readonly role: PortalRole;
  readonly externalId: string;
  /** Query parameters besides the id: the current key of a device, the addresses of a relay. */
  readonly parameters: () => Readonly<Record<string, string>>;
  readonly token: () => string;
  readonly stampSecret?: string;
  readonly random: Random;
  readonly onPush: (event: string, payload: unknown) => void;
  /** The portal refused for good. */
  readonly onFatal?: () => void;
}

/** One peer's end: the real channel machine, and a pipe that a test can cut. */
export class PortalLink implements Endpoint {
  readonly #options: LinkOptions;
  readonly #portal: PortalHost;
  readonly #network: SimNetwork;
  #channel: PortalChannel;
  #connection: ConnectionId | undefined;
  /** Counts connections and attempts, so that late frames of older ones are recognised. */
  #epoch = 0;
  #isCut = false;
  isStopped = false;
  /** Since when it has been joined without a break. */
  joinedAt: Instant | undefined;

  constructor(portal: PortalHost, options: LinkOptions) {
    this.#portal = portal;
    this.#network = portal.network;
    this.#options = options;
    this.#channel = this.#newChannel();
    // Peers that are hosts connect when their first process starts.
    if (options.role === "relay") this.#drain();
  }

  get isCut(): boolean {
    return this.#isCut;
  }

  send(push: Push | undefined): void {
    if (push === undefined) return;
    this.#channel.send(push, this.#network.now);
    this.#drain();
  }

  /** A new process: as if nothing had been before. */
  restart(): void {
    this.#leave();
    this.isStopped = false;
    this.#channel = this.#newChannel();
    this.#drain();
  }

  stop(): void {
    this.#leave();
    this.isStopped = true;
    this.#channel.close();
    this.#drain();
  }

  reconnect(): void {
    this.#channel.reconnect(this.#network.now);
    this.#drain();
  }

  cut(): void {
    this.#isCut = true;
    this.#leave();
    this.lose();
  }

  mend(): void {
    this.#isCut = false;
  }

  /** The connection is gone on this side. */
  lose(): void {
    this.#connection = undefined;
    this.#epoch += 1;
    this.#channel.handleClosed(this.#network.now);
    this.#drain();
  }

  opened(connection: ConnectionId): void {
    this.#connection = connection;
    this.#receive(() => this.#channel.handleOpened(this.#network.now));
  }

  rejected({ status, code }: { readonly status: number; readonly code: string }): void {
    const rejection = { status, code, retryAfterMs: undefined };
    this.#receive(() => this.#channel.handleRejected(rejection, this.#network.now));
  }

  deliver(connection: ConnectionId, text: string): void {
    this.#receive(() => {
      if (connection === this.#connection) this.#channel.handleFrame(text, this.#network.now);
    });
  }

  ended(connection: ConnectionId): void {
    this.#receive(() => {
      if (connection !== this.#connection) return;
      this.#connection = undefined;
      this.#channel.handleClosed(this.#network.now);
    });
  }

  handleDatagram(): void {}

  handleTimeout(now: Instant): void {
    this.#channel.handleTimeout(now);
    this.#drain();
  }

  pollTransmit(): undefined {
    return undefined;
  }

  pollTimeout(): Deadline | undefined {
    return this.#channel.pollTimeout();
  }

  #receive(run: () => void): void {
    const epoch = this.#epoch;
    this.#network.later(DELAY_MS, () => {
      if (epoch !== this.#epoch || this.#isCut) return;
      run();
      this.#drain();
    });
  }

  #drain(): void {
    for (let c = this.#channel.pollCommand(); c !== undefined; c = this.#channel.pollCommand()) {
      if (c.kind === "connect") this.#connect();
      else if (c.kind === "send") this.#emit(c.text);
      else this.#leave();
    }
    for (let e = this.#channel.pollEvent(); e !== undefined; e = this.#channel.pollEvent()) {
      if (e.kind === "state") this.joinedAt = e.state === "joined" ? this.#network.now : undefined;
      if (e.kind === "push") this.#options.onPush(e.event, e.payload);
      if (e.kind === "fatal") {
        this.isStopped = true;
        this.#options.onFatal?.();
      }
    }
  }

  #connect(): void {
    this.#epoch += 1;
    if (this.#isCut) {
      this.#network.later(
        DELAY_MS,
        this.#ifCurrent(() => this.#channel.handleClosed(this.#network.now)),
      );
      return;
    }
    const { role, externalId, parameters, token } = this.#options;
    const device = role === "relay" ? {} : { external_id: externalId };
    const query = new URLSearchParams({ ...device, ...parameters() });
    const hello = {
      role,
      token: token(),
      target: `/${role}${role === "relay" ? "" : "/v2"}/websocket?${query}`,
    };
    this.#portal.later(this.#ifCurrent(() => this.#portal.connect(this, hello)));
  }

  #emit(text: string): void {
    const connection = this.#connection;
    if (connection === undefined || this.#isCut) return;
    this.#portal.later(() => this.#portal.receive(connection, text));
  }

  #leave(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#epoch += 1;
    if (connection !== undefined) this.#portal.later(() => this.#portal.closed(connection));
  }

  #ifCurrent(run: () => void): () => void {
    const epoch = this.#epoch;
    return () => {
      if (epoch !== this.#epoch) return;
      run();
      this.#drain();
    };
  }

  #newChannel(): PortalChannel {
    const { role, stampSecret, random } = this.#options;
    return new PortalChannel(
      {
        role,
        generation: role === "relay" ? 1 : 2,
        joinPayload: stampSecret === undefined ? null : encodeRelayJoin(stampSecret),
      },
      random,
      this.#network.now,
    );
  }
}
