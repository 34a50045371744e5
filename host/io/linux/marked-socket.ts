import net from "node:net";
import os from "node:os";
import { type IpAddress, isIpv4, type SocketAddress } from "../../core/address.ts";
import * as libc from "./libc.ts";
import { AF_INET, AF_INET6, SOCKADDR_BYTES, writeSocketAddress } from "./socket-address.ts";

const SOCK_STREAM_CLOEXEC = 1 | 0x80000;
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000;
const SOCK_NONBLOCK = 0x800;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

// Node cannot set SO_MARK before it connects, so the descriptor is made here and handed over.

/**
 * Connects a TCP socket that carries the firewall mark, so that it bypasses the tunnel's routes.
 *
 * Rejects with SystemCallError. The caller owns the socket.
 */
export async function connectMarked(remote: SocketAddress, mark: number): Promise<net.Socket> {
  const fd = openMarked(isIpv4(remote.ip) ? 4 : 6, SOCK_STREAM_CLOEXEC, mark);
  const block = new libc.PinnedBuffer(128);
  const length = writeSocketAddress(block.view, 0, remote);
  if ((await libc.connectAsync(fd, block.address, length)) < 0) {
    // errno is per thread; the pool thread's is gone, so the reason is not known here.
    libc.close(fd);
    throw new Error(`cannot connect to port ${remote.port}`);
  }
  return new net.Socket({ fd, readable: true, writable: true });
}

/**
 * Begins to connect a TCP socket that carries the firewall mark. Bytes may be written at once; a refusal
 * arrives as the socket's `error`. Unlike `connectMarked` it occupies no thread while it waits.
 *
 * Throws SystemCallError. The caller owns the socket.
 */
export function beginConnectMarked(remote: SocketAddress, mark: number): net.Socket {
  const fd = openMarked(isIpv4(remote.ip) ? 4 : 6, SOCK_STREAM_CLOEXEC | SOCK_NONBLOCK, mark);
  const block = new libc.PinnedBuffer(128);
  const length = writeSocketAddress(block.view, 0, remote);
  if (libc.connect(fd, block.address, length) < 0 && libc.errno() !== os.constants.errno.EINPROGRESS) {
    const error = new libc.SystemCallError("connect", libc.errno());
    libc.close(fd);
    throw error;
  }
  return new net.Socket({ fd, readable: true, writable: true });
}

/** A UDP descriptor with the mark, bound to the wildcard address; undefined if that family cannot be bound. */
export function openMarkedDatagramSocket(family: 4 | 6, port: number, mark: number): number | undefined {
  const fd = openMarked(family, SOCK_DGRAM_CLOEXEC, mark);
  const block = new libc.PinnedBuffer(128);
  const wildcard = (family === 4 ? "0.0.0.0" : "::") as IpAddress;
  if (family === 6) libc.setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  for (const candidate of [port, 0]) {
    block.bytes.fill(0, 0, SOCKADDR_BYTES);
    const length = writeSocketAddress(block.view, 0, { ip: wildcard, port: candidate });
    if (libc.bind(fd, block.address, length) === 0) return fd;
  }
  libc.close(fd);
  return undefined;
}

function openMarked(family: 4 | 6, type: number, mark: number): number {
  const fd = libc.checked(libc.socket(family === 4 ? AF_INET : AF_INET6, type, 0), "socket");
  if (!libc.setSocketOption(fd, SOL_SOCKET, SO_MARK, mark | 0)) {
    const error = new libc.SystemCallError("setsockopt(SO_MARK), which prevents routing loops", libc.errno());
    libc.close(fd);
    throw error;
  }
  return fd;
}
