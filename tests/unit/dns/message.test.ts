import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import {
  agedResponse,
  decodeAnswer,
  decodeQuery,
  emptyResponse,
  fitUdp,
  RCODE_NOERROR,
  RCODE_NXDOMAIN,
  stubResponse,
} from "../../../host/core/dns/message.ts";
import { decodeResponse, query, queryBytes, upstreamAnswer } from "./queries.ts";

test("a made-up answer has TTL 1, the queried spelling, RD copied, and no other flag (tunnel-core 11.5)", () => {
  const response = stubResponse(query("DB.Example.com", "A", 77), [{ type: "A", address: ip("100.96.0.1") }]);
  const decoded = decodeResponse(response);

  assert.equal(decoded.id, 77);
  assert.equal(decoded.name, "DB.Example.com");
  assert.equal(decoded.flags, 0x8100);
  assert.deepEqual(decoded.data, ["100.96.0.1"]);
  assert.deepEqual(decoded.ttls, [1]);
  assert.deepEqual(decoded.counts, [1, 1, 0, 0]);
});

test("an answer to a query with EDNS has no EDNS record, and CD and AD are not copied (tunnel-core 11.5)", () => {
  const plain = queryBytes("example.com", "AAAA", 5, 0x0130);
  const opt = Uint8Array.from([0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0]);
  const bytes = new Uint8Array(plain.length + opt.length);
  bytes.set(plain);
  bytes.set(opt, plain.length);
  bytes[11] = 1;

  const decoded = decodeQuery(bytes);
  assert.ok(decoded !== undefined);
  const address = ip("fd00:2021:1111:8000::");
  const response = decodeResponse(stubResponse(decoded, [{ type: "AAAA", address }]));
  assert.deepEqual(response.counts, [1, 1, 0, 0]);
  assert.equal(response.flags, 0x8100);
  assert.deepEqual(response.data, ["fd00:2021:1111:8000::"]);
});

test("opcode is copied into responses (tunnel-core 11.5)", () => {
  const decoded = decodeQuery(queryBytes("example.com", "A", 5, 0x2000));
  assert.ok(decoded !== undefined);
  assert.equal(decodeResponse(emptyResponse(decoded, RCODE_NXDOMAIN)).flags, 0xa003);
});

test("responses, several questions, none, and truncated messages are no queries (tunnel-core 11.3)", () => {
  const good = queryBytes("example.com", "A");
  const response = good.slice();
  response[2] = 0x81;
  const two = good.slice();
  two[5] = 2;
  const none = good.slice(0, 12);
  none[5] = 0;
  const missingAnswer = good.slice();
  missingAnswer[7] = 1;
  const pointer = Uint8Array.from([...good.slice(0, 12), 0xc0, 12, 0, 1, 0, 1]);

  for (const bytes of [response, two, none, missingAnswer, pointer, new Uint8Array(0)]) {
    assert.equal(decodeQuery(bytes), undefined);
  }
  for (let length = 0; length < good.length; length++)
    assert.equal(decodeQuery(good.slice(0, length)), undefined);
});

test("a dot inside a label is not mistaken for two labels", () => {
  const good = queryBytes("xxx.example.com", "A");
  good.set(
    [..."a.b"].map((character) => character.charCodeAt(0)),
    13,
  );
  const decoded = decodeQuery(good);
  assert.ok(decoded !== undefined);
  assert.equal(decoded.name, undefined);
  assert.deepEqual(emptyResponse(decoded, RCODE_NOERROR).slice(12), good.slice(12));
});

test("random bytes never make the codec throw", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  };
  const asked = query("example.com", "A");
  for (let i = 0; i < 2000; i++) {
    const bytes = Uint8Array.from(queryBytes("example.com", "A"));
    for (let flips = 0; flips < 4; flips++) bytes[next() % bytes.length] = next();
    assert.doesNotThrow(() => decodeQuery(bytes), `SEED=${seed}`);
    const answer = upstreamAnswer(asked.bytes, { addresses: ["192.0.2.1", "192.0.2.2"], ttl: 60 });
    for (let flips = 0; flips < 6; flips++) answer[next() % answer.length] = next();
    assert.doesNotThrow(() => decodeAnswer(answer, asked), `SEED=${seed}`);
  }
});

test("an answer of 1000 records is cut to header and question with TC over UDP (tunnel-core 24.21)", () => {
  const asked = query("example.com", "A");
  const addresses = Array.from({ length: 1000 }, (_, i) => `192.0.${i >> 8}.${i & 255}`);
  const large = upstreamAnswer(asked.bytes, { addresses, ttl: 60 });

  const fitted = fitUdp(large);
  const decoded = decodeResponse(fitted);
  assert.equal(fitted.length, asked.questionEnd);
  assert.deepEqual(decoded.counts, [1, 0, 0, 0]);
  assert.equal(decoded.flags & 0x0200, 0x0200);
  assert.equal(decoded.name, "example.com");
});

test("an answer of 1212 bytes goes out whole, one of 1213 does not (tunnel-core 11.9)", () => {
  const bytes = new Uint8Array(1212);
  assert.equal(fitUdp(bytes), bytes);
  assert.ok(fitUdp(new Uint8Array(1213)).length < 1213);
});

test("an answer to another question is refused", () => {
  const asked = query("example.com", "A", 9);
  const other = upstreamAnswer(queryBytes("example.org", "A", 9), { addresses: ["192.0.2.1"], ttl: 60 });
  const otherType = upstreamAnswer(queryBytes("example.com", "AAAA", 9), { addresses: [], ttl: 60 });

  assert.equal(decodeAnswer(other, asked), undefined);
  assert.equal(decodeAnswer(otherType, asked), undefined);
  assert.equal(decodeAnswer(asked.bytes, asked), undefined);
});

test("an aged response keeps the answer section alone, under the new query's id and spelling", () => {
  const asked = query("example.com", "A", 1);
  const answer = decodeAnswer(upstreamAnswer(asked.bytes, { addresses: ["192.0.2.1"], ttl: 70_000 }), asked);
  assert.ok(answer !== undefined);

  const decoded = decodeResponse(agedResponse(answer, query("eXample.com", "A", 2), 1000));
  assert.equal(decoded.id, 2);
  assert.equal(decoded.name, "eXample.com");
  assert.deepEqual(decoded.ttls, [69_000]);
  assert.deepEqual(decoded.data, ["192.0.2.1"]);
  assert.equal(decoded.flags, 0x8100);
});
