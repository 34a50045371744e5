// Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (connectivity §10.2).
// Pure functions over explicit state; the letters of the specification: e and s are ephemeral and static
// keys, i and r initiator and responder.
import type { DropReason } from "../drop.ts";
import { hash, kdf1, kdf2, kdf3, type NoiseCrypto, open, type StaticIdentity, seal, wipe } from "./crypto.ts";
import {
  encodeInitiation,
  encodeResponse,
  type Initiation,
  type InitiationFields,
  type Response,
  type ResponseFields,
} from "./messages.ts";

const text = (ascii: string): Uint8Array => Uint8Array.from(ascii, (letter) => letter.charCodeAt(0));

const NOTHING = new Uint8Array(0);
const INITIAL_CHAINING_KEY = hash(text("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
const INITIAL_HASH = hash(INITIAL_CHAINING_KEY, text("WireGuard v1 zx2c4 Jason@zx2c4.com"));

/** What both sides know after the initiation. */
interface Transcript {
  readonly chainingKey: Uint8Array;
  readonly hash: Uint8Array;
}

/** What an initiator keeps until the response arrives. */
export interface SentInitiation extends Transcript {
  readonly localIndex: number;
  readonly ephemeralPrivate: Uint8Array;
}

/** What a responder knows once the static key of an initiation is decrypted. */
export interface OpenedInitiation extends Transcript {
  readonly remoteIndex: number;
  readonly remoteStatic: Uint8Array;
  readonly remoteEphemeral: Uint8Array;
  readonly sealedTimestamp: Uint8Array;
}

/** What a responder needs to answer. */
export interface ConsumedInitiation extends Transcript {
  readonly remoteIndex: number;
  readonly remoteStatic: Uint8Array;
  readonly remoteEphemeral: Uint8Array;
  readonly timestamp: Uint8Array;
}

export interface TransportKeys {
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
}

/** The two ends of a connection as one of them knows them. */
export interface Ends {
  readonly identity: StaticIdentity;
  readonly remotePublicKey: Uint8Array;
  readonly presharedKey: Uint8Array;
  /** DH(our static key, the remote's): the same for every handshake. */
  readonly staticShared: Uint8Array;
}

export interface InitiationInput {
  readonly localIndex: number;
  readonly ephemeralPrivate: Uint8Array;
  readonly timestamp: Uint8Array;
}

/** Undefined if the remote's static key has low order. MACs are left zero. */
export function createInitiation(
  ends: Ends,
  input: InitiationInput,
  crypto: NoiseCrypto,
): { readonly message: Uint8Array; readonly sent: SentInitiation } | undefined {
  const shared = crypto.dh(input.ephemeralPrivate, ends.remotePublicKey);
  if (shared === undefined) return undefined;

  const ephemeral = crypto.publicKey(input.ephemeralPrivate);
  const begun = begin(ends.remotePublicKey, ephemeral);

  const [staticChain, staticKey] = kdf2(begun.chainingKey, shared);
  const sealedStatic = seal(staticKey, ends.identity.publicKey, begun.hash);
  const staticHash = hash(begun.hash, sealedStatic);

  const [chainingKey, stampKey] = kdf2(staticChain, ends.staticShared);
  const sealedTimestamp = seal(stampKey, input.timestamp, staticHash);
  wipe(shared, staticKey, stampKey, staticChain, begun.chainingKey);

  const fields: InitiationFields = { sender: input.localIndex, ephemeral, sealedStatic, sealedTimestamp };
  return {
    message: encodeInitiation(fields),
    sent: {
      localIndex: input.localIndex,
      ephemeralPrivate: input.ephemeralPrivate,
      chainingKey,
      hash: hash(staticHash, sealedTimestamp),
    },
  };
}

/** Decrypts the initiator's static key: the first of the two steps, needed to find the connection. */
export function openInitiation(
  message: Initiation,
  identity: StaticIdentity,
  crypto: NoiseCrypto,
): OpenedInitiation | undefined {
  const shared = crypto.dh(identity.privateKey, message.ephemeral);
  if (shared === undefined) return undefined;

  const begun = begin(identity.publicKey, message.ephemeral);
  const [chainingKey, key] = kdf2(begun.chainingKey, shared);
  const remoteStatic = open(key, message.sealedStatic, begun.hash);
  wipe(shared, key, begun.chainingKey);
  if (remoteStatic === undefined) return undefined;

  return {
    remoteIndex: message.sender,
    remoteStatic,
    remoteEphemeral: message.ephemeral.slice(),
    sealedTimestamp: message.sealedTimestamp,
    chainingKey,
    hash: hash(begun.hash, message.sealedStatic),
  };
}

/**
 * Verifies that an opened initiation was made by the holder of the remote's static key.
 * The caller compares `remoteStatic` and the timestamp.
 */
export function consumeInitiation(
  opened: OpenedInitiation,
  staticShared: Uint8Array,
): ConsumedInitiation | DropReason {
  const [chainingKey, key] = kdf2(opened.chainingKey, staticShared);
  const timestamp = open(key, opened.sealedTimestamp, opened.hash);
  wipe(key, opened.chainingKey);
  if (timestamp === undefined) return "bad-handshake";

  return {
    remoteIndex: opened.remoteIndex,
    remoteStatic: opened.remoteStatic,
    remoteEphemeral: opened.remoteEphemeral,
    timestamp,
    chainingKey,
    hash: hash(opened.hash, opened.sealedTimestamp),
  };
}

export interface ResponseInput {
  readonly localIndex: number;
  readonly ephemeralPrivate: Uint8Array;
}

/** Undefined if a key of the initiator has low order. MACs are left zero. */
export function createResponse(
  consumed: ConsumedInitiation,
  presharedKey: Uint8Array,
  input: ResponseInput,
  crypto: NoiseCrypto,
): { readonly message: Uint8Array; readonly keys: TransportKeys } | undefined {
  const ephemeralShared = crypto.dh(input.ephemeralPrivate, consumed.remoteEphemeral);
  const staticShared = crypto.dh(input.ephemeralPrivate, consumed.remoteStatic);
  if (ephemeralShared === undefined || staticShared === undefined) return undefined;

  const ephemeral = crypto.publicKey(input.ephemeralPrivate);
  const mixed = mixResponse(consumed, ephemeral, presharedKey, [ephemeralShared, staticShared]);
  const sealedNothing = seal(mixed.key, NOTHING, mixed.hash);
  const [initiatorSends, responderSends] = kdf2(mixed.chainingKey, NOTHING);
  wipe(ephemeralShared, staticShared, mixed.key, mixed.chainingKey);

  const fields: ResponseFields = {
    sender: input.localIndex,
    receiver: consumed.remoteIndex,
    ephemeral,
    sealedNothing,
  };
  return {
    message: encodeResponse(fields),
    keys: { sendKey: responderSends, receiveKey: initiatorSends },
  };
}

export function consumeResponse(
  message: Response,
  sent: SentInitiation,
  ends: Ends,
  crypto: NoiseCrypto,
): TransportKeys | DropReason {
  const ephemeralShared = crypto.dh(sent.ephemeralPrivate, message.ephemeral);
  const staticShared = crypto.dh(ends.identity.privateKey, message.ephemeral);
  if (ephemeralShared === undefined || staticShared === undefined) return "bad-handshake";

  const mixed = mixResponse(sent, message.ephemeral, ends.presharedKey, [ephemeralShared, staticShared]);
  const verified = open(mixed.key, message.sealedNothing, mixed.hash) !== undefined;
  const [initiatorSends, responderSends] = kdf2(mixed.chainingKey, NOTHING);
  wipe(ephemeralShared, staticShared, mixed.key, mixed.chainingKey);
  if (!verified) {
    wipe(initiatorSends, responderSends);
    return "bad-handshake";
  }
  return { sendKey: initiatorSends, receiveKey: responderSends };
}

/** Both sides' first steps: the responder's static key, then the initiator's ephemeral key. */
function begin(responderStatic: Uint8Array, ephemeral: Uint8Array): Transcript {
  return {
    chainingKey: kdf1(INITIAL_CHAINING_KEY, ephemeral),
    hash: hash(hash(INITIAL_HASH, responderStatic), ephemeral),
  };
}

function mixResponse(
  transcript: Transcript,
  ephemeral: Uint8Array,
  presharedKey: Uint8Array,
  shared: readonly [ephemeral: Uint8Array, staticKey: Uint8Array],
): { chainingKey: Uint8Array; key: Uint8Array; hash: Uint8Array } {
  const first = kdf1(transcript.chainingKey, ephemeral);
  const second = kdf1(first, shared[0]);
  const third = kdf1(second, shared[1]);
  const [chainingKey, tau, key] = kdf3(third, presharedKey);
  const mixedHash = hash(hash(transcript.hash, ephemeral), tau);
  wipe(first, second, third, tau);
  return { chainingKey, key, hash: mixedHash };
}
