/** Exports of the packet core, as assembly/index.ts lists them. Booleans come back as 0 or 1. */
export interface CoreExports {
  readonly ABI_VERSION: { readonly value: number };

  encapsulate(now: number): number;
  decapsulate(now: number): number;
  encapsulatePacket(packet: number, length: number, now: number): number;
  deliverPacket(peer: number, packet: number, length: number, ecn: number, now: number): number;
  reinject(index: number, now: number): number;
  sealPacket(peer: number, length: number, now: number): number;
  writeTun(length: number): number;

  peerAdd(): number;
  peerRemove(peer: number): void;
  peerSetPath(peer: number, path: number, channel: number): void;
  keypairAdd(peer: number, localIndex: number, remoteIndex: number, flags: number, keys: number): void;
  keypairRemove(peer: number, localIndex: number): void;
  keypairSelect(peer: number, localIndex: number): number;
  keypairDeselect(peer: number): void;
  keypairFind(peer: number, localIndex: number): number;

  hashSeed(a: number, b: number, c: number, d: number): void;
  flowAdd(template: number): number;
  flowsRemovePeer(peer: number): void;
  flowsRemoveAll(): void;
  filterPermits(set: number, kind: number, port: number): number;

  natOutgoing(
    owner: number,
    kind: number,
    value: number,
    proxy: number,
    real: number,
    version: number,
    now: number,
  ): number;
  natIncoming(owner: number, kind: number, value: number, real: number, version: number, now: number): number;
  natNote(entry: number, outgoing: number, tcpFlags: number, now: number): void;
  natEntry(entry: number): number;
  natReset(owner: number): void;
  natTick(now: number): number;
  natCount(): number;
}
