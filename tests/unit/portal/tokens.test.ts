import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import {
  readTokenFile,
  TokenFileError,
  tokenFilePath,
  updateTokenFile,
} from "../../../host/daemon/token-file.ts";
import { createToken, findToken, parseToken, type TokenRecord } from "../../../host/portal/server/tokens.ts";
import { START_UNIX, seededRandom } from "./portal-bench.ts";

const random = seededRandom(5);

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-tokens-"));
after(() => fs.rmSync(directory, { recursive: true, force: true }));
let files = 0;

function temporaryFile(): string {
  const own = path.join(directory, String(files++));
  fs.mkdirSync(own);
  return path.join(own, "tokens.json");
}

test("a token's text begins with a dot, names its kind, and is found by its id and secret", () => {
  const { record, text } = createToken(
    { kind: "gateway", site: "Rack 4", expiresAt: undefined },
    "a",
    START_UNIX,
    random,
  );
  assert.match(text, /^\.cv1\.gateway\.[\w-]{22}\.[\w-]{43}$/);
  const table = new Map([[record.id, record]]);
  assert.equal(findToken(table, parseToken(text), "gateway", START_UNIX), record);
  assert.equal(findToken(table, parseToken(text), "client", START_UNIX), undefined);
  assert.equal(findToken(new Map(), parseToken(text), "gateway", START_UNIX), undefined);
});

test("a nonce in front belongs to the secret", () => {
  const { record, text } = createToken(
    { kind: "relay", expiresAt: undefined },
    undefined,
    START_UNIX,
    random,
  );
  const table = new Map([[record.id, record]]);
  assert.equal(parseToken(`nonce${text}`)?.nonce, "nonce");
  assert.equal(findToken(table, parseToken(`nonce${text}`), "relay", START_UNIX), undefined);
});

test("refuses every other text", () => {
  const { text } = createToken({ kind: "relay", expiresAt: undefined }, undefined, START_UNIX, random);
  for (const bad of [
    "",
    ".",
    text.slice(0, -1),
    `${text}A`,
    text.replace("cv1", "cv2"),
    text.replace("relay", "admin"),
    "x".repeat(1000),
  ]) {
    assert.equal(parseToken(bad), undefined, bad);
  }
});

test("expires at its second", () => {
  const owner = { kind: "client", actor: "Mira", expiresAt: START_UNIX + 10 } as const;
  const { record, text } = createToken(owner, undefined, START_UNIX, random);
  const table = new Map([[record.id, record]]);
  assert.equal(findToken(table, parseToken(text), "client", START_UNIX + 9), record);
  assert.equal(findToken(table, parseToken(text), "client", START_UNIX + 10), undefined);
});

test("the file keeps hashes only, is readable by its owner only, and keeps its seed", () => {
  const file = temporaryFile();
  const { seed, tokens } = readTokenFile(file);
  assert.deepEqual([seed.length, tokens.size], [32, 0]);

  const created = [
    createToken({ kind: "client", actor: "Mira", expiresAt: START_UNIX + 5 }, "laptop", START_UNIX, random),
    createToken({ kind: "gateway", site: "Rack 4", expiresAt: undefined }, undefined, START_UNIX, random),
    createToken({ kind: "relay", expiresAt: START_UNIX + 6 }, undefined, START_UNIX, random),
  ];
  for (const { record } of created) updateTokenFile(file, (known) => known.set(record.id, record));

  const again = readTokenFile(file);
  assert.deepEqual(again.seed, seed);
  assert.deepEqual([...again.tokens.values()], created.map(({ record }) => record) satisfies TokenRecord[]);
  assert.equal(fs.statSync(file).mode & 0o777, 0o600);
  const content = fs.readFileSync(file, "utf8");
  for (const { text } of created) assert.equal(content.includes(text.split(".").at(-1) ?? ""), false);
  assert.deepEqual(fs.readdirSync(path.dirname(file)), ["tokens.json"]);
});

test("refuses a file that others can read, and one that is something else", () => {
  const file = temporaryFile();
  readTokenFile(file);
  fs.chmodSync(file, 0o644);
  assert.throws(
    () => readTokenFile(file),
    (error) => error instanceof TokenFileError && /chmod 600/.test(error.message),
  );
  fs.chmodSync(file, 0o600);
  fs.writeFileSync(file, "{}");
  assert.throws(() => readTokenFile(file), TokenFileError);
  assert.throws(() => readTokenFile(path.join(file, "below")), TokenFileError);
});

test("a failing change leaves the file as it was, and unlocked", () => {
  const file = temporaryFile();
  readTokenFile(file);
  const before = fs.readFileSync(file, "utf8");
  assert.throws(
    () =>
      updateTokenFile(file, () => {
        throw new TokenFileError("no");
      }),
    TokenFileError,
  );
  assert.equal(fs.readFileSync(file, "utf8"), before);
  assert.equal(fs.existsSync(`${file}.lock`), false);
});

test("a lock left by a process that died is taken over", () => {
  const file = temporaryFile();
  readTokenFile(file);
  fs.writeFileSync(`${file}.lock`, "");
  const old = new Date(Date.now() - 60_000);
  fs.utimesSync(`${file}.lock`, old, old);
  updateTokenFile(file, (tokens) => tokens.clear());
  assert.equal(fs.existsSync(`${file}.lock`), false);
});

test("the file's path counts from the configuration", () => {
  assert.equal(tokenFilePath("/etc/culvert/portal.yaml", "tokens.json"), "/etc/culvert/tokens.json");
  assert.equal(tokenFilePath("/etc/culvert/portal.yaml", "/var/t.json"), "/var/t.json");
});
