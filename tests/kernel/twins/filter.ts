// Slow twin of assembly/policy/filter.ts, and the writer of filter sets (tunnel-core §15.1).
import {
  FILTER_RULE_BYTES,
  FILTER_RULES_BASE,
  FILTER_SET_BYTES,
  FILTER_SETS_BASE,
  KIND_ECHO,
  KIND_ICMP,
  type KIND_TCP,
  type KIND_UDP,
} from "../../../assembly/abi.ts";

export interface Rule {
  readonly kind: typeof KIND_TCP | typeof KIND_UDP | typeof KIND_ICMP;
  readonly first: number;
  readonly last: number;
}

export function permitsSlowly(rules: readonly Rule[], kind: number, port: number): boolean {
  if (rules.length === 0) return true;
  if (kind === KIND_ECHO || kind === KIND_ICMP) return rules.some((rule) => rule.kind === KIND_ICMP);
  return rules.some((rule) => rule.kind === kind && port >= rule.first && port <= rule.last);
}

export function writeFilterSet(view: DataView, set: number, firstRule: number, rules: readonly Rule[]): void {
  const header = FILTER_SETS_BASE + set * FILTER_SET_BYTES;
  view.setUint32(header, firstRule, true);
  view.setUint32(header + 4, rules.length, true);
  rules.forEach((rule, i) => {
    const at = FILTER_RULES_BASE + (firstRule + i) * FILTER_RULE_BYTES;
    view.setUint16(at, rule.kind, true);
    view.setUint16(at + 2, rule.first, true);
    view.setUint16(at + 4, rule.last, true);
  });
}
