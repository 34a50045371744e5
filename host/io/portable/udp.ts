import dgram from "node:dgram";
import { once } from "node:events";
import { type IpAddress, ip, isIpv4, type SocketAddress } from "../../core/address.ts";
import type { Path } from "../../core/path.ts";
import type { Transmit } from "../../core/transmit.ts";
import type { DatagramMemory, UdpCounters, UdpSockets } from "../udp.ts";

/** Datagrams waiting for the loop; beyond it new ones are dropped, as a full socket buffer would. */
const QUEUE_LIMIT = 1024;
/** Remote addresses whose local counterpart is remembered. */
const LOCAL_CACHE_LIMIT = 1024;
/** Datagrams whose local address is being looked up, each with a socket; beyond it new ones are dropped. */
const LOOKUP_LIMIT = 64;
const BUFFER_BYTES = 4 << 20;

interface Received {
  readonly payload: Uint8Array;
  readonly local: SocketAddress;
  readonly from: SocketAddress;
}

export interface PortableUdpOptions {
  readonly port: number;
  /** Called when a queue that was empty has datagrams: call `receive` soon. */
  readonly onReadable: (family: 4 | 6) => void;
  /** Opens a bound descriptor with the firewall mark, where the platform has one; otherwise sockets are plain. */
  readonly openDescriptor?: ((family: 4 | 6, port: number) => number | undefined) | undefined;
}

/**
 * Both UDP sockets through `node:dgram`: one datagram per call, on every platform.
 *
 * There is no packet info: the local address of a datagram is what the system would send from towards its
 * source (connectivity §4.2), found with a connected throw-away socket and remembered. ECN is not seen.
 */
export class PortableUdp implements UdpSockets {
  readonly counters: UdpCounters = { receivedBuffers: 0, sentTrains: 0, sendErrors: 0, sendBlocked: 0 };
  readonly local: UdpSockets["local"];
  readonly #memory: DatagramMemory;
  readonly #options: PortableUdpOptions;
  readonly #sockets: { readonly 4: dgram.Socket | undefined; readonly 6: dgram.Socket | undefined };
  readonly #queues: { readonly 4: Received[]; readonly 6: Received[] } = { 4: [], 6: [] };
  readonly #localFor = new Map<IpAddress, IpAddress>();
  #lookups = 0;
  #last: Received[] = [];

  /** Rejects if neither family can be bound. */
  static async open(memory: DatagramMemory, options: PortableUdpOptions): Promise<PortableUdp> {
    const v4 = await openSocket(4, options);
    const v6 = await openSocket(6, options);
    if (v4 === undefined && v6 === undefined) {
      throw new Error(`cannot bind a UDP socket on port ${options.port} or any other, for IPv4 or IPv6`);
    }
    return new PortableUdp(memory, options, v4, v6);
  }

  private constructor(
    memory: DatagramMemory,
    options: PortableUdpOptions,
    v4: dgram.Socket | undefined,
    v6: dgram.Socket | undefined,
  ) {
    this.#memory = memory;
    this.#options = options;
    this.#sockets = { 4: v4, 6: v6 };
    this.local = { v4: localAddress(v4), v6: localAddress(v6) };
    for (const family of [4, 6] as const) {
      const socket = this.#sockets[family];
      socket?.on("message", (payload, remote) => this.#enqueue(family, payload, remote));
      // ICMP errors about earlier datagrams surface here; they say nothing about the socket itself.
      socket?.on("error", () => {
        this.counters.sendErrors += 1;
      });
    }
  }

  receive(family: 4 | 6): number {
    const queue = this.#queues[family];
    const { buffers, bytes, bufferBytes } = this.#memory;
    this.#last = queue.splice(0, buffers.length);
    for (const [i, { payload }] of this.#last.entries()) {
      const offset = buffers[i] ?? 0;
      const length = Math.min(payload.length, bufferBytes);
      bytes.set(length < payload.length ? payload.subarray(0, length) : payload, offset);
      this.#memory.describe(i, offset, length, 0, 0);
    }
    this.counters.receivedBuffers += this.#last.length;
    return this.#last.length;
  }

  source(index: number): { local: SocketAddress; from: SocketAddress } {
    const received = this.#last[index];
    if (received === undefined) throw new RangeError(`no datagram ${index} in the last batch`);
    return received;
  }

  sendTrain(offset: number, length: number, segmentBytes: number, _ecn: number, path: Path): void {
    for (let at = 0; at < length; at += segmentBytes) {
      const start = offset + at;
      const end = start + Math.min(segmentBytes, length - at);
      // The memory is reused before the event loop sends, so each datagram is copied.
      this.#send(path.destination, Buffer.from(this.#memory.bytes.subarray(start, end)));
    }
    this.counters.sentTrains += 1;
  }

  send(transmit: Transmit): void {
    this.#send(transmit.destination, Buffer.from(transmit.payload));
  }

  close(): void {
    this.#sockets[4]?.close();
    this.#sockets[6]?.close();
  }

  #send(destination: SocketAddress, payload: Buffer): void {
    const socket = this.#sockets[isIpv4(destination.ip) ? 4 : 6];
    if (socket === undefined) {
      this.counters.sendErrors += 1;
      return;
    }
    socket.send(payload, destination.port, destination.ip, (error) => {
      if (error !== null) this.counters.sendErrors += 1;
    });
  }

  #enqueue(family: 4 | 6, payload: Uint8Array, remote: dgram.RemoteInfo): void {
    const from = { ip: ip(remote.address.split("%")[0] ?? ""), port: remote.port };
    const known = this.#localFor.get(from.ip);
    if (known !== undefined) {
      this.#push(family, payload, known, from);
      return;
    }
    if (this.#lookups >= LOOKUP_LIMIT) return;
    this.#lookups += 1;
    // Until the answer is there the datagrams of this source arrive a little later than others.
    void localAddressTowards(family, from).then((local) => {
      this.#lookups -= 1;
      if (local === undefined) return;
      if (this.#localFor.size >= LOCAL_CACHE_LIMIT) this.#localFor.clear();
      this.#localFor.set(from.ip, local);
      this.#push(family, payload, local, from);
    });
  }

  #push(family: 4 | 6, payload: Uint8Array, localIp: IpAddress, from: SocketAddress): void {
    const queue = this.#queues[family];
    if (queue.length >= QUEUE_LIMIT) return;

    const bound = family === 4 ? this.local.v4 : this.local.v6;
    queue.push({ payload, local: { ip: localIp, port: bound?.port ?? 0 }, from });
    if (queue.length === 1) this.#options.onReadable(family);
  }
}

async function openSocket(family: 4 | 6, options: PortableUdpOptions): Promise<dgram.Socket | undefined> {
  const fd = options.openDescriptor?.(family, options.port);
  if (fd !== undefined) return bindSocket(family, { fd });

  const wildcard = family === 4 ? "0.0.0.0" : "::";
  return (
    (await bindSocket(family, { port: options.port, address: wildcard })) ??
    (await bindSocket(family, { port: 0, address: wildcard }))
  );
}

async function bindSocket(family: 4 | 6, how: dgram.BindOptions): Promise<dgram.Socket | undefined> {
  const socket = dgram.createSocket({
    type: family === 4 ? "udp4" : "udp6",
    ipv6Only: family === 6,
    recvBufferSize: BUFFER_BYTES,
    sendBufferSize: BUFFER_BYTES,
  });
  try {
    const listening = once(socket, "listening");
    socket.bind({ exclusive: true, ...how });
    await listening;
    return socket;
  } catch {
    socket.close();
    return undefined;
  }
}

function localAddress(socket: dgram.Socket | undefined): SocketAddress | undefined {
  if (socket === undefined) return undefined;
  const { address, port } = socket.address();
  return { ip: ip(address), port };
}

/** What the routing table makes the source address towards `remote`. */
async function localAddressTowards(family: 4 | 6, remote: SocketAddress): Promise<IpAddress | undefined> {
  const probe = dgram.createSocket({ type: family === 4 ? "udp4" : "udp6" });
  try {
    const connected = once(probe, "connect");
    probe.connect(remote.port, remote.ip);
    await connected;
    return ip(probe.address().address.split("%")[0] ?? "");
  } catch {
    return undefined;
  } finally {
    probe.close();
  }
}
