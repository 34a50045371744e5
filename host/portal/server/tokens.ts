import { sha256 } from "@noble/hashes/sha2.js";
import type { Random } from "../../core/random.ts";
import type { UnixTime } from "../../core/time.ts";
import { fromBase64Url, toBase64Url } from "../base64.ts";
import type { PortalRole } from "../wire.ts";
import { concat, formatUuid, isEqualSecret, utf8 } from "./derivations.ts";

/** A token as the portal knows it: who it stands for, and a hash of its secret. */
export type TokenRecord = {
  /** UUID. */
  readonly id: string;
  /** SHA-256 over nonce, a zero byte and the secret. */
  readonly secretHash: Uint8Array;
  readonly label: string | undefined;
  readonly createdAt: UnixTime;
} & (
  | { readonly kind: "client"; readonly actor: string; readonly expiresAt: UnixTime }
  | { readonly kind: "gateway"; readonly site: string; readonly expiresAt: UnixTime | undefined }
  | { readonly kind: "relay"; readonly expiresAt: UnixTime | undefined }
);

/** Owners are names of the configuration: ids follow from names, and people can read the file. */
export type TokenOwner =
  | { readonly kind: "client"; readonly actor: string; readonly expiresAt: UnixTime }
  | { readonly kind: "gateway"; readonly site: string; readonly expiresAt: UnixTime | undefined }
  | { readonly kind: "relay"; readonly expiresAt: UnixTime | undefined };

export type TokenTable = ReadonlyMap<string, TokenRecord>;

const VERSION = "cv1";
const ID_BYTES = 16;
const SECRET_BYTES = 32;
/** Longest token text looked at; longer ones cannot be ours. */
const MAX_TEXT_LENGTH = 512;

export interface ParsedToken {
  readonly nonce: string;
  readonly kind: PortalRole;
  readonly id: string;
  readonly secret: Uint8Array;
}

/** `{nonce}.cv1.{kind}.{id}.{secret}` (portal §20); undefined if the text is anything else. */
export function parseToken(text: string): ParsedToken | undefined {
  if (text.length > MAX_TEXT_LENGTH) return undefined;
  const [nonce, version, kind, idText, secretText, ...rest] = text.split(".");
  if (nonce === undefined || version !== VERSION || rest.length > 0) return undefined;
  if (kind !== "client" && kind !== "gateway" && kind !== "relay") return undefined;

  const id = fromBase64Url(idText ?? "");
  const secret = fromBase64Url(secretText ?? "");
  if (id?.length !== ID_BYTES || secret?.length !== SECRET_BYTES) return undefined;
  return { nonce, kind, id: formatUuid(id, 4), secret };
}

/** A new token: its record, and the text that is shown once and kept nowhere. */
export function createToken(
  owner: TokenOwner,
  label: string | undefined,
  createdAt: UnixTime,
  random: Random,
): { readonly record: TokenRecord; readonly text: string } {
  const id = formatUuid(random.bytes(ID_BYTES), 4);
  const idBytes = Uint8Array.from(id.replaceAll("-", "").match(/../g) ?? [], (hex) =>
    Number.parseInt(hex, 16),
  );
  const secret = random.bytes(SECRET_BYTES);
  const record: TokenRecord = { id, secretHash: hashSecret("", secret), label, createdAt, ...owner };
  return { record, text: `.${VERSION}.${owner.kind}.${toBase64Url(idBytes)}.${toBase64Url(secret)}` };
}

/**
 * The record behind a token text for this role; undefined if the token is unknown, forged, of another
 * kind or expired. An unknown id costs the same comparison as a wrong secret.
 */
export function findToken(
  table: TokenTable,
  token: ParsedToken | undefined,
  role: PortalRole,
  unixTime: UnixTime,
): TokenRecord | undefined {
  const record = token === undefined ? undefined : table.get(token.id);
  const hash = hashSecret(token?.nonce ?? "", token?.secret ?? NO_SECRET);
  const isGenuine = isEqualSecret(hash, record?.secretHash ?? NO_SECRET);
  if (record === undefined || token === undefined || !isGenuine) return undefined;
  if (record.kind !== role || token.kind !== role) return undefined;
  return isExpired(record, unixTime) ? undefined : record;
}

export function isExpired(record: TokenRecord, unixTime: UnixTime): boolean {
  return record.expiresAt !== undefined && record.expiresAt <= unixTime;
}

const NO_SECRET = new Uint8Array(SECRET_BYTES);

function hashSecret(nonce: string, secret: Uint8Array): Uint8Array {
  return sha256(concat(utf8(nonce), Uint8Array.of(0), secret));
}
