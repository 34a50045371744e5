import { Epoll, type WakeUp } from "../io/linux/event-loop.ts";
import type { DataLoop } from "./data-loop.ts";

const TUN = 0;
const UDP_V4 = 1;
const UDP_V6 = 2;
const WAKE = 3;
/** Batches of one kind in a row before the others get their turn. */
const BATCH_BUDGET = 8;

export interface DriverParts {
  readonly loop: DataLoop<never, unknown>;
  readonly tunFd: number;
  /** Descriptors of the sockets; undefined where a family is missing. */
  readonly udpFds: { readonly v4: number | undefined; readonly v6: number | undefined };
  readonly wake: WakeUp;
  /** Handles messages of the control thread that have arrived; called after each wake-up. */
  readonly receiveMessages: () => void;
  readonly stopped: () => boolean;
}

/** The native driver: one thread, one `epoll_wait`, until stopped. */
export function runBlocking(parts: DriverParts): void {
  const { loop, wake } = parts;
  const epoll = new Epoll();
  epoll.add(parts.tunFd, TUN);
  if (parts.udpFds.v4 !== undefined) epoll.add(parts.udpFds.v4, UDP_V4);
  if (parts.udpFds.v6 !== undefined) epoll.add(parts.udpFds.v6, UDP_V6);
  epoll.add(wake.fd, WAKE);

  while (!parts.stopped()) {
    const ready = epoll.wait(loop.sleepMs());
    for (let i = 0; i < ready; i++) {
      switch (epoll.key(i)) {
        case TUN:
          drainTun(loop);
          break;
        case UDP_V4:
          drainUdp(loop, 4);
          break;
        case UDP_V6:
          drainUdp(loop, 6);
          break;
        case WAKE:
          wake.clear();
          parts.receiveMessages();
          break;
      }
    }
    loop.handleTimeout();
  }
  epoll.close();
}

/**
 * The portable driver: Node's event loop carries sockets, timers and messages; only the TUN device is
 * waited for with epoll, on a pool thread.
 */
export class PortableDriver {
  readonly #parts: DriverParts;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: DriverParts) {
    this.#parts = parts;
  }

  /** Runs until stopped. */
  async run(): Promise<void> {
    const { tunFd, wake, stopped, receiveMessages, loop } = this.#parts;
    const epoll = new Epoll();
    epoll.add(tunFd, TUN);
    epoll.add(wake.fd, WAKE);
    this.#settle();
    while (!stopped()) {
      const ready = await epoll.waitAsync(-1);
      for (let i = 0; i < ready; i++) {
        if (epoll.key(i) === WAKE) {
          wake.clear();
          receiveMessages();
        } else {
          drainTun(loop);
        }
      }
      this.#settle();
    }
    clearTimeout(this.#timer);
    epoll.close();
  }

  /** A socket has datagrams. */
  handleReadable(family: 4 | 6): void {
    setImmediate(() => {
      if (this.#parts.stopped()) return;
      if (drainUdp(this.#parts.loop, family)) this.handleReadable(family);
      this.#settle();
    });
  }

  #settle(): void {
    this.#parts.loop.handleTimeout();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#settle(), Math.max(this.#parts.loop.sleepMs(), 1));
  }
}

function drainTun(loop: DataLoop<never, unknown>): void {
  for (let i = 0; i < BATCH_BUDGET && loop.handleTun(); i++);
}

/** True when the budget ended before the queue did. */
function drainUdp(loop: DataLoop<never, unknown>, family: 4 | 6): boolean {
  for (let i = 0; i < BATCH_BUDGET; i++) if (!loop.handleUdp(family)) return false;
  return true;
}
