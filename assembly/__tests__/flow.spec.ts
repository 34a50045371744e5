import {
  FLOW_BYTES,
  FLOW_DESTINATION,
  FLOW_KEY,
  FLOW_PEER,
  FLOW_PORTS,
  FLOW_SCOPE_TUN,
  FLOW_SOURCE,
  GLOBAL_EPOCH,
  PEER_BYTES,
  PEER_EPOCH,
  PEERS_BASE,
  TUN_IN_BASE,
} from "../abi";
import { flowAdd, flowFind } from "../flow/table";
import { parse } from "../ip/parse";

const PACKET: usize = TUN_IN_BASE;
const TEMPLATE: usize = TUN_IN_BASE + 2048;
const PEER = 5;

/** Parses a UDP/IPv4 packet and writes the template of its flow. */
function prepare(sourcePort: u16): void {
  memory.fill(PACKET, 0, 28);
  store<u8>(PACKET, 0x45);
  store<u8>(PACKET, 28, 3);
  store<u8>(PACKET, 17, 9);
  store<u32>(PACKET, 0x01000064, 12);
  store<u32>(PACKET, 0x0100000a, 16);
  store<u16>(PACKET, sourcePort, 20);
  store<u8>(PACKET, 8, 25);
  parse(PACKET, 28, 1280);

  memory.fill(TEMPLATE, 0, FLOW_BYTES);
  store<u32>(TEMPLATE, 0x01000064, FLOW_SOURCE);
  store<u32>(TEMPLATE, 0x0100000a, FLOW_DESTINATION);
  store<u16>(TEMPLATE, sourcePort, FLOW_PORTS);
  store<u32>(TEMPLATE, (FLOW_SCOPE_TUN << 16) | (4 << 8) | 17, FLOW_KEY);
  store<u32>(TEMPLATE, PEER, FLOW_PEER);
}

describe("flow table", () => {
  it("finds what was installed, in its scope only", () => {
    prepare(1000);
    const entry = flowAdd(TEMPLATE);
    expect(entry).not.toBe(0);
    expect(flowFind(PACKET, FLOW_SCOPE_TUN)).toBe(entry);
    expect(flowFind(PACKET, PEER)).toBe(0);
    prepare(1001);
    expect(flowFind(PACKET, FLOW_SCOPE_TUN)).toBe(0);
  });

  it("misses once an epoch changed", () => {
    const peerEpoch = <usize>PEERS_BASE + PEER * PEER_BYTES + PEER_EPOCH;
    prepare(1000);
    flowAdd(TEMPLATE);
    store<u32>(peerEpoch, load<u32>(peerEpoch) + 1);
    expect(flowFind(PACKET, FLOW_SCOPE_TUN)).toBe(0);
    flowAdd(TEMPLATE);
    expect(flowFind(PACKET, FLOW_SCOPE_TUN)).not.toBe(0);
    store<u32>(GLOBAL_EPOCH, load<u32>(GLOBAL_EPOCH) + 1);
    expect(flowFind(PACKET, FLOW_SCOPE_TUN)).toBe(0);
  });
});
