import os from "node:os";
import { type IpAddress, ipToBytes, isIpv4, type SocketAddress } from "../../core/address.ts";
import type { Path } from "../../core/path.ts";
import type { Transmit } from "../../core/transmit.ts";
import type { DatagramMemory, UdpCounters, UdpSockets } from "../udp.ts";
import * as libc from "./libc.ts";
import {
  AF_INET,
  AF_INET6,
  readIp,
  readSocketAddress,
  SOCKADDR_BYTES,
  writeBytes,
  writeSocketAddress,
} from "./socket-address.ts";

const SOCK_DGRAM_NONBLOCK = 2 | 0x800 | 0x80000;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const IPPROTO_IP = 0;
const IP_TOS = 1;
const IP_PKTINFO = 8;
const IP_MTU_DISCOVER = 10;
const IP_RECVTOS = 13;
const IPPROTO_IPV6 = 41;
const IPV6_MTU_DISCOVER = 23;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const IPV6_RECVTCLASS = 66;
const IPV6_TCLASS = 67;
const IPPROTO_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
const PMTUDISC_PROBE = 3;
const MSG_DONTWAIT = 0x40;
const POLLOUT = 4;

// platform §7.2: 10 Gbit/s × 10 ms to receive. The send buffer holds a few full trains, so that one
// wake-up of the receiver does not stall the sender.
const RECEIVE_BUFFER_BYTES = 16 << 20;
const SEND_BUFFER_BYTES = 4 << 20;
/** How long a full socket may hold up the data thread before the train is dropped. */
const SEND_WAIT_MS = 20;

// struct mmsghdr is 64 bytes on 64-bit Linux: msghdr (56) and msg_len.
const MMSGHDR_BYTES = 64;
const MSG_CONTROL_LENGTH = 40;
const MSG_RESULT_LENGTH = 56;
const CONTROL_BYTES = 128;
const IOVEC_BYTES = 16;

// One pinned block: send msghdr | send iovec | send address | send control | pollfd | receive arrays.
const SEND_IOVEC = 64;
const SEND_ADDRESS = 96;
const SEND_CONTROL = 128;
const POLL_FD = 256;
const RECEIVE_BASE = 320;

interface NativeSocket {
  readonly fd: number;
  readonly family: 4 | 6;
  readonly local: SocketAddress;
  segmentationOffload: boolean;
}

export interface NativeUdpOptions {
  readonly port: number;
  /** Firewall mark against routing loops (platform §6.4); undefined: none. */
  readonly mark: number | undefined;
}

/**
 * Both UDP sockets through libc: trains by UDP_GRO and UDP_SEGMENT, packet info, ECN.
 *
 * Throws if neither family can be bound, or if the mark cannot be set.
 */
export class NativeUdp implements UdpSockets {
  readonly counters: UdpCounters = { receivedBuffers: 0, sentTrains: 0, sendErrors: 0, sendBlocked: 0 };
  readonly #memory: DatagramMemory;
  readonly #block: libc.PinnedBuffer;
  readonly #receiveCount: number;
  readonly #v4: NativeSocket | undefined;
  readonly #v6: NativeSocket | undefined;
  #lastReceived: NativeSocket | undefined;

  constructor(memory: DatagramMemory, options: NativeUdpOptions) {
    this.#memory = memory;
    this.#receiveCount = memory.buffers.length;
    this.#block = new libc.PinnedBuffer(RECEIVE_BASE + this.#receiveCount * this.#receiveStride);
    this.#prepareReceive();
    this.#prepareSend();
    this.#v4 = openSocket(4, options);
    this.#v6 = openSocket(6, options);
    if (this.#v4 === undefined && this.#v6 === undefined) {
      throw new Error(`cannot bind a UDP socket on port ${options.port} or any other, for IPv4 or IPv6`);
    }
  }

  get local(): UdpSockets["local"] {
    return { v4: this.#v4?.local, v6: this.#v6?.local };
  }

  /** File descriptors to wait on. */
  fd(family: 4 | 6): number | undefined {
    return (family === 4 ? this.#v4 : this.#v6)?.fd;
  }

  receive(family: 4 | 6): number {
    const socket = family === 4 ? this.#v4 : this.#v6;
    if (socket === undefined) return 0;

    const { view } = this.#block;
    for (let i = 0; i < this.#receiveCount; i++) {
      // The kernel overwrites both lengths with what it stored.
      const header = this.#headerAt(i);
      view.setUint32(header + 8, SOCKADDR_BYTES, true);
      view.setUint32(header + MSG_CONTROL_LENGTH, CONTROL_BYTES, true);
    }
    const count = libc.recvmmsg(
      socket.fd,
      this.#block.address + this.#headerAt(0),
      this.#receiveCount,
      MSG_DONTWAIT,
      0,
    );
    if (count <= 0) return 0;

    this.#lastReceived = socket;
    this.counters.receivedBuffers += count;
    for (let i = 0; i < count; i++) this.#describe(i);
    return count;
  }

  source(index: number): { local: SocketAddress; from: SocketAddress } {
    const socket = this.#lastReceived;
    if (socket === undefined) throw new Error("source() before receive()");

    const from = readSocketAddress(this.#block.view, this.#addressAt(index));
    const local = this.#localIp(index, socket) ?? socket.local.ip;
    return { local: { ip: local, port: socket.local.port }, from };
  }

  sendTrain(offset: number, length: number, segmentBytes: number, ecn: number, path: Path): void {
    const socket = isIpv4(path.destination.ip) ? this.#v4 : this.#v6;
    if (socket === undefined) {
      this.counters.sendErrors += 1;
      return;
    }
    this.#setDestination(path.destination);
    if (length <= segmentBytes || socket.segmentationOffload) {
      const segment = length > segmentBytes ? segmentBytes : 0;
      const failure = this.#transmit(socket, offset, length, segment, path.source.ip, ecn);
      if (failure !== os.constants.errno.EIO && failure !== os.constants.errno.EINVAL) return;
      if (segment === 0) return;
      // This device or kernel cannot segment: from now on one datagram at a time (platform §7.3).
      socket.segmentationOffload = false;
    }
    for (let at = 0; at < length; at += segmentBytes) {
      this.#transmit(socket, offset + at, Math.min(segmentBytes, length - at), 0, path.source.ip, ecn);
    }
  }

  send(transmit: Transmit): void {
    const socket = isIpv4(transmit.destination.ip) ? this.#v4 : this.#v6;
    if (socket === undefined) {
      this.counters.sendErrors += 1;
      return;
    }
    const copy = this.#scratch;
    copy.bytes.set(transmit.payload);
    this.#setDestination(transmit.destination);
    this.#block.setPointer(SEND_IOVEC, copy.address);
    this.#block.view.setUint32(SEND_IOVEC + 8, transmit.payload.length, true);
    this.#sendMessage(socket, 0, transmit.source?.ip, 0);
  }

  close(): void {
    for (const socket of [this.#v4, this.#v6]) if (socket !== undefined) libc.close(socket.fd);
  }

  readonly #scratch = new libc.PinnedBuffer(65536);

  get #receiveStride(): number {
    return MMSGHDR_BYTES + IOVEC_BYTES + 32 + CONTROL_BYTES;
  }

  #headerAt(index: number): number {
    return RECEIVE_BASE + index * MMSGHDR_BYTES;
  }

  #iovecAt(index: number): number {
    return RECEIVE_BASE + this.#receiveCount * MMSGHDR_BYTES + index * IOVEC_BYTES;
  }

  #addressAt(index: number): number {
    return RECEIVE_BASE + this.#receiveCount * (MMSGHDR_BYTES + IOVEC_BYTES) + index * 32;
  }

  #controlAt(index: number): number {
    return RECEIVE_BASE + this.#receiveCount * (MMSGHDR_BYTES + IOVEC_BYTES + 32) + index * CONTROL_BYTES;
  }

  #prepareReceive(): void {
    const block = this.#block;
    for (const [i, offset] of this.#memory.buffers.entries()) {
      const header = this.#headerAt(i);
      block.setPointer(header, block.address + this.#addressAt(i));
      block.setPointer(header + 16, block.address + this.#iovecAt(i));
      block.view.setUint32(header + 24, 1, true);
      block.setPointer(header + 32, block.address + this.#controlAt(i));
      block.setPointer(this.#iovecAt(i), this.#memory.address + offset);
      block.view.setUint32(this.#iovecAt(i) + 8, this.#memory.bufferBytes, true);
    }
  }

  #prepareSend(): void {
    const block = this.#block;
    block.setPointer(0, block.address + SEND_ADDRESS);
    block.setPointer(16, block.address + SEND_IOVEC);
    block.view.setUint32(24, 1, true);
    block.setPointer(32, block.address + SEND_CONTROL);
  }

  #setDestination(destination: SocketAddress): void {
    const length = writeSocketAddress(this.#block.view, SEND_ADDRESS, destination);
    this.#block.view.setUint32(8, length, true);
  }

  /** 0, or the errno that the caller has to judge. */
  #transmit(
    socket: NativeSocket,
    offset: number,
    length: number,
    segmentBytes: number,
    source: IpAddress,
    ecn: number,
  ): number {
    this.#block.setPointer(SEND_IOVEC, this.#memory.address + offset);
    this.#block.view.setUint32(SEND_IOVEC + 8, length, true);
    return this.#sendMessage(socket, segmentBytes, source, ecn);
  }

  #sendMessage(
    socket: NativeSocket,
    segmentBytes: number,
    source: IpAddress | undefined,
    ecn: number,
  ): number {
    const controlLength = this.#writeControl(socket.family, segmentBytes, source, ecn);
    this.#block.view.setUint32(MSG_CONTROL_LENGTH, controlLength, true);
    for (let attempt = 0; attempt < 2; attempt++) {
      if (libc.sendmsg(socket.fd, this.#block.address, 0) >= 0) {
        this.counters.sentTrains += 1;
        return 0;
      }
      const error = libc.errno();
      if (error !== os.constants.errno.EAGAIN) {
        this.counters.sendErrors += 1;
        return error;
      }
      this.counters.sendBlocked += 1;
      this.#waitWritable(socket.fd);
    }
    this.counters.sendErrors += 1;
    return os.constants.errno.EAGAIN;
  }

  #waitWritable(fd: number): void {
    this.#block.view.setInt32(POLL_FD, fd, true);
    this.#block.view.setInt16(POLL_FD + 4, POLLOUT, true);
    libc.poll(this.#block.address + POLL_FD, 1, SEND_WAIT_MS);
  }

  #writeControl(family: 4 | 6, segmentBytes: number, source: IpAddress | undefined, ecn: number): number {
    let at = SEND_CONTROL;
    if (segmentBytes > 0) {
      at = this.#writeControlHeader(at, IPPROTO_UDP, UDP_SEGMENT, 2);
      this.#block.view.setUint16(at - 8, segmentBytes, true);
    }
    if (ecn !== 0) {
      at =
        family === 4
          ? this.#writeControlHeader(at, IPPROTO_IP, IP_TOS, 4)
          : this.#writeControlHeader(at, IPPROTO_IPV6, IPV6_TCLASS, 4);
      this.#block.view.setInt32(at - 8, ecn, true);
    }
    if (source !== undefined && source !== "0.0.0.0" && source !== "::") {
      at = this.#writePacketInfo(at, family, source);
    }
    return at - SEND_CONTROL;
  }

  #writePacketInfo(at: number, family: 4 | 6, source: IpAddress): number {
    const { view } = this.#block;
    if (family === 4) {
      // struct in_pktinfo: interface index, spec_dst (the source to use), addr.
      const end = this.#writeControlHeader(at, IPPROTO_IP, IP_PKTINFO, 12);
      view.setUint32(end - 16, 0, true);
      writeBytes(view, end - 12, ipToBytes(source));
      view.setUint32(end - 8, 0, true);
      return end;
    }
    const end = this.#writeControlHeader(at, IPPROTO_IPV6, IPV6_PKTINFO, 20);
    writeBytes(view, end - 24, ipToBytes(source));
    view.setUint32(end - 8, 0, true);
    return end;
  }

  /** Writes a cmsghdr; returns the offset behind the 8-byte aligned data. */
  #writeControlHeader(at: number, level: number, type: number, dataBytes: number): number {
    const { view } = this.#block;
    view.setUint32(at, 16 + dataBytes, true);
    view.setUint32(at + 4, 0, true);
    view.setInt32(at + 8, level, true);
    view.setInt32(at + 12, type, true);
    return at + 16 + ((dataBytes + 7) & ~7);
  }

  #describe(index: number): void {
    const { view } = this.#block;
    const offset = this.#memory.buffers[index] ?? 0;
    let segmentBytes = 0;
    let ecn = 0;
    this.#eachControl(index, (level, type, at) => {
      if (level === IPPROTO_UDP && type === UDP_GRO) segmentBytes = view.getInt32(at, true);
      else if (level === IPPROTO_IP && type === IP_TOS) ecn = view.getUint8(at) & 3;
      else if (level === IPPROTO_IPV6 && type === IPV6_TCLASS) ecn = view.getInt32(at, true) & 3;
    });
    const length = view.getUint32(this.#headerAt(index) + MSG_RESULT_LENGTH, true);
    this.#memory.describe(index, offset, length, segmentBytes >= length ? 0 : segmentBytes, ecn);
  }

  #localIp(index: number, socket: NativeSocket): IpAddress | undefined {
    const { view } = this.#block;
    let found: IpAddress | undefined;
    this.#eachControl(index, (level, type, at) => {
      if (socket.family === 4 && level === IPPROTO_IP && type === IP_PKTINFO) found = readIp(view, at + 8, 4);
      else if (socket.family === 6 && level === IPPROTO_IPV6 && type === IPV6_PKTINFO)
        found = readIp(view, at, 16);
    });
    return found;
  }

  #eachControl(index: number, visit: (level: number, type: number, at: number) => void): void {
    const { view } = this.#block;
    const total = Math.min(view.getUint32(this.#headerAt(index) + MSG_CONTROL_LENGTH, true), CONTROL_BYTES);
    const base = this.#controlAt(index);
    for (let at = 0; at + 16 <= total; ) {
      const length = view.getUint32(base + at, true);
      if (length < 16) return;
      visit(view.getInt32(base + at + 8, true), view.getInt32(base + at + 12, true), base + at + 16);
      at += (length + 7) & ~7;
    }
  }
}

function openSocket(family: 4 | 6, options: NativeUdpOptions): NativeSocket | undefined {
  const fd = libc.socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM_NONBLOCK, 0);
  if (fd < 0) return undefined;

  if (options.mark !== undefined && !libc.setSocketOption(fd, SOL_SOCKET, SO_MARK, options.mark | 0)) {
    const error = new libc.SystemCallError("setsockopt(SO_MARK), which prevents routing loops", libc.errno());
    libc.close(fd);
    throw error;
  }
  setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
  setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER_BYTES);
  if (family === 4) {
    libc.setSocketOption(fd, IPPROTO_IP, IP_PKTINFO, 1);
    libc.setSocketOption(fd, IPPROTO_IP, IP_RECVTOS, 1);
    libc.setSocketOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
  } else {
    libc.setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    libc.setSocketOption(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    libc.setSocketOption(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    libc.setSocketOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
  }
  libc.setSocketOption(fd, IPPROTO_UDP, UDP_GRO, 1);

  const local = bindWildcard(fd, family, options.port) ?? bindWildcard(fd, family, 0);
  if (local === undefined) {
    libc.close(fd);
    return undefined;
  }
  return { fd, family, local, segmentationOffload: true };
}

function setBuffer(fd: number, force: number, plain: number, bytes: number): void {
  // Forcing needs CAP_NET_ADMIN; without it the system-wide limit applies.
  if (!libc.setSocketOption(fd, SOL_SOCKET, force, bytes)) libc.setSocketOption(fd, SOL_SOCKET, plain, bytes);
}

function bindWildcard(fd: number, family: 4 | 6, port: number): SocketAddress | undefined {
  const block = new libc.PinnedBuffer(128);
  const wildcard = (family === 4 ? "0.0.0.0" : "::") as IpAddress;
  const length = writeSocketAddress(block.view, 0, { ip: wildcard, port });
  if (libc.bind(fd, block.address, length) < 0) return undefined;

  block.view.setUint32(64, SOCKADDR_BYTES, true);
  libc.checked(libc.getsockname(fd, block.address, block.address + 64), "getsockname");
  return readSocketAddress(block.view, 0);
}
