import assert from "node:assert/strict";
import { test } from "node:test";
import { ip, parseSocketAddress, type SocketAddress } from "../../../host/core/address.ts";
import {
  type Candidate,
  type CandidateKind,
  candidatePriority,
  formatCandidate,
  isUsableAddress,
  optimisticCandidates,
  parseCandidate,
  peerReflexivePriority,
} from "../../../host/core/ice/candidate.ts";

const v4 = ip("10.0.0.1");
const v6 = ip("2001:db8::1");

test("priorities are those of connectivity 7.2, and each further candidate of a kind is a little lower", () => {
  assert.equal(candidatePriority("host", v6, 0), 2130706431);
  assert.equal(candidatePriority("host", v4, 0), 2130706175);
  assert.equal(candidatePriority("server-reflexive", v6, 0), 1686110207);
  assert.equal(candidatePriority("server-reflexive", v4, 0), 1686109951);
  assert.equal(candidatePriority("relayed", v6, 0), 37748735);
  assert.equal(candidatePriority("relayed", v4, 0), 37748479);
  assert.equal(candidatePriority("relayed", v6, 0, "other"), 37492735);
  assert.equal(candidatePriority("relayed", v4, 0, "other"), 37492479);
  assert.equal(candidatePriority("host", v4, 3), 2130706175 - 3 * 2 * 256);
});

test("a check states the priority of the peer-reflexive twin of its local candidate", () => {
  assert.equal(peerReflexivePriority(candidate("host", "[2001:db8::1]:1", 2130706431)), 1862270975);
  assert.equal(peerReflexivePriority(candidate("host", "10.0.0.1:1", 2130706175)), 1862270719);
});

test("reads the example strings of connectivity 7.3 and of the portal", () => {
  assert.deepEqual(parseCandidate("candidate:1 1 udp 2130706175 10.0.0.5 52625 typ host")?.candidate, {
    kind: "host",
    address: address("10.0.0.5:52625"),
    priority: 2130706175,
  });
  assert.deepEqual(
    parseCandidate("candidate:2 1 udp 1694498559 203.0.113.9 40000 typ srflx raddr 0.0.0.0 rport 0")
      ?.candidate,
    { kind: "server-reflexive", address: address("203.0.113.9:40000"), priority: 1694498559 },
  );
});

test("takes key and value parts in any order, more than one space, and UDP in any case", () => {
  const parsed = parseCandidate(
    "candidate:ab  1 UDP 5 2001:db8::7 1 typ relay network-id 3 ufrag abcd rport 0 raddr :: generation 0",
  );
  assert.equal(parsed?.candidate.kind, "relayed");
  assert.equal(parsed?.ufrag, "abcd");
});

test("writes positional strings with placeholders for the base, and reads them back", () => {
  const cases: [CandidateKind, string, RegExp][] = [
    ["host", "10.0.0.5:52625", / udp 77 10\.0\.0\.5 52625 typ host$/],
    ["server-reflexive", "203.0.113.9:40000", / typ srflx raddr 0\.0\.0\.0 rport 0$/],
    ["relayed", "[2001:db8::7]:50000", / 2001:db8::7 50000 typ relay raddr :: rport 0$/],
    ["peer-reflexive", "203.0.113.9:40001", / typ prflx raddr 0\.0\.0\.0 rport 0$/],
  ];
  for (const [kind, text, pattern] of cases) {
    const original = candidate(kind, text, 77);
    const formatted = formatCandidate(original);
    assert.match(formatted, /^candidate:[0-9a-f]{1,8} 1 udp /);
    assert.match(formatted, pattern);
    assert.deepEqual(parseCandidate(formatted), { candidate: original, ufrag: undefined });
  }
});

test("refuses strings that are no candidate", () => {
  for (const text of [
    "",
    "candidate:",
    "1 1 udp 1 10.0.0.5 1 typ host",
    "candidate: 1 udp 1 10.0.0.5 1 typ host",
    `candidate:${"f".repeat(33)} 1 udp 1 10.0.0.5 1 typ host`,
    "candidate:1 2 udp 1 10.0.0.5 1 typ host",
    "candidate:1 1 tcp 1 10.0.0.5 1 typ host",
    "candidate:1 1 udp x 10.0.0.5 1 typ host",
    "candidate:1 1 udp 4294967296 10.0.0.5 1 typ host",
    "candidate:1 1 udp 1 10.0.0.500 1 typ host",
    "candidate:1 1 udp 1 example.com 1 typ host",
    "candidate:1 1 udp 1 10.0.0.5 65536 typ host",
    "candidate:1 1 udp 1 10.0.0.5 0 typ host",
    "candidate:1 1 udp 1 10.0.0.5 1 typ hos",
    "candidate:1 1 udp 1 10.0.0.5 1",
    `candidate:1 1 udp 1 10.0.0.5 1 typ host ${"x ".repeat(300)}`,
  ]) {
    assert.equal(parseCandidate(text), undefined, text);
  }
});

test("refuses addresses that nobody can be reached at, and allows loopback", () => {
  for (const text of [
    "169.254.1.1:1",
    "255.255.255.255:1",
    "224.0.0.1:1",
    "0.0.0.0:1",
    "[ff02::1]:1",
    "[::]:1",
    "10.0.0.1:0",
  ]) {
    assert.equal(isUsableAddress(address(text)), false, text);
  }
  for (const text of ["127.0.0.1:1", "[::1]:1", "[fe80::1]:1", "100.64.0.1:65535"]) {
    assert.equal(isUsableAddress(address(text)), true, text);
  }
});

test("guesses reflexive IP with host port for IPv4 only, two at a time (connectivity 17.19)", () => {
  const remotes = [
    candidate("host", "10.0.0.1:52625", 1),
    candidate("host", "10.0.1.1:52625", 1),
    candidate("host", "10.0.2.1:7", 1),
    candidate("host", "10.0.2.1:8", 1),
    candidate("host", "[2001:db8::1]:9", 1),
    candidate("server-reflexive", "1.1.1.1:40000", 1),
    candidate("server-reflexive", "[2001:db8::2]:40000", 1),
  ];
  const first = optimisticCandidates(remotes);
  assert.deepEqual(
    first.map((guess) => guess.address),
    [address("1.1.1.1:52625"), address("1.1.1.1:7")],
  );
  assert.ok(first.every((guess) => guess.kind === "server-reflexive"));

  const second = optimisticCandidates([...remotes, ...first]);
  assert.deepEqual(
    second.map((guess) => guess.address),
    [address("1.1.1.1:8")],
  );
  assert.deepEqual(optimisticCandidates([...remotes, ...first, ...second]), []);
});

function candidate(kind: CandidateKind, text: string, priority: number): Candidate {
  return { kind, address: address(text), priority };
}

function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed, text);
  return parsed;
}
