import os from "node:os";
import koffi from "koffi";

// Pointers cross as plain numbers (addresses are below 2^53): no object is made per call.
const POINTER = "int64";
const libc = koffi.load("libc.so.6");

export const open: (path: string, flags: number) => number = libc.func("open", "int", ["str", "int"]);
export const close: (fd: number) => number = libc.func("close", "int", ["int"]);
export const read: (fd: number, address: number, length: number) => number = libc.func("read", POINTER, [
  "int",
  POINTER,
  POINTER,
]);
export const write: (fd: number, address: number, length: number) => number = libc.func("write", POINTER, [
  "int",
  POINTER,
  POINTER,
]);
export const ioctl: (fd: number, request: number, address: number) => number = libc.func("ioctl", "int", [
  "int",
  POINTER,
  POINTER,
]);
export const socket: (family: number, type: number, protocol: number) => number = libc.func("socket", "int", [
  "int",
  "int",
  "int",
]);
export const bind: (fd: number, address: number, length: number) => number = libc.func("bind", "int", [
  "int",
  POINTER,
  "int",
]);
export const connect: (fd: number, address: number, length: number) => number = libc.func("connect", "int", [
  "int",
  POINTER,
  "int",
]);
export const getsockname: (fd: number, address: number, length: number) => number = libc.func(
  "getsockname",
  "int",
  ["int", POINTER, POINTER],
);
export const setsockopt: (
  fd: number,
  level: number,
  option: number,
  address: number,
  length: number,
) => number = libc.func("setsockopt", "int", ["int", "int", "int", POINTER, "int"]);
export const sendmsg: (fd: number, message: number, flags: number) => number = libc.func("sendmsg", POINTER, [
  "int",
  POINTER,
  "int",
]);
export const recvmmsg: (
  fd: number,
  messages: number,
  count: number,
  flags: number,
  timeout: number,
) => number = libc.func("recvmmsg", "int", ["int", POINTER, "int", "int", POINTER]);
export const poll: (fds: number, count: number, timeoutMs: number) => number = libc.func("poll", "int", [
  POINTER,
  "int64",
  "int",
]);
export const eventfd: (initial: number, flags: number) => number = libc.func("eventfd", "int", [
  "int",
  "int",
]);
export const epollCreate: (flags: number) => number = libc.func("epoll_create1", "int", ["int"]);
export const epollControl: (epoll: number, operation: number, fd: number, event: number) => number =
  libc.func("epoll_ctl", "int", ["int", "int", "int", POINTER]);

const epollWaitFunction = libc.func("epoll_wait", "int", ["int", POINTER, "int", "int"]);
export const epollWait: (epoll: number, events: number, capacity: number, timeoutMs: number) => number =
  epollWaitFunction;

/** The same call on a pool thread: for runtimes whose event loop must go on. */
export function epollWaitAsync(
  epoll: number,
  events: number,
  capacity: number,
  timeoutMs: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    epollWaitFunction.async(epoll, events, capacity, timeoutMs, (error: Error | null, count: number) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

const connectFunction = libc.func("connect", "int", ["int", POINTER, "int"]);

/** Blocking connect on a pool thread; resolves to 0 or −1. */
export function connectAsync(fd: number, address: number, length: number): Promise<number> {
  return new Promise((resolve, reject) => {
    connectFunction.async(fd, address, length, (error: Error | null, result: number) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}

export function errno(): number {
  return koffi.errno();
}

/** A system call failed. `code` is the errno's name, as in Node's own errors. */
export class SystemCallError extends Error {
  readonly code: string;
  readonly errno: number;

  constructor(call: string, number: number) {
    const code = errnoName(number);
    super(`${call}: ${code}`);
    this.name = "SystemCallError";
    this.code = code;
    this.errno = number;
  }
}

/** Passes the result through; throws what errno says if it is negative. */
export function checked(result: number, call: string): number {
  if (result < 0) throw new SystemCallError(call, errno());
  return result;
}

export function errnoName(number: number): string {
  for (const [name, value] of Object.entries(os.constants.errno)) if (value === number) return name;
  return `errno ${number}`;
}

/** Memory whose address the kernel may keep: an off-heap buffer that the garbage collector never moves. */
export class PinnedBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;

  constructor(length: number) {
    // Node keeps arrays of up to 64 bytes on its moving heap.
    const buffer = Buffer.allocUnsafeSlow(Math.max(length, 128));
    buffer.fill(0);
    this.bytes = buffer;
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    this.address = addressOf(buffer);
  }

  setPointer(offset: number, address: number): void {
    this.view.setUint32(offset, address >>> 0, true);
    this.view.setUint32(offset + 4, Math.floor(address / 0x1_0000_0000), true);
  }
}

/** Address of memory that does not move (Wasm memory of fixed size, buffers above 64 bytes). */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi.address(bytes));
}

export function setSocketOption(fd: number, level: number, option: number, value: number): boolean {
  const buffer = optionBuffer;
  buffer.view.setInt32(0, value, true);
  return setsockopt(fd, level, option, buffer.address, 4) === 0;
}

const optionBuffer = new PinnedBuffer(128);
