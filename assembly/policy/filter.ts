import {
  FILTER_RULE_BYTES,
  FILTER_RULES_BASE,
  FILTER_SET_BYTES,
  FILTER_SETS_BASE,
  KIND_ECHO,
  KIND_ICMP,
  KIND_OTHER,
} from "../abi";

/**
 * Whether filter set `set` permits a packet of `kind` whose port towards the resource is `port`, in host order
 * (tunnel-core §15.1). Set 0 and sets without rules permit everything; `port` only matters for TCP and UDP.
 *
 * 0: refused. Otherwise permitted, and in a set with rules the n-th rule, counted from 1, is the first that does.
 */
export function filterPermits(set: i32, kind: i32, port: i32): i32 {
  const header = <usize>FILTER_SETS_BASE + <usize>set * FILTER_SET_BYTES;
  const count = load<u32>(header, 4);
  if (set === 0 || count === 0) return 1;
  if (kind === KIND_OTHER) return 0;

  // An ICMP rule permits echoes and every other ICMP type alike.
  const isIcmp = kind === KIND_ECHO || kind === KIND_ICMP;
  const wanted = isIcmp ? KIND_ICMP : kind;
  let rule = <usize>FILTER_RULES_BASE + <usize>load<u32>(header) * FILTER_RULE_BYTES;
  for (let n: u32 = 1; n <= count; n++) {
    if (<i32>load<u16>(rule) === wanted) {
      if (isIcmp) return n;
      if (port >= <i32>load<u16>(rule, 2) && port <= <i32>load<u16>(rule, 4)) return n;
    }
    rule += FILTER_RULE_BYTES;
  }
  return 0;
}
