import * as abi from "../../assembly/abi.ts";
import type { FilterId, FilterRule } from "../core/packet-core.ts";
import type { LinearMemory } from "./engine.ts";

const KINDS = { tcp: abi.KIND_TCP, udp: abi.KIND_UDP, icmp: abi.KIND_ICMP } as const;
const KIND_NAMES = ["tcp", "udp", "icmp"] as const;

interface Span {
  first: number;
  count: number;
}

/** Filter sets and their rules in linear memory; the core only reads them. Set 0 is the one that permits everything. */
export class FilterPool {
  readonly #view: DataView;
  readonly #freeSets: FilterId[] = [];
  #nextSet: FilterId = 1;
  /** Free rules, ascending, no two spans adjacent. */
  #free: Span[] = [{ first: 0, count: abi.FILTER_RULE_CAPACITY }];

  constructor(memory: LinearMemory) {
    this.#view = new DataView(memory.buffer);
  }

  /** Throws a RangeError when sets or rules are exhausted. */
  add(rules: readonly FilterRule[]): FilterId {
    if (rules.length === 0) return 0;
    const span = this.#free.find((free) => free.count >= rules.length);
    const isFull = this.#freeSets.length === 0 && this.#nextSet === abi.FILTER_SET_CAPACITY;
    if (span === undefined || isFull) throw new RangeError("no room for another packet filter");

    const id = this.#freeSets.pop() ?? this.#nextSet++;
    const first = span.first;
    span.first += rules.length;
    span.count -= rules.length;
    if (span.count === 0) this.#free = this.#free.filter((free) => free !== span);
    for (const [i, rule] of rules.entries()) this.#writeRule(first + i, rule);
    this.#writeSet(id, first, rules.length);
    return id;
  }

  /** The n-th rule of a set, counted from 1; undefined for a set without rules. */
  rule(id: FilterId, n: number): FilterRule | undefined {
    const set = abi.FILTER_SETS_BASE + id * abi.FILTER_SET_BYTES;
    if (id === 0 || n > this.#view.getUint32(set + 4, true)) return undefined;
    return this.#readRule(this.#view.getUint32(set, true) + n - 1);
  }

  /** Does nothing for 0 and for sets that are not there. */
  remove(id: FilterId): void {
    const at = abi.FILTER_SETS_BASE + id * abi.FILTER_SET_BYTES;
    if (id <= 0 || id >= abi.FILTER_SET_CAPACITY) return;
    const count = this.#view.getUint32(at + 4, true);
    if (count === 0) return;

    this.#release({ first: this.#view.getUint32(at, true), count });
    this.#writeSet(id, 0, 0);
    this.#freeSets.push(id);
  }

  #release(span: Span): void {
    const spans = [...this.#free, span].sort((a, b) => a.first - b.first);
    const merged: Span[] = [];
    for (const next of spans) {
      const last = merged.at(-1);
      if (last !== undefined && last.first + last.count === next.first) last.count += next.count;
      else merged.push(next);
    }
    this.#free = merged;
  }

  #writeSet(id: FilterId, first: number, count: number): void {
    const at = abi.FILTER_SETS_BASE + id * abi.FILTER_SET_BYTES;
    this.#view.setUint32(at, first, true);
    this.#view.setUint32(at + 4, count, true);
  }

  #readRule(index: number): FilterRule | undefined {
    const at = abi.FILTER_RULES_BASE + index * abi.FILTER_RULE_BYTES;
    const kind = KIND_NAMES.find((name) => KINDS[name] === this.#view.getUint16(at, true));
    const firstPort = this.#view.getUint16(at + 2, true);
    return kind === undefined ? undefined : { kind, firstPort, lastPort: this.#view.getUint16(at + 4, true) };
  }

  #writeRule(index: number, rule: FilterRule): void {
    const at = abi.FILTER_RULES_BASE + index * abi.FILTER_RULE_BYTES;
    this.#view.setUint16(at, KINDS[rule.kind], true);
    this.#view.setUint16(at + 2, rule.firstPort, true);
    this.#view.setUint16(at + 4, rule.lastPort, true);
    this.#view.setUint16(at + 6, 0, true);
  }
}
