import assert from "node:assert/strict";
import { test } from "node:test";
import { ip as address } from "../../../host/core/address.ts";
import type { ResourceId } from "../../../host/core/id.ts";
import {
  decodeControlFrame,
  encodeAssignedIps,
  encodeDomainStatus,
  encodeGoodbye,
} from "../../../host/core/packet/control-frame.ts";
import { ip, udp } from "./packets.ts";

const RESOURCE = "9d4b79f6-1db7-4cb3-a077-712102204d73" as ResourceId;
const UNSPECIFIED = { from: address("::"), to: address("::") };
const PROXIES = ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"].map(address);

test("Goodbye is 48 bytes of known content (tunnel-core 24.5)", () => {
  const expected = `600000000008ff00${"00".repeat(32)}0200000000000000`;
  assert.equal(Buffer.from(encodeGoodbye()).toString("hex"), expected);
  assert.deepEqual(decodeControlFrame(encodeGoodbye()), { kind: "goodbye" });
});

test("an unknown DomainStatus means inactive (tunnel-core 24.6)", () => {
  const body = { resource: RESOURCE, domain: "db.example.com", status: "what_is_this" };
  assert.deepEqual(decodeControlFrame(frame(1, JSON.stringify(body))), {
    kind: "domain-status",
    resource: RESOURCE,
    domain: "db.example.com",
    active: false,
  });
});

test("an unknown event is decoded as unknown (tunnel-core 24.7)", () => {
  assert.deepEqual(decodeControlFrame(frame(200, "whatever")), { kind: "unknown", event: 200 });
});

test("AssignedIps needs 4 or 8 proxy IPs (tunnel-core 24.8)", () => {
  const of = (count: number) =>
    encodeAssignedIps({
      resource: RESOURCE,
      domain: "db.example.com",
      proxyIps: Array.from({ length: count }, (_, i) => address(`100.96.0.${i + 1}`)),
    });
  for (const count of [0, 1, 3, 5, 7, 9]) assert.equal(of(count), undefined, `${count} addresses`);
  for (const count of [4, 8]) assert.notEqual(of(count), undefined, `${count} addresses`);
});

test("AssignedIps has its keys in order and survives the round trip", () => {
  const bytes = encodeAssignedIps({ resource: RESOURCE, domain: "db.example.com", proxyIps: PROXIES });
  assert.ok(bytes);
  assert.equal(
    new TextDecoder().decode(bytes.subarray(48)),
    `{"resource":"${RESOURCE}","domain":"db.example.com","proxy_ips":["100.96.0.1","100.96.0.2","100.96.0.3","100.96.0.4"]}`,
  );
  assert.equal(bytes[4]! * 256 + bytes[5]!, bytes.length - 40);
  assert.deepEqual(decodeControlFrame(bytes), {
    kind: "assigned-ips",
    resource: RESOURCE,
    domain: "db.example.com",
    proxyIps: PROXIES,
  });
});

test("DomainStatus survives the round trip", () => {
  for (const active of [true, false]) {
    const bytes = encodeDomainStatus({ resource: RESOURCE, domain: "db.example.com", active });
    assert.ok(bytes);
    assert.match(new TextDecoder().decode(bytes.subarray(48)), active ? /"Active"/ : /"Inactive"/);
    assert.deepEqual(decodeControlFrame(bytes), {
      kind: "domain-status",
      resource: RESOURCE,
      domain: "db.example.com",
      active,
    });
  }
});

test("accepts any key order, unknown keys, a trailing dot and capitals", () => {
  const body = `{"x":1,"proxy_ips":["100.96.0.9"],"domain":"DB.Example.com.","resource":"${RESOURCE.toUpperCase()}"}`;
  assert.deepEqual(decodeControlFrame(frame(0, body)), {
    kind: "assigned-ips",
    resource: RESOURCE,
    domain: "db.example.com",
    proxyIps: [address("100.96.0.9")],
  });
});

test("malformed bodies are unknown events, not errors", () => {
  for (const body of [
    "",
    "{",
    "[]",
    "null",
    '"x"',
    `{"resource":"${RESOURCE}","domain":"a.b"}`,
    `{"resource":"${RESOURCE}","domain":"a.b","proxy_ips":["10.0.0.256"]}`,
    `{"resource":"${RESOURCE}","domain":"a.b","proxy_ips":[7]}`,
    `{"resource":7,"domain":"a.b","proxy_ips":[]}`,
  ]) {
    assert.deepEqual(decodeControlFrame(frame(0, body)), { kind: "unknown", event: 0 }, body);
  }
  const badUtf8 = ip(UNSPECIFIED, 255, [1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe]);
  assert.deepEqual(decodeControlFrame(badUtf8), { kind: "unknown", event: 1 });
});

test("only next header 255 between two unspecified addresses with eight bytes is a control frame", () => {
  assert.equal(decodeControlFrame(ip(UNSPECIFIED, 255, [2, 0, 0, 0, 0, 0, 0])), undefined);
  assert.equal(
    decodeControlFrame(ip({ ...UNSPECIFIED, to: address("::1") }, 255, Array(8).fill(2))),
    undefined,
  );
  assert.equal(decodeControlFrame(ip(UNSPECIFIED, 254, Array(8).fill(2))), undefined);
  assert.equal(decodeControlFrame(udp(UNSPECIFIED, 1, 2)), undefined);
});

function frame(event: number, body: string): Uint8Array {
  return ip(UNSPECIFIED, 255, [event, 1, 2, 3, 4, 5, 6, 7, ...new TextEncoder().encode(body)]);
}
