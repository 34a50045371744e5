// Slow twin of assembly/nat: tunnel-core §14 on plain maps and plain (unwrapped) milliseconds.
import {
  KIND_TCP,
  NAT_TTL_FIN_MS,
  NAT_TTL_TCP_MS,
  NAT_TTL_UDP_MS,
  NAT_TTL_UNCONFIRMED_MS,
} from "../../../assembly/abi.ts";

export interface NatKey {
  readonly owner: number;
  readonly kind: number;
  readonly value: number;
  /** Proxy IP of an inside key, real IP of an outside key. */
  readonly address: string;
}

export interface SlowEntry {
  readonly inside: NatKey;
  readonly outside: NatKey;
  packetAt: number;
  outgoingAt: number;
  isConfirmed: boolean;
  hasFinOutgoing: boolean;
  hasFinIncoming: boolean;
  hasRst: boolean;
}

const text = (key: NatKey): string => `${key.owner} ${key.kind} ${key.value} ${key.address}`;

export class SlowNat {
  readonly #byInside = new Map<string, SlowEntry>();
  readonly #byOutside = new Map<string, SlowEntry>();
  readonly #expired = new Map<string, NatKey>();

  get count(): number {
    return this.#byInside.size;
  }

  get live(): SlowEntry[] {
    return [...this.#byInside.values()];
  }

  outgoing(inside: NatKey, real: string, now: number): SlowEntry | undefined {
    const known = this.#byInside.get(text(inside));
    if (known !== undefined) {
      this.note(known, "outgoing", 0, now);
      return known;
    }
    const outside = this.#freeOutside(inside, real);
    if (outside === undefined) return undefined;
    const entry: SlowEntry = {
      inside,
      outside,
      packetAt: now,
      outgoingAt: now,
      isConfirmed: false,
      hasFinOutgoing: false,
      hasFinIncoming: false,
      hasRst: false,
    };
    this.#byInside.set(text(inside), entry);
    this.#byOutside.set(text(outside), entry);
    this.#expired.delete(text(outside));
    return entry;
  }

  incoming(outside: NatKey, now: number): SlowEntry | "expired" | "none" {
    const entry = this.#byOutside.get(text(outside));
    if (entry === undefined) return this.#expired.has(text(outside)) ? "expired" : "none";
    this.note(entry, "incoming", 0, now);
    return entry;
  }

  note(entry: SlowEntry, direction: "outgoing" | "incoming", tcpFlags: number, now: number): void {
    entry.packetAt = now;
    if (direction === "outgoing") entry.outgoingAt = now;
    else entry.isConfirmed = true;
    if (entry.inside.kind !== KIND_TCP) return;
    const [hasFin, hasSyn, hasRst, hasAck] = [1, 2, 4, 16].map((bit) => (tcpFlags & bit) !== 0);
    if (hasSyn && !hasAck) entry.hasFinOutgoing = entry.hasFinIncoming = entry.hasRst = false;
    if (hasFin && direction === "outgoing") entry.hasFinOutgoing = true;
    if (hasFin && direction === "incoming") entry.hasFinIncoming = true;
    if (hasRst) entry.hasRst = true;
  }

  reset(owner: number): void {
    for (const entry of this.live) if (entry.inside.owner === owner) this.#remove(entry);
    for (const [name, key] of this.#expired) if (key.owner === owner) this.#expired.delete(name);
  }

  tick(now: number): number {
    const due = this.live.filter((entry) => isDue(entry, now));
    for (const entry of due) {
      this.#remove(entry);
      this.#expired.set(text(entry.outside), entry.outside);
    }
    return due.length;
  }

  #remove(entry: SlowEntry): void {
    this.#byInside.delete(text(entry.inside));
    this.#byOutside.delete(text(entry.outside));
  }

  #freeOutside(inside: NatKey, real: string): NatKey | undefined {
    for (let value = inside.value; value <= 0xffff; value++) {
      const outside = { ...inside, value, address: real };
      if (!this.#byOutside.has(text(outside))) return outside;
    }
    for (let value = 1; value < inside.value; value++) {
      const outside = { ...inside, value, address: real };
      if (!this.#byOutside.has(text(outside))) return outside;
    }
    return undefined;
  }
}

function isDue(entry: SlowEntry, now: number): boolean {
  const ttl = entry.inside.kind === KIND_TCP ? NAT_TTL_TCP_MS : NAT_TTL_UDP_MS;
  return (
    entry.hasRst ||
    now >= entry.packetAt + ttl ||
    (!entry.isConfirmed && now >= entry.outgoingAt + NAT_TTL_UNCONFIRMED_MS) ||
    (entry.hasFinOutgoing && entry.hasFinIncoming && now >= entry.packetAt + NAT_TTL_FIN_MS)
  );
}
