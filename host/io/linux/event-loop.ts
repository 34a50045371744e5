import os from "node:os";
import * as libc from "./libc.ts";

const EPOLLIN = 1;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EFD_NONBLOCK_CLOEXEC = 0x800 | 0x80000;
// struct epoll_event is packed on x86-64 only.
const EVENT_BYTES = process.arch === "x64" ? 12 : 16;
const DATA_OFFSET = process.arch === "x64" ? 4 : 8;
const MAX_EVENTS = 8;

/** Waits for descriptors to become readable; each is known by a small number of the caller's. */
export class Epoll {
  readonly #fd = libc.checked(libc.epollCreate(0x80000), "epoll_create1");
  readonly #events = new libc.PinnedBuffer(MAX_EVENTS * EVENT_BYTES);
  readonly #scratch = new libc.PinnedBuffer(128);

  add(fd: number, key: number): void {
    this.#scratch.view.setUint32(0, EPOLLIN, true);
    this.#scratch.view.setUint32(DATA_OFFSET, key, true);
    libc.checked(libc.epollControl(this.#fd, EPOLL_CTL_ADD, fd, this.#scratch.address), "epoll_ctl");
  }

  remove(fd: number): void {
    libc.epollControl(this.#fd, EPOLL_CTL_DEL, fd, this.#scratch.address);
  }

  /** Blocks up to `timeoutMs` (−1: for ever); the number of ready descriptors, 0 after a signal too. */
  wait(timeoutMs: number): number {
    return this.#count(libc.epollWait(this.#fd, this.#events.address, MAX_EVENTS, timeoutMs));
  }

  async waitAsync(timeoutMs: number): Promise<number> {
    return this.#count(await libc.epollWaitAsync(this.#fd, this.#events.address, MAX_EVENTS, timeoutMs));
  }

  key(index: number): number {
    return this.#events.view.getUint32(index * EVENT_BYTES + DATA_OFFSET, true);
  }

  close(): void {
    libc.close(this.#fd);
  }

  #count(result: number): number {
    if (result >= 0) return result;
    const error = libc.errno();
    if (error === os.constants.errno.EINTR || error === 0) return 0;
    throw new libc.SystemCallError("epoll_wait", error);
  }
}

/** Wakes a thread that waits in `Epoll.wait`; works across the threads of one process. */
export class WakeUp {
  readonly fd: number;
  readonly #one = new libc.PinnedBuffer(128);

  /** Without `fd` a new one is made; with it, a wake-up of another thread is shared. */
  constructor(fd?: number) {
    this.fd = fd ?? libc.checked(libc.eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd");
    this.#one.view.setBigUint64(0, 1n, true);
  }

  signal(): void {
    libc.write(this.fd, this.#one.address, 8);
  }

  /** Makes the descriptor unreadable again. */
  clear(): void {
    libc.read(this.fd, this.#one.address + 64, 8);
  }

  close(): void {
    libc.close(this.fd);
  }
}
