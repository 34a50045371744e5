import fs from "node:fs";
import os from "node:os";
import * as libc from "./libc.ts";

const O_RDWR_NONBLOCK_CLOEXEC = 2 | 0x800 | 0x80000;
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;
/** From all offloads to none: kernels before 6.2 have no USO. */
const OFFLOAD_LADDER = [
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6,
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
  0,
];
const VIRTIO_HEADER_BYTES = 10;
/** One frame is at most 64 KiB of packet behind its header. */
export const MAX_FRAME_BYTES = VIRTIO_HEADER_BYTES + 65535;
const INTERFACE_NAME_BYTES = 16;

/** Memory that frames are read into and written from; the packet core's, seen from outside. */
export interface FrameMemory {
  readonly address: number;
  readonly inBase: number;
  readonly inBytes: number;
  readonly capacity: number;
  describe(index: number, offset: number, length: number): void;
}

/**
 * A TUN device with the virtio header on every frame.
 *
 * Not persistent: closing the descriptor (or dying) removes the device and its routes.
 * Throws SystemCallError; EBUSY means that another process holds the name.
 */
export class Tun {
  readonly fd: number;
  readonly name: string;
  /** The device accepts and delivers TSO (and maybe USO) super-packets. */
  readonly offload: "tcp-and-udp" | "tcp" | "none";
  readonly counters = { readFrames: 0, writtenFrames: 0, writeErrors: 0 };
  readonly #memory: FrameMemory;

  constructor(name: string, memory: FrameMemory) {
    if (Buffer.byteLength(name) >= INTERFACE_NAME_BYTES)
      throw new RangeError(`interface name too long: ${name}`);
    this.name = name;
    this.#memory = memory;
    ensureDeviceNode();
    this.fd = libc.checked(libc.open("/dev/net/tun", O_RDWR_NONBLOCK_CLOEXEC), "open(/dev/net/tun)");
    try {
      this.#attach(name);
      this.offload = this.#enableOffload();
    } catch (error) {
      libc.close(this.fd);
      throw error;
    }
  }

  /** Reads frames one behind the other until the device is empty or the memory is full; their number. */
  readFrames(): number {
    const { inBase, inBytes, capacity, address } = this.#memory;
    const end = inBase + inBytes;
    let at = inBase;
    let count = 0;
    while (count < capacity && at + MAX_FRAME_BYTES <= end) {
      const length = libc.read(this.fd, address + at, MAX_FRAME_BYTES);
      if (length <= 0) break;
      this.#memory.describe(count++, at, length);
      // Frames start on cache lines, so that packet headers do not straddle more lines than they must.
      at = (at + length + 63) & ~63;
    }
    this.counters.readFrames += count;
    return count;
  }

  writeFrame(offset: number, length: number): boolean {
    if (libc.write(this.fd, this.#memory.address + offset, length) >= 0) {
      this.counters.writtenFrames += 1;
      return true;
    }
    this.counters.writeErrors += 1;
    return false;
  }

  close(): void {
    libc.close(this.fd);
  }

  #attach(name: string): void {
    const request = new libc.PinnedBuffer(128);
    request.bytes.set(Buffer.from(name));
    request.view.setUint16(INTERFACE_NAME_BYTES, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true);
    if (libc.ioctl(this.fd, TUNSETIFF, request.address) < 0) throw attachFailure(name, libc.errno());
    request.view.setInt32(0, VIRTIO_HEADER_BYTES, true);
    libc.checked(libc.ioctl(this.fd, TUNSETVNETHDRSZ, request.address), "ioctl(TUNSETVNETHDRSZ)");
  }

  #enableOffload(): "tcp-and-udp" | "tcp" | "none" {
    const level = OFFLOAD_LADDER.findIndex((flags) => libc.ioctl(this.fd, TUNSETOFFLOAD, flags) === 0);
    return level === 0 ? "tcp-and-udp" : level === 1 ? "tcp" : "none";
  }
}

function attachFailure(name: string, errno: number): Error {
  const failure = new libc.SystemCallError(`create TUN device ${name}`, errno);
  if (failure.code === "EBUSY")
    failure.message += ": another process uses it; end that one, or choose another name";
  return failure;
}

function ensureDeviceNode(): void {
  if (fs.existsSync("/dev/net/tun")) return;
  throw new libc.SystemCallError("open(/dev/net/tun)", os.constants.errno.ENOENT);
}
