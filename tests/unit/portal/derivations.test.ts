import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { toBase64 } from "../../../host/portal/base64.ts";
import {
  iceCredentials,
  isEqualSecret,
  namedId,
  presharedKey,
  relayId,
  turnCredentials,
} from "../../../host/portal/server/derivations.ts";
import { ingestToken, signJwt } from "../../../host/portal/server/ingest-token.ts";
import { keyText } from "./portal-bench.ts";

const CLIENT = { id: "3f0d1c52-7a51-4c7e-9a54-0d5b2a6f9e01", publicKey: keyText(0x11) };
const GATEWAY = { id: "8b2f6a90-1d3e-4c58-b7a1-6e9f0c4d2b02", publicKey: keyText(0x22) };
const STAMP_SECRET = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

test("derives the pre-shared key of a client and a gateway (portal 25.18)", () => {
  const psk = presharedKey(
    { ...CLIENT, pskBase: new Uint8Array(32).fill(0xaa) },
    { ...GATEWAY, pskBase: new Uint8Array(32).fill(0xbb) },
  );
  assert.equal(toBase64(psk), "+iD3/orECtQqjaQnVfC04nRsXkhtEzbegAWVY6mOGq8=");
});

test("derives the second vector of pre-shared key and ICE credentials (connectivity 16.1)", () => {
  const counting = (first: number) => toBase64(Uint8Array.from({ length: 32 }, (_, i) => first + i));
  const client = { id: "11111111-1111-4111-8111-111111111111", publicKey: counting(0) };
  const gateway = { id: "22222222-2222-4222-8222-222222222222", publicKey: counting(32) };

  const psk = presharedKey(
    { ...client, pskBase: new Uint8Array(32).fill(1) },
    { ...gateway, pskBase: new Uint8Array(32).fill(2) },
  );
  assert.equal(toBase64(psk), "nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4=");
  assert.deepEqual(iceCredentials(client, gateway), {
    initiator: { username: "w7up", password: "ksqwm66pilnb7skdwwfw3r" },
    receiver: { username: "kwe6", password: "mzkrj52x5h5ebrfdsh5iyq" },
  });
  const turn = turnCredentials(
    client.publicKey,
    1893456000,
    "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab",
  );
  assert.deepEqual(turn, {
    username: "1893456000:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY",
    password: "i7D7ZhnLUhNqAeNjMvHRoNPQK7dpVBssXokgr2ljF9k",
  });
});

test("derives ICE credentials of both sides (portal 25.18)", () => {
  assert.deepEqual(iceCredentials(CLIENT, GATEWAY), {
    initiator: { username: "xrwp", password: "w73oxttmjobv7kwabj7yfj" },
    receiver: { username: "hzu4", password: "6szjacva52ju6cxopvde6a" },
  });
});

test("derives TURN credentials for clients and gateways (portal 25.18)", () => {
  assert.deepEqual(turnCredentials(CLIENT.publicKey, 1790604800, STAMP_SECRET), {
    username: "1790604800:ere2wNxV6z0pAq/TdtkWogiV0dkSP6SnoZV07AUQzxo",
    password: "QcIyzEvjGRqrIfyYWHJkara4Au/Bbph1tT3sdbwO36Q",
  });
  assert.deepEqual(turnCredentials(GATEWAY.publicKey, 2145916800, STAMP_SECRET), {
    username: "2145916800:dTxoN7DBXNEh7It2LHwpbCpYKCNIbc3XX/nUXhLm44Y",
    password: "5DdnLDTOGOcE9kDmAID99Ra398dHGaNJb01Jn74y4wk",
  });
});

test("derives the relay's id from its secret (portal 25.18)", () => {
  assert.equal(relayId(STAMP_SECRET), "2a8abfa8-cb99-4629-8437-854193ca6bca");
});

test("signs an ingest token as the vector says", () => {
  const token = signJwt(
    {
      account_id: "0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04",
      iat: 1790000000,
      exp: 1793196800,
      uploads_enabled: false,
      role: "initiator",
      initiator_device_id: CLIENT.id,
      responder_device_id: GATEWAY.id,
      policy_authorization_id: "c1d2e3f4-0a1b-4c2d-8e3f-405162738405",
      policy_id: "d4e5f607-1829-4a3b-8c4d-5e6f70819206",
      resource_id: "a9b8c7d6-e5f4-4a3b-9281-706f5e4d3c07",
      resource_name: "Wiki",
      initiator_actor_id: "e0f1a2b3-c4d5-4e6f-8a7b-9c0d1e2f3a08",
      initiator_actor_name: "Mira",
      authorized_at: "2026-09-21T14:13:20.000000Z",
      authorization_expires_at: "2026-09-28T14:13:20.000000Z",
    },
    new Uint8Array(32).fill(0x44),
  );
  assert.equal(token.split(".")[2], "dDewavNQXdH4pW7f2h5qpjltahCKL2d2iRL35PBETNA");
});

test("mints ingest tokens with the claims of the vector, in its order and with its values", () => {
  const token = ingestToken(
    {
      accountId: "0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04",
      issuedAt: 1790000000,
      role: "initiator",
      initiatorDeviceId: CLIENT.id,
      responderDeviceId: GATEWAY.id,
      authorizationId: "c1d2e3f4-0a1b-4c2d-8e3f-405162738405",
      policyId: "d4e5f607-1829-4a3b-8c4d-5e6f70819206",
      resourceId: "a9b8c7d6-e5f4-4a3b-9281-706f5e4d3c07",
      resourceName: "Wiki",
      resourceAddress: undefined,
      actorId: "e0f1a2b3-c4d5-4e6f-8a7b-9c0d1e2f3a08",
      actorName: "Mira",
      actorEmail: undefined,
      clientVersion: undefined,
      authorizedAt: 1790000000,
      expiresAt: 1790604800,
    },
    new Uint8Array(32).fill(0x44),
  );
  assert.equal(token.split(".")[2], "dDewavNQXdH4pW7f2h5qpjltahCKL2d2iRL35PBETNA");
});

test("names objects by UUIDv5", () => {
  // RFC 9562 §5.5, by an independent implementation of it.
  const account = "0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04";
  const digest = createHash("sha1")
    .update(Buffer.from(account.replaceAll("-", ""), "hex"))
    .update("site/Rack 4")
    .digest();
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x50;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  assert.equal(namedId(account, "site", "Rack 4").replaceAll("-", ""), digest.toString("hex").slice(0, 32));
});

test("compares secrets of any length", () => {
  assert.equal(isEqualSecret(Uint8Array.of(1, 2), Uint8Array.of(1, 2)), true);
  assert.equal(isEqualSecret(Uint8Array.of(1, 2), Uint8Array.of(1, 3)), false);
  assert.equal(isEqualSecret(Uint8Array.of(1), Uint8Array.of(1, 2)), false);
});
