import {
  DROP_FRAGMENT,
  DROP_MALFORMED,
  DROP_NONE,
  DROP_OVERSIZED,
  KIND_ECHO,
  KIND_ICMP,
  KIND_UDP,
  MAX_PACKET_BYTES,
  TUN_IN_BASE,
} from "../abi";
import { delta16, finishL4, ipv4HeaderChecksum, sum, updated, updateField } from "../ip/checksum";
import {
  isControlFrame,
  parse,
  parsedKind,
  parsedL4,
  parsedLength,
  parsedPorts,
  parsePadded,
} from "../ip/parse";
import { mergeEcn } from "../ip/rewrite";

const PACKET: usize = TUN_IN_BASE;
const UDP = 17;

function be16(at: usize, value: u16): void {
  store<u16>(PACKET + at, bswap<u16>(value));
}

/** A UDP/IPv4 packet of `length` bytes with right checksums, zero payload. */
function udpIpv4(length: u16): void {
  memory.fill(PACKET, 0, length);
  store<u8>(PACKET, 0x45);
  be16(2, length);
  store<u8>(PACKET, 64, 8);
  store<u8>(PACKET, UDP, 9);
  be16(12, 0x6440);
  be16(14, 0x0001);
  be16(16, 0x0a00);
  be16(18, 0x0001);
  be16(20, 4000);
  be16(22, 53);
  be16(24, length - 20);
  ipv4HeaderChecksum(PACKET, 20);
  finishL4(PACKET, 4, PACKET + 20, UDP, length - 20);
}

describe("parse", () => {
  it("accepts 1280 bytes and refuses 1281", () => {
    udpIpv4(1280);
    expect(parse(PACKET, 1280, MAX_PACKET_BYTES)).toBe(DROP_NONE);
    expect(parsedKind).toBe(KIND_UDP);
    expect(parsedL4).toBe(20);
    expect(parsedPorts).toBe(bswap<u32>((4000 << 16) | 53));
    udpIpv4(1281);
    expect(parse(PACKET, 1281, MAX_PACKET_BYTES)).toBe(DROP_OVERSIZED);
  });

  it("refuses fragments", () => {
    udpIpv4(100);
    be16(6, 0x2000);
    expect(parse(PACKET, 100, MAX_PACKET_BYTES)).toBe(DROP_FRAGMENT);
    be16(6, 0x4000);
    expect(parse(PACKET, 100, MAX_PACKET_BYTES)).toBe(DROP_NONE);
  });

  it("tolerates bytes behind the length field only as padding", () => {
    udpIpv4(100);
    expect(parse(PACKET, 112, MAX_PACKET_BYTES)).toBe(DROP_MALFORMED);
    expect(parsePadded(PACKET, 112, MAX_PACKET_BYTES)).toBe(DROP_NONE);
    expect(parsedLength).toBe(100);
  });

  it("tells echoes from other ICMP", () => {
    udpIpv4(28);
    store<u8>(PACKET, 1, 9);
    store<u8>(PACKET, 8, 20);
    store<u8>(PACKET, 0, 21);
    expect(parse(PACKET, 28, MAX_PACKET_BYTES)).toBe(DROP_NONE);
    expect(parsedKind).toBe(KIND_ECHO);
    store<u8>(PACKET, 3, 20);
    expect(parse(PACKET, 28, MAX_PACKET_BYTES)).toBe(DROP_NONE);
    expect(parsedKind).toBe(KIND_ICMP);
  });

  it("recognises a Goodbye as control frame", () => {
    memory.fill(PACKET, 0, 48);
    store<u8>(PACKET, 0x60);
    be16(4, 8);
    store<u8>(PACKET, 255, 6);
    store<u8>(PACKET, 2, 40);
    expect(parse(PACKET, 48, MAX_PACKET_BYTES)).toBe(DROP_NONE);
    expect(isControlFrame(PACKET)).toBe(true);
  });
});

describe("checksum", () => {
  it("verifies over what it wrote", () => {
    udpIpv4(61);
    expect(sum(PACKET, 20, 0)).toBe(0xffff);
  });

  it("gives the result of RFC 1624 section 4", () => {
    expect(updated(0x2fdd, delta16(0x5555, 0x8532))).toBe(0);
  });

  it("keeps an absent UDP checksum absent", () => {
    store<u16>(PACKET, 0);
    updateField(PACKET, 0x1234, 1);
    expect(load<u16>(PACKET)).toBe(0);
  });
});

describe("ECN", () => {
  it("marks a capable packet and keeps the header checksum right", () => {
    udpIpv4(60);
    store<u8>(PACKET, 2, 1);
    ipv4HeaderChecksum(PACKET, 20);
    mergeEcn(PACKET, 3);
    expect(load<u8>(PACKET, 1)).toBe(3);
    expect(sum(PACKET, 20, 0)).toBe(0xffff);
  });

  it("leaves a packet alone that is not capable", () => {
    udpIpv4(60);
    mergeEcn(PACKET, 3);
    expect(load<u8>(PACKET, 1)).toBe(0);
  });
});
